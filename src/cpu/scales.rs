//! Scales that change within a weight row, as products take them: those of sixteen weight rows side by side, which are the lanes of a
//! vector, group after group of columns. In half precision where that holds all of them exactly, as files of this kind have them:
//! scales of 128 columns are a seventeenth of what a token reads then, and a ninth in single precision.

use std::ops::Range;

use bytemuck::{Pod, cast_slice};
use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::allocation::filled;
use crate::cpu::kernels::{Kernels, SCALES_TOGETHER, TileScales};
use crate::error::Result;
use crate::format::ternary::BLOCK;

/// The scales of the groups of columns of some weight rows.
#[derive(Debug)]
pub(crate) struct GroupScales {
    blocks: usize, // that a scale covers
    groups: usize, // of a row
    stored: Stored,
}

/// `[rows / 16][groups][16]`, aligned to its numbers; zeros for rows that the last sixteen lack.
#[derive(Debug)]
enum Stored {
    F16(Bytes),
    F32(Bytes),
}

/// Numbers as bytes that can lie elsewhere.
struct Numbers<T>(Vec<[T; SCALES_TOGETHER]>);

impl<T: Pod> AsRef<[u8]> for Numbers<T> {
    fn as_ref(&self) -> &[u8] {
        cast_slice(self.0.as_flattened())
    }
}

impl GroupScales {
    /// Takes scales of `columns` columns each, whole blocks, row by row: `[rows, groups]`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no memory for them.
    pub(crate) fn new(rows: usize, cols: usize, columns: usize, values: &[f32]) -> Result<Self> {
        let groups = cols.div_ceil(columns);
        assert_eq!(values.len(), rows * groups);
        let mut again = filled(groups, 0.0f32)?;
        let halves = side_by_side(values, groups, f16::ZERO, |halves, row| {
            halves.convert_from_f32_slice(row);
            halves.convert_to_f32_slice(&mut again);
            again.iter().zip(row).all(|(again, value)| again.to_bits() == value.to_bits())
        })?;
        let stored = match halves {
            Some(halves) => Stored::F16(Bytes::from_owner(Numbers(halves))),
            None => {
                let singles = side_by_side(values, groups, 0.0, |singles, row| {
                    singles.copy_from_slice(row);
                    true
                })?;
                Stored::F32(Bytes::from_owner(Numbers(singles.expect("every row is kept"))))
            }
        };
        Ok(Self { blocks: columns / BLOCK, groups, stored })
    }

    /// Has the scales lie where `copy` puts them, aligned to four bytes: a token reads all of them, as it reads codes.
    pub(crate) fn move_by(&mut self, copy: &mut dyn FnMut(&Bytes) -> Bytes) {
        let (Stored::F16(stored) | Stored::F32(stored)) = &mut self.stored;
        *stored = copy(stored);
    }

    pub(crate) fn bytes(&self) -> usize {
        let (Stored::F16(stored) | Stored::F32(stored)) = &self.stored;
        stored.len()
    }

    /// Where they lie.
    #[cfg(test)]
    pub(crate) fn first_byte(&self) -> *const u8 {
        self.stored_bytes(0).as_ptr()
    }

    /// Groups of columns in a row.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Blocks of a group; the last of a row may have fewer.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The scale of one block of one row.
    pub(crate) fn of_block(&self, row: usize, block: usize) -> f32 {
        let (place, lane) = (self.start_of(row) + block / self.blocks, row % SCALES_TOGETHER);
        match &self.stored {
            Stored::F16(stored) => numbers::<f16>(stored)[place][lane].to_f32(),
            Stored::F32(stored) => numbers::<f32>(stored)[place][lane],
        }
    }

    /// Writes the scales of some groups of the sixteen weight rows from `row` on, group by group.
    pub(crate) fn of_groups(
        &self,
        kernels: &dyn Kernels,
        out: &mut [[f32; SCALES_TOGETHER]],
        row: usize,
        groups: Range<usize>,
    ) {
        assert!(row.is_multiple_of(SCALES_TOGETHER), "rows whose scales lie side by side");
        let first = self.start_of(row);
        let places = first + groups.start..first + groups.end;
        match &self.stored {
            Stored::F16(stored) => {
                kernels.widen(out.as_flattened_mut(), cast_slice(&numbers::<f16>(stored)[places]));
            }
            Stored::F32(stored) => out.copy_from_slice(&numbers::<f32>(stored)[places]),
        }
    }

