//! Trits times int8 for many activation rows with AMX, the matrix unit of Intel's servers since 2023: one `tdpbusd`
//! multiplies 16 weight rows of 64 codes with 16 activation rows, 16384 products.
//!
//! A span of weight rows is worked on 32 at a time. Some blocks of theirs are unpacked to codes of a byte, which stay in the
//! nearest cache while all activation rows pass over them. Activations are packed once a span, four neighbouring columns
//! of sixteen rows side by side. Sums begin at minus the sum of the activations, because codes are trits + 1.
//!
//! An [`Amx`] exists only where the CPU has these instructions and the kernel lets this process use them; that is what
//! makes the calls below sound. Rust has no stable intrinsics for AMX, so its instructions are inline assembly, each a whole
//! loop: no tile lives from one to the next but the configuration.

mod detect;

use std::any::Any;
use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2::prefetch_to_second;
use super::vnni::Avx512Vnni;
use crate::cpu::kernels::tables::{SETS, SPAN, SpanSums, TABLE_ROWS, Tables};
use crate::cpu::kernels::{KernelSet, Kernels, Tile};

/// The token: only [`Amx::detect`] gives one out.
pub(crate) struct Amx {
    avx512: &'static Avx512Vnni,
}

/// Rows of a tile register, of weights or of packed activations.
const REGISTER_ROWS: usize = 16;
/// Weight rows that are unpacked together: two tiles.
const PANEL: usize = 2 * REGISTER_ROWS;
/// Blocks of a panel that are unpacked together: 16 KiB, a third of the nearest cache.
const STRETCH: usize = 4;
/// Tiles of 64 columns in a block.
const BLOCK_TILES: usize = 2;

/// A tile register: 16 rows of 64 bytes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bytes([[u8; 64]; REGISTER_ROWS]);

const NO_BYTES: Bytes = Bytes([[0; 64]; REGISTER_ROWS]);

/// What a thread keeps for this kernel: as much as the longest row of activations needs.
#[derive(Default)]
struct Room {
    /// Codes: `[2, STRETCH * BLOCK_TILES]`.
    panel: Vec<Bytes>,
    /// Activations: `[sets, blocks * BLOCK_TILES]`, an even number of sets.
    x: Vec<Bytes>,
}

impl Kernels for Amx {
    fn set(&self) -> KernelSet {
        KernelSet::Amx
    }

    fn older(&self) -> &dyn Kernels {
        self.avx512
    }

    fn fewest_table_rows(&self) -> Option<usize> {
        // Measured on Sapphire Rapids: 1.2 times AVX-512 VNNI at 16 rows, 0.8 times at 8, where unpacking costs most.
        Some(16)
    }

    fn room(&self) -> Box<dyn Any + Send> {
        Box::<Room>::default()
    }

    fn reserve(&self, tables: &mut Tables, blocks: usize) {
        let (_, Room { panel, x }) = tables.split();
        panel.resize(2 * STRETCH * BLOCK_TILES, NO_BYTES);
        let most = SETS.next_multiple_of(2) * blocks * BLOCK_TILES;
        if x.len() < most {
            x.resize(most, NO_BYTES);
        }
    }

    fn dot_tables(&self, tables: &mut Tables, tile: &Tile<'_>) -> bool {
        let (sums, room) = tables.split();
        // SAFETY: `self` exists, so the CPU has AVX-512F, AVX-512BW and AMX with int8, and this process may use them.
        unsafe { dot_tables(sums, room, tile) }
        true
    }
}

