//! What the tests are made of: random numbers, tensors whose unwritten places show, weights of every kind, comparisons.

use sterna::backend::{Backend, CachePrecision, Numerics, RopePairs, Row};
use sterna::format::Weights;
use sterna::format::dense::{Dense, Values};
use sterna::format::ternary::{Scales, Ternary};

/// A small generator (xorshift64*), so that a test is the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn trits(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| (self.next() % 3) as i8 - 1).collect()
    }

    pub fn int8(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.next() as i8).collect()
    }

    /// In [-1, 1).
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// In [0.01, 1.01).
    pub fn scales(&mut self, count: usize) -> Vec<f32> {
        self.floats(count).iter().map(|v| v * 0.5 + 0.51).collect()
    }
}

/// Both precisions of a cache, each with one kind of pairs, by turns: two shapes after one another have all four. Each shape with
/// all of them would be twice as many shaders.
pub fn precisions_and_pairs(i: usize) -> [(CachePrecision, RopePairs); 2] {
    let pairs = [RopePairs::Half, RopePairs::Interleaved];
    [(CachePrecision::F16, pairs[i % 2]), (CachePrecision::F32, pairs[(i + 1) % 2])]
}

pub fn rows(count: usize) -> Vec<Row> {
    (0..count).map(|i| Row { sequence: 0, position: i as u32, wants_logits: true }).collect()
}

/// A tensor of as many rows as fit `values`.
pub fn tensor<B: Backend>(backend: &mut B, cols: usize, values: &[f32]) -> B::Tensor {
    let mut tensor = backend.tensor(values.len() / cols, cols).unwrap();
    backend.write_tensor(&mut tensor, values);
    tensor
}

pub fn read<B: Backend>(backend: &mut B, tensor: &B::Tensor, count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    backend.read_tensor(tensor, &mut values).unwrap();
    values
}

/// Runs a verb on an output of one row more than the step, poisoned with NaN, and checks that this row stays NaN.
pub fn poisoned<B: Backend>(
    backend: &mut B,
    rows: usize,
    cols: usize,
    verb: impl FnOnce(&mut B, &mut B::Tensor),
) -> Vec<f32> {
    let values = poisoned_with(f32::NAN, backend, rows, cols, verb);
    assert!(values.iter().all(|v| !v.is_nan()), "not everything was written");
    values
}

/// Runs a verb on an output of one row more than the step, filled with one value, and checks that this row stays so.
pub fn poisoned_with<B: Backend>(
    poison: f32,
    backend: &mut B,
    rows: usize,
    cols: usize,
    verb: impl FnOnce(&mut B, &mut B::Tensor),
) -> Vec<f32> {
    let mut out = tensor(backend, cols, &vec![poison; (rows + 1) * cols]);
    verb(backend, &mut out);
    let mut values = read(backend, &out, (rows + 1) * cols);
    let beyond = values.split_off(rows * cols);
    assert!(beyond.iter().all(|v| v.to_bits() == poison.to_bits()), "a row beyond the step was written");
    values
}

/// Scales of a row of int8.
pub fn scales_a_row(cols: usize, numerics: Numerics) -> usize {
    match numerics {
        Numerics::Int8Rows => 1,
        Numerics::Int8Groups => cols.div_ceil(128),
        numerics => panic!("no scales of its own: {numerics}"),
    }
}

/// Like [`poisoned`], for int8: the values and multipliers of the step's rows.
pub fn poisoned_int8<B: Backend>(
    backend: &mut B,
    rows: usize,
    cols: usize,
    numerics: Numerics,
    verb: impl FnOnce(&mut B, &mut B::Quantized),
) -> (Vec<i8>, Vec<f32>) {
    let scales_a_row = scales_a_row(cols, numerics);
    let mut out = backend.quantized(rows + 1, cols, numerics).unwrap();
    let (mut values, mut scales) = (vec![-77; (rows + 1) * cols], vec![f32::NAN; (rows + 1) * scales_a_row]);
    backend.write_quantized(&mut out, &values, &scales);
    verb(backend, &mut out);
    backend.read_quantized(&out, &mut values, &mut scales).unwrap();
    assert!(values[rows * cols..].iter().all(|&v| v == -77), "a row beyond was written");
    assert!(scales[rows * scales_a_row..].iter().all(|v| v.is_nan()), "a row beyond was written");
    values.truncate(rows * cols);
    scales.truncate(rows * scales_a_row);
    (values, scales)
}

