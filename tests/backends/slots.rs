//! What the head selects, what the odds of a row add up to, and what is copied from slot to slot of a cache.

use sterna::backend::{Backend, CachePlace, CachePrecision, CacheShape, MOST_CANDIDATES, Row};
use sterna::generate::{Candidates, Draw, History, Logits, Need, Sampler, Sampling, Totals};
use sterna::reference::Reference;

use crate::FLOAT_SUM;
use crate::material::{Random, assert_close, assert_same_bits, poisoned, poisoned_with, read, rows, tensor};

crate::on_every_backend! {
    a_selection_computes_the_rows_that_all_of_them_compute
    rows_are_read_from_the_one_that_is_asked_for
    totals_are_the_sums_of_odds
    what_is_read_of_a_cache_is_written_back_as_it_was
    a_prefix_is_copied_and_nothing_else
}

fn a_selection_computes_the_rows_that_all_of_them_compute<B: Backend>(b: &mut B) {
    const COLS: usize = 96;
    let random = &mut Random(41);
    let (x, gain) = (random.floats(9 * COLS), random.floats(COLS));
    let (x, gain) = (tensor(b, COLS, &x), b.parameter(&gain).unwrap());
    let mut step = rows(9);
    step.iter_mut().for_each(|row| row.wants_logits = row.position % 3 != 1); // 6 of 9
    b.begin(&step);
    let norm = |b: &mut B, count| poisoned(b, count, COLS, |b, out| b.norm_selected(out, &x, &gain, 1e-5));
    let all = norm(b, 6);
    for selected in [0..1, 2..5, 5..6, 1..6, 0..6] {
        b.select(selected.clone());
        assert_same_bits(&norm(b, selected.len()), &all[selected.start * COLS..selected.end * COLS]);
    }
    b.begin(&step);
    assert_same_bits(&norm(b, 6), &all);
}

fn rows_are_read_from_the_one_that_is_asked_for<B: Backend>(b: &mut B) {
    let values = Random(42).floats(7 * 13);
    let tensor = tensor(b, 13, &values);
    for (first, count) in [(0, 7), (3, 1), (6, 1), (2, 4)] {
        let mut read = vec![f32::NAN; count * 13];
        b.read_rows(&tensor, first, &mut read).unwrap();
        assert_same_bits(&read, &values[first * 13..(first + count) * 13]);
    }
}

fn totals_are_the_sums_of_odds<B: Backend>(b: &mut B) {
    fn totals<B: Backend>(b: &mut B, cols: usize, logits: &[f32], factors: &[f32]) -> Vec<f32> {
        let (logits, factors) = (tensor(b, cols, logits), tensor(b, 1, factors));
        b.begin(&rows(6));
        poisoned_with(0.5, b, 6, 2, |b, out| b.totals(out, &logits, &factors))
    }
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for cols in [1, 100, 513, 5003] {
        let mut logits: Vec<f32> = Random(43).floats(6 * cols).iter().map(|v| v * 20.0).collect();
        // All equal; −∞; NaN but for one; far apart; one infinity.
        logits[cols..2 * cols].fill(-7.5);
        logits[2 * cols..3 * cols].fill(-inf);
        logits[3 * cols..4 * cols].fill(nan);
        logits[4 * cols - 1] = 3.0;
        logits[4 * cols..5 * cols].iter_mut().for_each(|v| *v *= 1e4);
        logits[5 * cols] = inf;
        let factors = [1.0, 0.5, 2.0, 1.5, 1.0, 0.01];
        let ours = totals(b, cols, &logits, &factors);
        let theirs = totals(&mut Reference::default(), cols, &logits, &factors);
        for (row, (ours, theirs)) in ours.chunks(2).zip(theirs.chunks(2)).enumerate() {
            for (a, b) in ours.iter().zip(theirs) {
                let close = (a - b).abs() <= FLOAT_SUM * b.abs();
                assert!(close || a.is_nan() && b.is_nan(), "row {row} of {cols}: {a} is not {b}");
            }
        }
        // Of one column, the one beside the NaN is all that there is.
        let broken = if cols == 1 { &[2, 5][..] } else { &[2, 3, 5] };
        for (row, totals) in ours.chunks(2).enumerate() {
            assert_eq!(
                totals.iter().all(|total| total.is_nan()),
                broken.contains(&row),
                "row {row} of {cols}: {totals:?}"
            );
        }
        assert_close(&ours[2..4], &[cols as f32; 2], FLOAT_SUM);
    }
}

