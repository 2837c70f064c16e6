//! What a step is made of, and what shaders know of it: `struct Step` of `shaders/shared/step.wgsl`, word by word.

use std::ops::Range;

use crate::backend::{Norm, Row};
use crate::gpu::buffers::Buffer;
use crate::gpu::limits::{LARGE_TILE_ROWS, TILE_ROWS};
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::Shader;
use crate::gpu::{Gpu, Tensor};

/// Words before the entries.
const HEADER_WORDS: usize = 4;
/// Words of an entry.
const ENTRY_WORDS: usize = 6;
/// The word of an entry that says which row is the i-th to want logits.
const SELECTED_WORD: usize = 2;
/// The word of an entry that says where the i-th sequence begins.
const BEGIN_WORD: usize = 3;
/// The word of an entry that says where the i-th tile begins.
const TILE_WORD: usize = 4;
/// The word of an entry that says where the i-th large tile begins.
const LARGE_TILE_WORD: usize = 5;

/// Fills `words` with the description of a step's rows, and of those that want logits of these, counted in their order.
pub(crate) fn describe(rows: &[Row], selected: Range<usize>, words: &mut Vec<u32>) {
    words.clear();
    words.extend([rows.len() as u32, 0, 0, 0]);
    for row in rows {
        words.extend([row.sequence, row.position, 0, 0, 0, 0]);
    }
    let wanting = rows.iter().enumerate().filter(|(_, row)| row.wants_logits);
    let mut count = 0;
    for (place, _) in wanting.skip(selected.start).take(selected.len()) {
        words[HEADER_WORDS + count * ENTRY_WORDS + SELECTED_WORD] = place as u32;
        count += 1;
    }
    let mut sequences: usize = 0;
    for (place, row) in rows.iter().enumerate() {
        let entry = |i: usize| HEADER_WORDS + i * ENTRY_WORDS;
        let begin = |i: usize, words: &[u32]| words[entry(i) + BEGIN_WORD] as usize;
        if (0..sequences).all(|i| rows[begin(i, words)].sequence != row.sequence) {
            words[entry(sequences) + BEGIN_WORD] = place as u32;
            sequences += 1;
        }
    }
    words[2] = sequences as u32;
    for (most, word) in [(TILE_ROWS, TILE_WORD), (LARGE_TILE_ROWS, LARGE_TILE_WORD)] {
        let mut first = 0;
        for (place, tile) in tiles(rows, most).enumerate() {
            words[HEADER_WORDS + place * ENTRY_WORDS + word] = first;
            first += tile.len() as u32;
        }
    }
    words[3] = tiles(rows, TILE_ROWS).count() as u32;
    assert_eq!(count, selected.len(), "only rows that want logits can be selected");
    words[1] = count as u32;
}

/// Rows of one sequence that follow each other, at most `most` in each.
pub(crate) fn tiles(rows: &[Row], most: usize) -> impl Iterator<Item = &[Row]> {
    rows.chunk_by(|a, b| a.sequence == b.sequence).flat_map(move |run| run.chunks(most))
}

/// Bytes of the description of a step of which nothing but the count of its rows is told.
pub(crate) const COUNT_BYTES: u64 = (HEADER_WORDS + ENTRY_WORDS) as u64 * 4;

/// Such a description.
pub(crate) fn count(rows: usize) -> [u32; HEADER_WORDS + ENTRY_WORDS] {
    let mut words = [0; HEADER_WORDS + ENTRY_WORDS];
    words[0] = rows as u32;
    words
}

impl Gpu {
    /// Tells the shaders which rows the step has, and which of those that want logits are selected.
    pub(super) fn describe_step(&mut self) {
        let mut words = std::mem::take(&mut self.words);
        describe(&self.rows, self.selected.clone(), &mut words);
        let step = self.scratch(|gpu| &mut gpu.step, "step", words.len() as u64 * 4);
        self.recorder.write(&step, bytemuck::cast_slice(&words));
        self.words = words;
        if let Some(selected) = &self.selected_count {
            self.recorder.write(selected, bytemuck::cast_slice(&count(self.selected.len())));
        }
    }

    pub(super) fn step(&self) -> Buffer {
        self.step.clone().expect("a step has begun")
    }

    /// Appends a run of a shader to the step.
    pub(super) fn run(&mut self, shader: Shader, params: &[u32], buffers: &[&Buffer], groups: [usize; 3], bytes: u64) {
        let reads = shader.reads();
        self.recorder.dispatch(&Dispatch { shader, params, buffers, groups, bytes, reads });
    }

    /// Norms rows of floats by a shader.
    pub(super) fn norm_rows(&mut self, out: &Tensor, x: &Tensor, norm: Norm<'_, Self>, rows: usize, shader: Shader) {
        let Norm { gain, epsilon } = norm;
        assert!(out.cols == x.cols && gain.cols == x.cols && rows <= out.max_rows && rows <= x.max_rows);
        let params = [x.cols as u32, out.cols as u32, epsilon.to_bits()];
        let buffers = [&self.step(), &x.buffer, &gain.buffer, &out.buffer];
        self.run(shader, &params, &buffers, [rows, 1, 1], 0);
    }
}
