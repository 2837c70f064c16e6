//! What the decoders share: room for decoded rows, a loop over rows on all cores, the form of the scales, and the frame
//! of ggml's two ternary block formats. Frames for other blocks are in [`blocks`](super::blocks).

use std::sync::Mutex;
use std::thread;

use half::f16;

use super::Encoding;
use super::entry::Stored;
use crate::allocation::{area, collected, filled};
use crate::error::{Error, Result};
use crate::format::ternary::{self, Scales, Ternary, ZERO_BYTE, has_code_3};
use crate::threads::{Queue, together};

/// Output below this many bytes is written by the calling thread: starting threads would cost as much as the work.
const PARALLEL_BYTES: usize = 1 << 20;

/// `rows * row_bytes` bytes, all of them four zero trits.
///
/// # Errors
/// [`Error::Device`] if there is no memory for them.
pub(super) fn room(name: &str, rows: usize, row_bytes: usize) -> Result<Vec<u8>> {
    let no_memory = |_| Error::out_of_memory(format!("{name}: no memory for {rows} x {row_bytes} bytes"));
    area(rows, row_bytes).and_then(|size| filled(size, ZERO_BYTE)).map_err(no_memory)
}

/// Calls `work(row, out)` for each row of `bytes` (`[rows, row_bytes]`), on all cores if there is much to do. The error is that
/// of the lowest failing row.
pub(super) fn each_row<E: Send>(
    bytes: &mut [u8],
    row_bytes: usize,
    work: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let mut nothing = vec![(); bytes.len() / row_bytes]; // takes no memory
    each_row_noted(bytes, row_bytes, &mut nothing, |row, out, _| work(row, out))
}