const SLOTS: usize = 3;
const POSITIONS: usize = 37;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 34;

/// A cache with numbers of its own in every place, and those numbers: `[slot][kv_head]`, keys and values.
fn filled<B: Backend>(b: &mut B, precision: CachePrecision) -> (B::Cache, Vec<[Vec<f32>; 2]>) {
    let shape = CacheShape {
        slots: SLOTS,
        positions: POSITIONS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        precision,
        window: None,
    };
    let mut cache = b.cache(shape).unwrap();
    assert_eq!(b.cache_shape(&cache), shape);
    let mut all = Vec::new();
    for place in places(POSITIONS) {
        let mut random = Random(100 + all.len() as u64);
        // Numbers that half precision has, too.
        let mut floats = || random.int8(POSITIONS * HEAD_DIM).iter().map(|&v| f32::from(v) / 4.0).collect::<Vec<f32>>();
        let (keys, values) = (floats(), floats());
        b.write_cache(&mut cache, place, &keys, &values);
        all.push([keys, values]);
    }
    (cache, all)
}

fn places(positions: usize) -> impl Iterator<Item = CachePlace> {
    let slots = 0..SLOTS as u32;
    slots.flat_map(move |slot| (0..KV_HEADS).map(move |kv_head| CachePlace { slot, kv_head, positions }))
}

fn contents<B: Backend>(b: &mut B, cache: &B::Cache, positions: usize) -> Vec<[Vec<f32>; 2]> {
    let read = |place| {
        let mut entries = [vec![f32::NAN; positions * HEAD_DIM], vec![f32::NAN; positions * HEAD_DIM]];
        let [keys, values] = &mut entries;
        b.read_cache(cache, place, keys, values).unwrap();
        entries
    };
    places(positions).map(read).collect()
}

fn what_is_read_of_a_cache_is_written_back_as_it_was<B: Backend>(b: &mut B) {
    for precision in [CachePrecision::F16, CachePrecision::F32] {
        let (cache, all) = filled(b, precision);
        assert_eq!(contents(b, &cache, POSITIONS), all);
        let beginnings = contents(b, &cache, 3);
        for (beginning, whole) in beginnings.iter().zip(&all) {
            assert!(beginning.iter().zip(whole).all(|(part, whole)| **part == whole[..3 * HEAD_DIM]));
        }
    }
}

pub fn a_prefix_is_copied_and_nothing_else<B: Backend>(b: &mut B) {
    for precision in [CachePrecision::F16, CachePrecision::F32] {
        for (from, to, positions) in [(0, 2, 7), (2, 1, POSITIONS), (1, 0, 1), (2, 0, 16), (0, 1, 35)] {
            let (mut cache, mut wanted) = filled(b, precision);
            b.copy_prefix(&mut cache, from, to, positions).unwrap();
            for kv_head in 0..KV_HEADS {
                let source = wanted[from as usize * KV_HEADS + kv_head].clone();
                for (entries, source) in wanted[to as usize * KV_HEADS + kv_head].iter_mut().zip(source) {
                    entries[..positions * HEAD_DIM].copy_from_slice(&source[..positions * HEAD_DIM]);
                }
            }
            assert_eq!(contents(b, &cache, POSITIONS), wanted, "{positions} positions of slot {from} to {to}");
        }
    }
}

/// The default body of the verb, which is its definition.
#[test]
fn a_prefix_is_copied_by_the_definition() {
    a_prefix_is_copied_and_nothing_else(&mut Reference::default());
}