    /// The same of some blocks, block by block, in `room`, and where the next are.
    pub(crate) fn of_blocks<'a>(
        &'a self,
        kernels: &dyn Kernels,
        room: &'a mut [[f32; SCALES_TOGETHER]],
        row: usize,
        blocks: Range<usize>,
    ) -> TileScales<'a> {
        let groups = blocks.start / self.blocks..blocks.end.div_ceil(self.blocks);
        let values = &mut room[..blocks.len()];
        self.of_groups(kernels, &mut values[..groups.len()], row, groups.clone());
        if self.blocks > 1 {
            // From the last on: what is read is not written before.
            for (place, block) in blocks.enumerate().rev() {
                values[place] = values[block / self.blocks - groups.start];
            }
        }
        // As many as these.
        let [these, next] = [groups.start, groups.end].map(|group| self.stored_bytes(self.start_of(row) + group));
        let len = these.len() - next.len();
        TileScales { values, soon: &next[..next.len().min(len)] }
    }

    /// Where the scales of a row's first group lie, among those of the other rows.
    fn start_of(&self, row: usize) -> usize {
        row / SCALES_TOGETHER * self.groups
    }

    /// What is stored from a place on.
    fn stored_bytes(&self, place: usize) -> &[u8] {
        match &self.stored {
            Stored::F16(stored) => &stored[place * size_of::<[f16; SCALES_TOGETHER]>()..],
            Stored::F32(stored) => &stored[place * size_of::<[f32; SCALES_TOGETHER]>()..],
        }
    }
}

/// What is stored, sixteen weight rows side by side.
fn numbers<T: Pod>(stored: &Bytes) -> &[[T; SCALES_TOGETHER]] {
    cast_slice::<u8, T>(stored).as_chunks().0
}

/// The rows of `values` as `keep` writes them, sixteen side by side; none if it says of a row that it cannot be kept.
fn side_by_side<T: Copy>(
    values: &[f32],
    groups: usize,
    zero: T,
    mut keep: impl FnMut(&mut [T], &[f32]) -> bool,
) -> Result<Option<Vec<[T; SCALES_TOGETHER]>>> {
    let sixteen = SCALES_TOGETHER * groups;
    let mut kept = filled(groups, zero)?;
    let mut all = filled(values.len().div_ceil(sixteen) * groups, [zero; SCALES_TOGETHER])?;
    for (rows, all) in values.chunks(sixteen).zip(all.chunks_exact_mut(groups)) {
        for (lane, row) in rows.chunks_exact(groups).enumerate() {
            if !keep(&mut kept, row) {
                return Ok(None);
            }
            all.iter_mut().zip(&kept).for_each(|(all, kept)| all[lane] = *kept);
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::KernelSet;

    /// 35 rows of three groups of 256 columns, the last with 128.
    fn scales(step: f32) -> (Vec<f32>, GroupScales) {
        let values: Vec<f32> = (0..35 * 3).map(|i| (i as f32 - 50.0) * step).collect();
        let stored = GroupScales::new(35, 640, 256, &values).unwrap();
        (values, stored)
    }

    #[test]
    fn scales_lie_in_half_precision_only_where_that_is_exact() {
        for (step, bytes) in
            [(0.25, 3 * 3 * 32), (0.25 + f32::EPSILON, 3 * 3 * 64), (1e6, 3 * 3 * 64), (1e-9, 3 * 3 * 64)]
        {
            let (values, stored) = scales(step);
            assert_eq!(stored.bytes(), bytes, "{step}");
            for (place, value) in values.iter().enumerate() {
                let (row, group) = (place / 3, place % 3);
                assert_eq!(
                    stored.of_block(row, 2 * group).to_bits(),
                    value.to_bits(),
                    "{step}: row {row}, group {group}"
                );
            }
        }
    }

    fn negated<T: Pod + Send + std::ops::Neg<Output = T>>(sixteens: &[[T; SCALES_TOGETHER]]) -> Bytes {
        Bytes::from_owner(Numbers(sixteens.iter().map(|sixteen| sixteen.map(|value| -value)).collect()))
    }

    #[test]
    fn scales_are_read_where_they_were_moved() {
        for step in [0.25, 0.3] {
            let (values, mut stored) = scales(step);
            let half = matches!(stored.stored, Stored::F16(_));
            let mut elsewhere = Bytes::new();
            stored.move_by(&mut |bytes| {
                // Others, so that it shows which are read.
                elsewhere = match half {
                    true => negated(numbers::<f16>(bytes)),
                    false => negated(numbers::<f32>(bytes)),
                };
                assert_eq!(elsewhere.len(), bytes.len());
                elsewhere.clone()
            });
            assert_eq!(stored.of_block(34, 4), -values[34 * 3 + 2]);
            assert_eq!(stored.first_byte(), elsewhere.as_ptr());
        }
    }

    #[test]
    fn every_block_has_the_scale_of_its_group() {
        for set in KernelSet::available() {
            for step in [2f32.powi(-24), 0.3] {
                let (values, stored) = scales(step);
                for row in [0, 16, 32] {
                    for blocks in [0..5, 1..5, 3..4, 2..3] {
                        let mut room = [[f32::NAN; SCALES_TOGETHER]; 8];
                        let tile = stored.of_blocks(set.table().unwrap(), &mut room, row, blocks.clone());
                        assert_eq!(tile.values.len(), blocks.len());
                        for (block, values_of_block) in blocks.clone().zip(tile.values) {
                            for (lane, value) in values_of_block.iter().enumerate() {
                                let wanted = values.get((row + lane) * 3 + block / 2).copied().unwrap_or(0.0);
                                assert_eq!(
                                    value.to_bits(),
                                    wanted.to_bits(),
                                    "{set}: block {block} of row {row} + {lane}"
                                );
                            }
                        }
                        assert!(tile.soon.len() <= stored.bytes());
                    }
                }
            }
        }
    }
}
