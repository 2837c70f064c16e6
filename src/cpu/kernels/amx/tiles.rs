//! AMX's instructions: each call is a whole loop in inline assembly.

use std::arch::asm;
use std::marker::PhantomData;

use crate::cpu::kernels::panel::{Bytes, HALVES, LANES};
use crate::cpu::kernels::spans::SET;

/// Sums of sixteen weight rows with sixteen activation rows, `[weight row][activation row]`.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct TileSums(pub(super) [[i32; SET]; LANES]);

pub(super) const NO_SUMS: TileSums = TileSums([[0; SET]; LANES]);

/// The loop over tiles of columns for one set of activation rows, between what begins the two tiles of sums and what stores them; with
/// what a second set adds to each.
macro_rules! over_tiles {
    (
        $codes:ident, $steps:expr, $x:expr, $sums:expr; $($begin:literal),*;
        $($multiply:literal),*; $($advance:literal),*; $($store:literal),*; $($operands:tt)*
    ) => {
        asm!(
            $($begin,)*
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{x} + {stride}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{b} + {stride}]",
            "tdpbusd tmm1, tmm5, tmm6",
            $($multiply,)*
            "add {a}, 1024",
            "add {b}, 1024",
            "add {x}, 1024",
            $($advance,)*
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {stride}], tmm0",
            "tilestored [{sums} + {stride} + 1024], tmm1",
            $($store,)*
            a = inout(reg) $codes[0].as_ptr() => _,
            b = inout(reg) $codes[1].as_ptr() => _,
            x = inout(reg) $x.as_ptr() => _,
            steps = inout(reg) $steps => _,
            sums = in(reg) $sums.as_mut_ptr(),
            stride = in(reg) 64usize,
            $($operands)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// The same for two sets, which share the codes.
macro_rules! over_tiles_of_two {
    ($codes:ident, $x:ident, $one:expr, $other:expr; $($begin:literal),*) => {
        over_tiles!(
            $codes, steps($codes, $x), $x[0], $one; $($begin),*;
            "tileloadd tmm7, [{y} + {stride}]", "tdpbusd tmm2, tmm4, tmm7", "tdpbusd tmm3, tmm5, tmm7";
            "add {y}, 1024";
            "tilestored [{other} + {stride}], tmm2", "tilestored [{other} + {stride} + 1024], tmm3";
            y = inout(reg) $x[1].as_ptr() => _,
            other = in(reg) $other.as_mut_ptr(),
        )
    };
}

/// This thread's tile registers, as long as they are in use; no other thread may have it.
pub(super) struct TileUnit(PhantomData<*const ()>);

impl TileUnit {
    /// Makes each of this thread's eight tiles 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The CPU has AMX with int8, and this process may use it.
    pub(super) unsafe fn configured() -> Self {
        /// Intel's manual, volume 1, 18.3: palette 1, then bytes of a row and rows of each tile.
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(LANES as u8);
        // SAFETY: the caller shows AMX; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Adds the products of both halves of a panel and a set of activation rows, over all their tiles, to the sums.
    #[inline(always)]
    pub(super) fn add(&self, codes: [&[Bytes]; HALVES], x: &[Bytes], sums: &mut [TileSums; HALVES]) {
        // SAFETY: `self` exists, so this thread's tiles are configured. The loop reads as many tiles, of 1024 bytes, as `steps` says
        // that all have; and reads and writes both tiles of sums.
        unsafe {
            over_tiles!(
                codes, steps(codes, [x]), x, sums;
                "tileloadd tmm0, [{sums} + {stride}]",
                "tileloadd tmm1, [{sums} + {stride} + 1024]";;;;
            );
        }
    }

    /// The same for two sets.
    #[inline(always)]
    pub(super) fn add_two(
        &self,
        codes: [&[Bytes]; HALVES],
        x: [&[Bytes]; 2],
        [one, other]: [&mut [TileSums; HALVES]; 2],
    ) {
        // SAFETY: as in `add`.
        unsafe {
            over_tiles_of_two!(
                codes, x, one, other;
                "tileloadd tmm0, [{sums} + {stride}]",
                "tileloadd tmm1, [{sums} + {stride} + 1024]",
                "tileloadd tmm2, [{other} + {stride}]",
                "tileloadd tmm3, [{other} + {stride} + 1024]"
            );
        }
    }

    /// The products alone.
    #[inline(always)]
    pub(super) fn multiply(&self, codes: [&[Bytes]; HALVES], x: &[Bytes], sums: &mut [TileSums; HALVES]) {
        // SAFETY: as in `add`; both tiles of sums are written.
        unsafe { over_tiles!(codes, steps(codes, [x]), x, sums; "tilezero tmm0", "tilezero tmm1";;;;) };
    }

    /// The products of two sets alone.
    #[inline(always)]
    pub(super) fn multiply_two(&self, codes: [&[Bytes]; HALVES], x: [&[Bytes]; 2], sums: &mut [[TileSums; HALVES]; 2]) {
        let [one, other] = sums;
        // SAFETY: as in `add`; four tiles of sums are written.
        unsafe {
            over_tiles_of_two!(
                codes, x, one, other;
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"
            );
        }
    }
}

impl Drop for TileUnit {
    /// Gives the tiles back, so that the system need not save them when it runs another thread.
    fn drop(&mut self) {
        // SAFETY: this exists, so the CPU has AMX.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// The tiles of columns that all have.
#[inline(always)]
fn steps<const SETS: usize>(codes: [&[Bytes]; HALVES], x: [&[Bytes]; SETS]) -> usize {
    let steps = codes[0].len();
    assert!(steps > 0 && codes[1].len() == steps && x.iter().all(|x| x.len() == steps));
    steps
}