/// [`Kernels::dot_tables`]; every code counts.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn dot_tables(sums: &mut SpanSums, room: &mut Room, tile: &Tile<'_>) {
    let (outputs, sets) = (tile.outputs, tile.rows.div_ceil(TABLE_ROWS));
    assert!((1..=SPAN).contains(&outputs) && (1..=SETS).contains(&sets));
    let steps = tile.blocks * BLOCK_TILES;
    let (Room { panel, x }, pairs) = (room, sets.div_ceil(2));
    assert!(panel.len() == 2 * STRETCH * BLOCK_TILES && x.len() >= 2 * pairs * steps, "room was reserved");
    let whole = outputs.next_multiple_of(PANEL);
    for (set, (packed, sums)) in x.chunks_exact_mut(steps).zip(sums.iter_mut()).enumerate().take(2 * pairs) {
        let x_sums = pack(packed, tile, set * TABLE_ROWS);
        sums[..whole].fill(x_sums.map(|sum| -sum));
    }
    configure();
    for output in (0..outputs).step_by(PANEL) {
        for block in (0..tile.blocks).step_by(STRETCH) {
            let blocks = STRETCH.min(tile.blocks - block);
            unpack(panel, tile, output, block, blocks);
            for pair in 0..pairs {
                let [first, second] =
                    [2 * pair, 2 * pair + 1].map(|set| &x[set * steps + block * BLOCK_TILES..][..blocks * BLOCK_TILES]);
                let [below, above] = &mut sums[2 * pair..2 * pair + 2] else { unreachable!("a slice of two") };
                let [below, above] = [below, above].map(|sums| &mut sums[output..output + PANEL]);
                let (codes, more_codes) = panel.split_at(STRETCH * BLOCK_TILES);
                // SAFETY: the caller shows AMX, which is configured; all six slices have as many tiles as are asked for.
                unsafe { multiply([codes, more_codes], [first, second], [below, above], blocks * BLOCK_TILES) };
            }
        }
    }
    release();
}

/// Unpacks some blocks of a panel: tile `(half, step)` holds the codes of 64 columns of sixteen weight rows. Rows beyond
/// the last are zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn unpack(panel: &mut [Bytes], tile: &Tile<'_>, output: usize, block: usize, blocks: usize) {
    // The low half of a register keeps the field of the first 32 columns, the high half that of the next.
    let shifts = [_mm512_set_epi64(4, 4, 4, 4, 6, 6, 6, 6), _mm512_set_epi64(0, 0, 0, 0, 2, 2, 2, 2)];
    let mask = _mm512_set1_epi8(3);
    for (row, half) in (0..PANEL).map(|row| (row % REGISTER_ROWS, row / REGISTER_ROWS)) {
        let tiles = &mut panel[half * STRETCH * BLOCK_TILES..][..blocks * BLOCK_TILES];
        let weight_row = output + half * REGISTER_ROWS + row;
        if weight_row >= tile.outputs {
            tiles.iter_mut().for_each(|tile| tile.0[row] = [0; 64]);
            continue;
        }
        let packed = &tile.weights(weight_row)[block..block + blocks];
        // The same blocks of the next panel: rows are too short, and too many, for the CPU to see what comes.
        for line in packed.chunks(2) {
            prefetch_to_second(line.as_ptr().cast::<u8>().wrapping_add(PANEL * tile.codes_stride));
        }
        for (tiles, packed) in tiles.as_chunks_mut::<BLOCK_TILES>().0.iter_mut().zip(packed) {
            // SAFETY: a block has 32 bytes; the load may be unaligned.
            let codes = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(packed.as_ptr().cast()) });
            for (tile, shift) in tiles.iter_mut().zip(shifts) {
                let codes = _mm512_and_si512(_mm512_srlv_epi64(codes, shift), mask);
                // SAFETY: a row of a tile has 64 bytes; the store may be unaligned.
                unsafe { _mm512_storeu_si512(tile.0[row].as_mut_ptr().cast(), codes) };
            }
        }
    }
}