/// Each value within `tolerance` of the other, relative to the largest of all.
#[track_caller]
pub fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "place {i}: {a} is not {b} (largest {largest})");
    }
}

#[track_caller]
pub fn assert_same_bits(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "place {i}: {a} is not {b}");
    }
}

/// Whether a backend may reorder sums and products of floats, and otherwise in each shader: Metal's compiler does ("fast math", which
/// wgpu has no switch for). It is asked of the adapter, whose name tells.
pub fn may_reorder<B: Backend>(backend: &B) -> bool {
    backend.describe().contains("(Metal)")
}

/// Codes are the same everywhere, but where floats may be reordered: there, one that lies next to the boundary of two codes may be
/// either of them.
#[track_caller]
pub fn assert_codes<B: Backend>(backend: &B, ours: &[i8], theirs: &[i8]) {
    assert_eq!(ours.len(), theirs.len());
    let place = first_other_code(may_reorder(backend), ours, theirs);
    assert_eq!(place, None, "code {} is not {}", ours[place.unwrap_or(0)], theirs[place.unwrap_or(0)]);
}

fn first_other_code(may_reorder: bool, ours: &[i8], theirs: &[i8]) -> Option<usize> {
    ours.iter().zip(theirs).position(|(a, b)| a.abs_diff(*b) > u8::from(may_reorder))
}

#[test]
fn codes_may_differ_by_one_where_floats_may_be_reordered_and_nowhere_else() {
    assert_eq!([false, true].map(|may| first_other_code(may, &[3, -127, 0], &[3, -127, 0])), [None; 2]);
    assert_eq!([false, true].map(|may| first_other_code(may, &[3, -127, 0], &[3, -128, 0])), [Some(1), None]);
    assert_eq!([false, true].map(|may| first_other_code(may, &[3, -127, 0], &[3, -127, 2])), [Some(2); 2]);
    assert!(!may_reorder(&sterna::reference::Reference::default()));
}

pub fn pack(rows: usize, cols: usize, trits: &[i8], scales: Scales) -> Weights {
    Weights::Ternary(Ternary::pack(rows, cols, trits, scales).unwrap())
}

pub fn every_kind_of_scale(random: &mut Random, outputs: usize, cols: usize) -> Vec<Scales> {
    let mut kinds = vec![
        Scales::Tensor(random.scales(1)[0]),
        Scales::Rows(random.scales(outputs)),
        Scales::RowRanges(vec![(1, 0.5), (outputs / 2, 0.25), (outputs, 3.0)]),
    ];
    for columns in [128, 256, 1024] {
        let values = random.scales(outputs * cols.div_ceil(columns));
        kinds.push(Scales::Groups { columns, values });
    }
    kinds
}

pub fn every_kind_of_dense(random: &mut Random, rows: usize, cols: usize) -> Vec<Dense> {
    let floats = random.floats(rows * cols);
    let bytes = |f: &dyn Fn(&f32) -> Vec<u8>| bytes::Bytes::from(floats.iter().flat_map(f).collect::<Vec<u8>>());
    let mut kinds = vec![
        Values::F32(bytes(&|v| v.to_le_bytes().into())),
        Values::F16(bytes(&|v| half::f16::from_f32(*v).to_le_bytes().into())),
        Values::Bf16(bytes(&|v| half::bf16::from_f32(*v).to_le_bytes().into())),
        // Bytes of a file may lie anywhere.
        Values::F16({
            let mut moved = vec![0];
            moved.extend(floats.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()));
            bytes::Bytes::from(moved).slice(1..)
        }),
    ];
    let codes: Vec<u8> = random.int8(rows * cols).iter().map(|&v| v as u8).collect();
    for columns in [cols, 4, 16, 32, 24, 1].into_iter().filter(|columns| cols.is_multiple_of(*columns)) {
        let scales = random.scales(rows * (cols / columns));
        kinds.push(Values::Int8 { columns, codes: codes.clone().into(), scales });
    }
    kinds.into_iter().map(|values| Dense::new(rows, cols, values).unwrap()).collect()
}
