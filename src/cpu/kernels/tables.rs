//! What a thread keeps for [`Kernels::dot_tables`]: the sums, which the caller reads, and the room in which a set of kernels
//! makes them. All of it is made once.

use std::any::Any;

use super::Kernels;

/// Activation rows of a table: the 16-bit lanes of 32 bytes.
pub(crate) const TABLE_ROWS: usize = 16;
/// Most tables' activation rows that are worked on together: finding the places of a weight row costs about as much as
/// looking them up, and serves all of them.
pub(crate) const SETS: usize = 4;
/// Most weight rows that tables are built for once.
pub(crate) const SPAN: usize = 1024;

/// The sums of a span of weight rows with some activation rows.
pub(crate) type SpanSums = [[[i32; TABLE_ROWS]; SPAN]; SETS];

/// Sums and room of one thread.
pub(crate) struct Tables {
    pub(crate) sums: Box<SpanSums>,
    room: Box<dyn Any + Send>, // what `Kernels::room` gave
}

impl Tables {
    /// For these kernels, and no others.
    pub(crate) fn new(kernels: &dyn Kernels) -> Self {
        Self { sums: boxed([[0; TABLE_ROWS]; SPAN]), room: kernels.room() }
    }

    /// The sums, and the room in the form in which the kernels made it.
    pub(super) fn split<Room: 'static>(&mut self) -> (&mut SpanSums, &mut Room) {
        (&mut self.sums, self.room.downcast_mut().expect("these tables were made for other kernels"))
    }
}

/// An array that never lies on the stack.
pub(super) fn boxed<T: Copy, const LEN: usize>(value: T) -> Box<[T; LEN]> {
    match vec![value; LEN].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the slice has {LEN} elements"),
    }
}
