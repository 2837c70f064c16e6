//! AMX's instructions: each call is a whole loop in inline assembly.

use std::arch::asm;
use std::marker::PhantomData;

use crate::cpu::kernels::panel::{Bytes, HALVES, LANES};
use crate::cpu::kernels::spans::{PANEL, SET};

/// Rows of a tile register.
const REGISTER_ROWS: usize = 16;

/// The products of two sets of activation rows and two halves of a panel: `[set][half]`, each `[row][output]`.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Products(pub(super) [[[i32; LANES]; SET]; 2 * HALVES]);

pub(super) const NO_PRODUCTS: Products = Products([[[0; LANES]; SET]; 2 * HALVES]);

/// The loop over tiles of columns, between what loads the four tiles of sums and what stores them. Tiles 0 to 3 are `[set][half]`.
macro_rules! over_tiles {
    ($codes:ident, $x:ident, $steps:ident, $x_stride:ident; $($load:literal),*; $($store:literal),*; $($operands:tt)*) => {
        asm!(
            $($load,)*
            "2:",
            "tileloadd tmm4, [{x} + {x_stride}]",
            "tileloadd tmm6, [{a} + {stride}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {stride}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{y} + {x_stride}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {b}, 1024",
            "add {x}, 64",
            "add {y}, 64",
            "dec {steps}",
            "jnz 2b",
            $($store,)*
            a = inout(reg) $codes[0].as_ptr() => _,
            b = inout(reg) $codes[1].as_ptr() => _,
            x = inout(reg) $x[0].x.as_ptr() => _,
            y = inout(reg) $x[1].x.as_ptr() => _,
            x_stride = in(reg) $x_stride,
            steps = inout(reg) $steps => _,
            stride = in(reg) 64usize,
            $($operands)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
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
        configuration.rows[..8].fill(REGISTER_ROWS as u8);
        // SAFETY: the caller shows AMX; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Adds the products of a panel's codes and two sets of activation rows, over all their tiles, to the sums of each set:
    /// `[row][output]`.
    #[inline(always)]
    pub(super) fn add(
        &self,
        codes: [&[Bytes]; HALVES],
        x: [ActivationSet<'_>; 2],
        sums: [&mut [[i32; PANEL]; SET]; 2],
    ) {
        let (steps, x_stride) = steps_of(codes, x);
        let [first, second] = sums;
        // SAFETY: `self` exists, so this thread's tiles are configured. The loop reads `steps` tiles of codes, 64 bytes a row, and
        // 64 columns of sixteen activation rows as often, as `steps_of` shows; and reads and writes four tiles of sums: sixteen
        // rows of two halves, 128 bytes a row.
        unsafe {
            over_tiles!(
                codes, x, steps, x_stride;
                "tileloadd tmm0, [{first} + {sums_stride}]",
                "tileloadd tmm1, [{first} + {sums_stride} + 64]",
                "tileloadd tmm2, [{second} + {sums_stride}]",
                "tileloadd tmm3, [{second} + {sums_stride} + 64]";
                "tilestored [{first} + {sums_stride}], tmm0",
                "tilestored [{first} + {sums_stride} + 64], tmm1",
                "tilestored [{second} + {sums_stride}], tmm2",
                "tilestored [{second} + {sums_stride} + 64], tmm3";
                first = in(reg) first.as_mut_ptr(),
                second = in(reg) second.as_mut_ptr(),
                sums_stride = in(reg) size_of::<[i32; PANEL]>(),
            );
        }
    }

    /// The products of a panel's codes and two sets of activation rows, over all their tiles.
    #[inline(always)]
    pub(super) fn multiply(&self, codes: [&[Bytes]; HALVES], x: [ActivationSet<'_>; 2], products: &mut Products) {
        let (steps, x_stride) = steps_of(codes, x);
        // SAFETY: as in `add`; what is written are the four tiles of `products`, 64 bytes a row.
        unsafe {
            over_tiles!(
                codes, x, steps, x_stride;
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3";
                "tilestored [{products} + {stride}], tmm0",
                "tilestored [{products} + {stride} + 1024], tmm1",
                "tilestored [{products} + {stride} + 2048], tmm2",
                "tilestored [{products} + {stride} + 3072], tmm3";
                products = in(reg) products.0.as_mut_ptr(),
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

/// Sixteen activation rows, from some column on.
#[derive(Clone, Copy)]
pub(super) struct ActivationSet<'a> {
    pub(super) x: &'a [i8],
    /// From one row to the next.
    pub(super) stride: usize,
}

/// The tiles of columns that both halves have, checked to be there of both sets, and the stride that these share.
fn steps_of(codes: [&[Bytes]; HALVES], x: [ActivationSet<'_>; 2]) -> (usize, usize) {
    let (steps, stride) = (codes[0].len(), x[0].stride);
    assert!(steps > 0 && codes[1].len() == steps && x[1].stride == stride);
    assert!(x.iter().all(|set| set.x.len() >= (SET - 1) * stride + steps * 64));
    (steps, stride)
}
