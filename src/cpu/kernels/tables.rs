//! What a thread keeps for [`crate::cpu::kernels::Kernels::dot_tables`]: room that is made once, half a megabyte, most of
//! which stays in the second cache while a span of weight rows is worked on.

/// Activation rows of a table: the 16-bit lanes of 32 bytes.
pub(crate) const TABLE_ROWS: usize = 16;
/// Most tables' activation rows that are worked on together: finding the places of a weight row costs about as much as
/// looking them up, and serves all of them.
pub(crate) const SETS: usize = 4;
/// Most weight rows that tables are built for once.
pub(crate) const SPAN: usize = 1024;
/// Tables in use at a time. 81 entries of 32 bytes each: together 20 KiB, which fits the nearest cache of every CPU.
pub(crate) const TABLES: usize = 8;
/// What one lookup needs at most, for a byte that is not checked to be below 81.
const ENTRIES: usize = 256;

/// A value of 16 bits for each activation row.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct Lanes(pub(crate) [i16; TABLE_ROWS]);

/// Room for the intermediate values of one thread.
pub(crate) struct Tables {
    /// The columns of a block: `[128]`.
    pub(crate) x: Box<[Lanes; 128]>,
    /// The sums that a packed byte may stand for, side by side for consecutive bytes. Those beyond 81 are never touched.
    pub(crate) entries: Box<[[Lanes; TABLES]; ENTRIES]>,
    /// The packed bytes of a block as places in the tables: `[32 / TABLES, SPAN]`.
    pub(crate) places: Box<[[[u8; TABLES]; SPAN]; 32 / TABLES]>,
    /// Sums of few columns: `[SETS, SPAN]`.
    pub(crate) near: Box<[[Lanes; SPAN]; SETS]>,
    /// The sums: `[SETS, SPAN]`.
    pub(crate) sums: Box<[[[i32; TABLE_ROWS]; SPAN]; SETS]>,
    /// What AMX has instead of tables.
    #[cfg(target_arch = "x86_64")]
    pub(crate) room: super::amx::Room,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let zero = Lanes([0; TABLE_ROWS]);
        Self {
            x: boxed(zero),
            entries: boxed([zero; TABLES]),
            places: boxed([[0; TABLES]; SPAN]),
            near: boxed([zero; SPAN]),
            sums: boxed([[0; TABLE_ROWS]; SPAN]),
            #[cfg(target_arch = "x86_64")]
            room: Default::default(),
        }
    }
}

/// An array that never lies on the stack.
fn boxed<T: Copy, const LEN: usize>(value: T) -> Box<[T; LEN]> {
    match vec![value; LEN].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the slice has {LEN} elements"),
    }
}
