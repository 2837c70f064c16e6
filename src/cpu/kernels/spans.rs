//! Products of many activation rows: what [`Kernels::span_codes`] and [`Kernels::span_blocks`] give, and what a thread keeps for
//! them. All of it is made once.

use std::any::Any;

use super::Kernels;

/// Activation rows that a table or a register of tiles takes: what is less, or nearly one, is filled with zeros.
pub(crate) const SET: usize = 16;
/// Most weight rows of a span: long enough to be worth building tables.
pub(crate) const SPAN: usize = 1024;
/// Weight rows whose sums with an activation row lie side by side.
pub(crate) const PANEL: usize = 32;

/// How large a set's spans are.
#[derive(Clone, Copy)]
pub(crate) struct SpanLimits {
    /// The most activation rows, whole sets: finding the places of a weight row, or unpacking it, serves all of them.
    pub(crate) rows: usize,
    /// Weight rows that a span is not cut shorter than to give every thread work.
    pub(crate) shortest: usize,
}

/// The sums of a panel of weight rows with some activation rows, `[row][output]`.
pub(crate) type PanelSums<T> = [[T; PANEL]];

/// Who takes the sums of each panel of a span when they are whole: `(first weight row of the panel, sums)`.
pub(crate) type TakeSums<'a, T> = &'a mut dyn FnMut(usize, &PanelSums<T>);

/// What a thread keeps, in a form of the kernels' own.
pub(crate) struct SpanRoom(Box<dyn Any + Send>);

impl SpanRoom {
    /// For these kernels, and no others.
    pub(crate) fn new(kernels: &dyn Kernels) -> Self {
        Self(kernels.room())
    }

    /// The room in the form in which the kernels made it.
    pub(super) fn get<Room: 'static>(&mut self) -> &mut Room {
        self.0.downcast_mut().expect("this room was made for other kernels")
    }
}

/// An array that never lies on the stack.
pub(super) fn boxed<T: Copy, const LEN: usize>(value: T) -> Box<[T; LEN]> {
    match vec![value; LEN].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the slice has {LEN} elements"),
    }
}