/// Packs sixteen activation rows: row `k` of a tile holds columns `4k..4k + 4` of each. Rows that are not there are zeros.
/// Returns the sum of each activation row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack(packed: &mut [Bytes], tile: &Tile<'_>, first: usize) -> [i32; TABLE_ROWS] {
    const NONE: [i8; 128] = [0; 128];
    let mut x_sums = [0; TABLE_ROWS];
    for (row, sum) in x_sums.iter_mut().enumerate().take(tile.rows.saturating_sub(first)) {
        *sum = tile.activations(first + row).as_flattened().iter().map(|&v| i32::from(v)).sum();
    }
    for (block, tiles) in packed.as_chunks_mut::<BLOCK_TILES>().0.iter_mut().enumerate() {
        let mut rows = [&NONE; TABLE_ROWS];
        for (row, x) in rows.iter_mut().enumerate().take(tile.rows.saturating_sub(first)) {
            *x = &tile.activations(first + row)[block];
        }
        for (step, tile) in tiles.iter_mut().enumerate() {
            // SAFETY: half a block has 64 bytes; the loads may be unaligned.
            let rows = rows.map(|x| unsafe { _mm512_loadu_si512(x[64 * step..][..64].as_ptr().cast()) });
            for (to, columns) in tile.0.iter_mut().zip(transposed(rows)) {
                // SAFETY: a row of a tile has 64 bytes; the store may be unaligned.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), columns) };
            }
        }
    }
    x_sums
}

/// Sixteen rows of sixteen values of 32 bits, as columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = r;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    // Of rows 4q.. : lane l of vector 4q + j holds column 4l + j.
    let mut fours = pairs;
    for q in (0..16).step_by(4) {
        fours[q] = _mm512_unpacklo_epi64(pairs[q], pairs[q + 2]);
        fours[q + 1] = _mm512_unpackhi_epi64(pairs[q], pairs[q + 2]);
        fours[q + 2] = _mm512_unpacklo_epi64(pairs[q + 1], pairs[q + 3]);
        fours[q + 3] = _mm512_unpackhi_epi64(pairs[q + 1], pairs[q + 3]);
    }
    let mut columns = fours;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        // Lanes 0 and 2, and lanes 1 and 3, of two vectors each.
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
    columns
}

/// Adds the products of two tiles of weight rows and two sets of activation rows, over `steps` tiles of columns.
///
/// # Safety
/// The CPU has AMX, this thread's tiles are configured, and each slice has what is asked for: `steps` tiles of codes and of
/// activations, [`PANEL`] sums.
#[inline]
unsafe fn multiply(codes: [&[Bytes]; 2], x: [&[Bytes]; 2], sums: [&mut [[i32; TABLE_ROWS]]; 2], steps: usize) {
    debug_assert!(steps > 0 && codes.iter().chain(&x).all(|tiles| tiles.len() >= steps));
    let [below, above] = sums;
    // SAFETY: the loop reads `steps` tiles of 1024 bytes at each of the four places, and reads and writes two tiles at the
    // places of the sums; the caller shows that they are there. Rows are 64 bytes apart everywhere.
    unsafe {
        asm!(
            "tileloadd tmm0, [{below} + {stride}]",
            "tileloadd tmm1, [{below} + {stride} + 1024]",
            "tileloadd tmm2, [{above} + {stride}]",
            "tileloadd tmm3, [{above} + {stride} + 1024]",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{x} + {stride}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{b} + {stride}]",
            "tdpbusd tmm1, tmm5, tmm6",
            "tileloadd tmm7, [{y} + {stride}]",
            "tdpbusd tmm2, tmm4, tmm7",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {b}, 1024",
            "add {x}, 1024",
            "add {y}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{below} + {stride}], tmm0",
            "tilestored [{below} + {stride} + 1024], tmm1",
            "tilestored [{above} + {stride}], tmm2",
            "tilestored [{above} + {stride} + 1024], tmm3",
            a = inout(reg) codes[0].as_ptr() => _,
            b = inout(reg) codes[1].as_ptr() => _,
            x = inout(reg) x[0].as_ptr() => _,
            y = inout(reg) x[1].as_ptr() => _,
            steps = inout(reg) steps => _,
            below = in(reg) below.as_mut_ptr(),
            above = in(reg) above.as_mut_ptr(),
            stride = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Makes each of this thread's eight tiles 16 rows of 64 bytes.
fn configure() {
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
    // SAFETY: only [`dot_tables`] calls this, where the CPU has AMX; 64 bytes are read.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
}

/// Gives the tiles back, so that the system need not save them when it runs another thread.
fn release() {
    // SAFETY: only [`dot_tables`] calls this, where the CPU has AMX.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