/// [`each_row`], whose calls also have a row each of `notes` (`[rows, any number]`): room for what they find out, taken
/// before.
pub(super) fn each_row_noted<N: Send, E: Send>(
    bytes: &mut [u8],
    row_bytes: usize,
    notes: &mut [N],
    work: impl Fn(usize, &mut [u8], &mut [N]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let rows = bytes.len() / row_bytes;
    let row_notes = notes.len() / rows;
    let run = |first: usize, rows: &mut [u8], notes: &mut [N]| {
        let mut both = rows.chunks_exact_mut(row_bytes).zip(notes.chunks_exact_mut(row_notes)).enumerate();
        both.try_for_each(|(i, (out, notes))| work(first + i, out, notes))
    };
    if bytes.len() < PARALLEL_BYTES {
        return run(0, bytes, notes);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = rows.div_ceil(threads); // rows a thread
    let parts = bytes.chunks_mut(share * row_bytes).zip(notes.chunks_mut(share * row_notes)).enumerate();
    let (parts, lowest) = (Queue::new(parts), Mutex::new(None::<(usize, E)>));
    together(threads, &|| {
        while let Some((i, (part, notes))) = parts.take() {
            if let Err(error) = run(i * share, part, notes) {
                let mut lowest = lowest.lock().expect("nothing panics that holds it");
                if lowest.as_ref().is_none_or(|(before, _)| i < *before) {
                    *lowest = Some((i, error));
                }
            }
        }
    });
    lowest.into_inner().expect("nothing panics that holds it").map_or(Ok(()), |(_, error)| Err(error))
}

/// The simplest form of `values`, one for each group of `columns` columns of a row: one for the tensor if all have the
/// same bits, else one a row if they agree along each row, else as they are. A group for which `matters` is false holds
/// zeros only: its scale multiplies nothing and often is 0, so it need not agree.
///
/// # Errors
/// [`Error::Device`] if there is no memory for one scale a row.
pub(super) fn collapse(
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    matters: impl Fn(usize) -> bool,
) -> Result<Scales> {
    let common = |first: usize, end: usize| {
        let chosen = values[(first..end).find(|&g| matters(g)).unwrap_or(first)];
        let agrees = |g: usize| values[g].to_bits() == chosen.to_bits() || !matters(g);
        (first..end).all(agrees).then_some(chosen)
    };
    if let Some(scale) = common(0, values.len()) {
        return Ok(Scales::Tensor(scale));
    }
    let per_row = values.len() / rows;
    let by_row = || (0..rows).map_while(|row| common(row * per_row, (row + 1) * per_row));
    Ok(match by_row().count() == rows {
        true => Scales::Rows(collected(rows, by_row())?),
        false => Scales::Groups { columns, values },
    })
}

/// Refuses a scale that is not finite, `per_row` of them a row. Asked before [`collapse`], which drops scales that do
/// not matter: not a number times zero is not zero.
pub(super) fn check_finite(encoding: Encoding, scales: &[f32], per_row: usize) -> Result<()> {
    match scales.iter().position(|s| !s.is_finite()) {
        Some(place) => Err(Error::Malformed(format!("{encoding}: a scale in row {} is not finite", place / per_row))),
        None => Ok(()),
    }
}

/// The packed codes of a tensor whose `decode_row` writes the codes of one row, one a byte and each at most 3.
pub(super) fn decode_rows(
    &Stored { encoding, rows, cols, .. }: &Stored,
    decode_row: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
) -> Result<Vec<u8>> {
    let row_bytes = ternary::padded(cols) / 4;
    let mut packed = room(encoding.name(), rows, row_bytes)?;
    each_row(&mut packed, row_bytes, |row, out| {
        let mut codes = filled(cols, 0)?;
        decode_row(row, &mut codes)?;
        ternary::pack_codes(&codes, out);
        if has_code_3(out) { Err(code_3(encoding, row)) } else { Ok(()) }
    })?;
    Ok(packed)
}

/// Writes the codes of one row of `weights`, one a byte.
pub(super) fn row_codes(weights: &Ternary, row: usize, codes: &mut [u8]) {
    ternary::unpack_codes(&weights.codes()[row * weights.row_bytes()..][..weights.row_bytes()], codes);
}

/// The error for a code 3 in `row`.
pub(super) fn code_3(encoding: Encoding, row: usize) -> Error {
    Error::Malformed(format!("{encoding}: row {row} holds the code 3, which is no trit"))
}

/// Columns in one block of TQ1_0 and TQ2_0.
pub(super) const TQ_COLUMNS: usize = 256;
/// Bytes that one such block has in the canonical packing.
pub(super) const TQ_PACKED: usize = TQ_COLUMNS / 4;

/// Decodes a tensor of blocks of 256 trits in `BYTES` bytes, the last two of them an f16 scale. `decode_block` writes
/// the trits of a block in the canonical packing.
pub(super) fn decode_tq<const BYTES: usize>(
    &Stored { encoding, bytes, rows, cols, .. }: &Stored,
    decode_block: impl Fn(&[u8; BYTES], &mut [u8; TQ_PACKED]) + Sync,
) -> Result<Ternary> {
    let (blocks, _) = bytes.as_chunks::<BYTES>(); // [rows, cols / 256]
    let per_row = cols / TQ_COLUMNS;
    let row_bytes = per_row * TQ_PACKED;
    let mut codes = room(encoding.name(), rows, row_bytes)?;
    each_row(&mut codes, row_bytes, |row, out| {
        for (block, out) in blocks[row * per_row..].iter().zip(out.as_chunks_mut().0) {
            decode_block(block, out);
        }
        if has_code_3(out) { Err(code_3(encoding, row)) } else { Ok(()) }
    })?;
    let scale = |b: &[u8; BYTES]| f16::from_le_bytes([b[BYTES - 2], b[BYTES - 1]]).to_f32();
    let scales = collected(blocks.len(), blocks.iter().map(scale))?;
    check_finite(encoding, &scales, per_row)?;
    let (packed, _) = codes.as_chunks::<TQ_PACKED>();
    let scales = collapse(rows, TQ_COLUMNS, scales, |block| packed[block] != [ZERO_BYTE; TQ_PACKED])?;
    Ternary::new(rows, cols, codes.into(), scales)
}