/// A sibling uses what another backend of its device loaded; what it works with is its own.
fn siblings<B: Backend>(b: &mut B) {
    let x = Random(44).floats(4 * 64);
    let gain = b.parameter(&x[..64]).unwrap();
    let mut sibling = b.sibling();
    let (ours, theirs) = (tensor(b, 64, &x), tensor(&mut sibling, 64, &x));
    b.begin(&rows(4));
    sibling.begin(&[Row { sequence: 0, position: 0, wants_logits: true }]);
    let all = poisoned(b, 4, 64, |b, out| b.norm_selected(out, &ours, &gain, 1e-5));
    let first = poisoned(&mut sibling, 1, 64, |b, out| b.norm_selected(out, &theirs, &gain, 1e-5));
    assert_same_bits(&first, &all[..64]);
    assert_eq!(read(b, &ours, x.len()), x);
}

crate::on_every_backend! { siblings }

/// The verbs tell a sampler enough to draw what it draws when it is told all logits, with the same seed.
pub fn samplers_draw_the_same_tokens<B: Backend>(b: &mut B) {
    const COLS: usize = 3001;
    const ROWS: usize = 4;
    let flat = Sampling { top_k: 0, temperature: 1.0, repetition_penalty: 1.0, ..Sampling::default() };
    let samplings = [
        Sampling { top_p: 0.8, ..flat.clone() },
        Sampling { temperature: 0.7, ..flat.clone() },
        Sampling { temperature: 1.5, min_p: 0.01, ..flat.clone() },
        Sampling { top_k: 30, ..flat },
    ];
    let mut logits = Random(45).floats(ROWS * COLS);
    logits
        .chunks_mut(COLS)
        .zip([4.0, 12.0, 30.0, 90.0])
        .for_each(|(row, width)| row.iter_mut().for_each(|v| *v *= width));
    let mut samplers = samplings.each_ref().map(|sampling| sampling.sampler(1, COLS).unwrap());
    let history = History { ids: &[0], prompt: 1 };
    let needs = samplers.each_ref().map(|sampler| sampler.needs(&history));
    let factors = needs.map(|need| match need {
        Need::Totals { temperature, .. } => 1.0 / temperature,
        _ => 1.0,
    });
    let mut tokens = b.tokens(ROWS * MOST_CANDIDATES).unwrap();
    let mut values = b.tensor(ROWS, MOST_CANDIDATES).unwrap();
    let mut totals = b.tensor(ROWS, 2).unwrap();
    for turn in 0..ROWS {
        logits.rotate_left(if turn > 0 { COLS } else { 0 });
        let (given, factors) = (tensor(b, COLS, &logits), tensor(b, 1, &factors));
        b.begin(&rows(ROWS));
        b.top(&mut tokens, &mut values, MOST_CANDIDATES, &given);
        b.totals(&mut totals, &given, &factors);
        let (mut ids, best) = (vec![0; ROWS * MOST_CANDIDATES], read(b, &values, ROWS * MOST_CANDIDATES));
        b.read_tokens(&tokens, &mut ids).unwrap();
        let sums = read(b, &totals, 2 * ROWS);
        for (row, sampler) in samplers.iter_mut().enumerate() {
            let (count, has_totals) = match needs[row] {
                Need::Totals { candidates, .. } => (candidates, true),
                Need::Candidates(count) => (count, false),
                need => panic!("{need:?} needs all logits"),
            };
            let places = row * MOST_CANDIDATES..row * MOST_CANDIDATES + count;
            let sums = [sums[2 * row], sums[2 * row + 1]].map(f64::from);
            let totals = has_totals.then_some(Totals { at_one: sums[0], at_temperature: sums[1] });
            let candidates = Candidates { ids: &ids[places.clone()], logits: &best[places], totals };
            let all = &logits[row * COLS..(row + 1) * COLS];
            for seed in 0..100 {
                let fresh = || Sampling { seed, ..samplings[row].clone() }.sampler(1, COLS).unwrap();
                *sampler = fresh();
                let draw_from_all =
                    |sampler: &mut Box<dyn Sampler>| sampler.draw(Logits::All(&mut all.to_vec()), &history).unwrap();
                let drawn = match sampler.draw(Logits::Best(candidates), &history).unwrap() {
                    Draw::NeedsAll => draw_from_all(sampler),
                    drawn => drawn,
                };
                assert_eq!(drawn, draw_from_all(&mut fresh()), "{:?}, turn {turn}, seed {seed}", samplings[row]);
            }
        }
    }
}

crate::on_every_backend! { samplers_draw_the_same_tokens }
