//! Both ends of a model: the embedding, the head and the choice of the best token.

use sterna::backend::MOST_CANDIDATES;
use sterna::backend::{Backend, NO_TOKEN};
use sterna::format::Weights;

use crate::FLOAT_SUM;
use crate::material::{
    Random, assert_close, assert_same_bits, every_kind_of_dense, every_kind_of_scale, pack, poisoned, read, rows,
    tensor,
};
use crate::oracle::reference;

crate::on_every_backend! {
    embed_looks_up_every_kind_of_table
    logits_multiply_every_kind_of_head
    argmax_is_the_first_of_equals
    the_top_are_the_largest_in_order
}

pub fn embed_looks_up_every_kind_of_table<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, table: &[Weights], ids: &[u32]) -> Vec<f32> {
        let w = b.matrix(table).unwrap();
        let mut tokens = b.tokens(ids.len() + 2).unwrap();
        b.write_tokens(&mut tokens, ids);
        b.begin(&rows(ids.len()));
        poisoned(b, ids.len(), table[0].cols(), |b, out| b.embed(out, &w, &tokens))
    }
    let random = &mut Random(9);
    for cols in [96, 640] {
        let mut tables: Vec<Weights> = every_kind_of_dense(random, 50, cols).into_iter().map(Weights::Dense).collect();
        for scales in every_kind_of_scale(random, 50, cols) {
            tables.push(pack(50, cols, &random.trits(50 * cols), scales));
        }
        for table in tables {
            for count in [1, 40] {
                let ids: Vec<u32> = (0..count).map(|i| (i * 29 + 99) % 100).collect();
                let parts = [table.clone(), table.clone()];
                assert_same_bits(&run(backend, &parts, &ids), &reference(|r| run(r, &parts, &ids)));
            }
        }
    }
}

fn logits_of<B: Backend>(b: &mut B, head: &[Weights], x: &[f32]) -> Vec<f32> {
    let cols = head[0].cols();
    let (w, x_tensor) = (b.matrix(head).unwrap(), tensor(b, cols, x));
    // Every other row of the step wants logits.
    let mut step = rows(2 * (x.len() / cols));
    step.iter_mut().for_each(|row| row.wants_logits = row.position % 2 == 0);
    b.begin(&step);
    let outputs = head.iter().map(Weights::rows).sum();
    poisoned(b, x.len() / cols, outputs, |b, out| b.logits(out, &w, &x_tensor))
}

fn logits_multiply_every_kind_of_head<B: Backend>(backend: &mut B) {
    let random = &mut Random(10);
    for cols in [96, 128, 135, 200, 2560] {
        let heads = every_kind_of_dense(random, 301, cols);
        for head in heads {
            for count in [1, 2, 3, 5, 8, 9] {
                let x = random.floats(count * cols);
                let parts = [Weights::Dense(head.clone())];
                let theirs = reference(|r| logits_of(r, &parts, &x));
                assert_close(&logits_of(backend, &parts, &x), &theirs, FLOAT_SUM);
            }
        }
    }
}

pub fn argmax_is_the_first_of_equals<B: Backend>(backend: &mut B) {
    let cols = 1003;
    let nan = f32::NAN;
    let mut logits = Random(11).floats(6 * cols);
    logits[cols + 700] = 2.0;
    logits[cols + 300] = 2.0;
    logits[2 * cols..3 * cols].fill(nan);
    logits[3 * cols] = nan;
    logits[4 * cols + 900] = f32::INFINITY;
    logits[5 * cols + 5] = f32::NEG_INFINITY;
    fn argmax<B: Backend>(b: &mut B, cols: usize, logits: &[f32]) -> Vec<u32> {
        let count = logits.len() / cols;
        let (mut tokens, logits) = (b.tokens(count + 1).unwrap(), tensor(b, cols, logits));
        b.begin(&rows(count));
        b.argmax(&mut tokens, &logits);
        let mut ids = vec![0; count + 1];
        b.read_tokens(&tokens, &mut ids).unwrap();
        assert_eq!(ids.pop(), Some(u32::MAX), "nothing is written beyond the selected rows");
        ids
    }
    let ours = argmax(backend, cols, &logits);
    assert_eq!(ours, reference(|r| argmax(r, cols, &logits)));
    assert_eq!((ours[1], &ours[2..]), (300, &[NO_TOKEN; 4][..]), "one logit that is not finite, no token");
}

pub fn the_top_are_the_largest_in_order<B: Backend>(backend: &mut B) {
    fn top<B: Backend>(b: &mut B, cols: usize, count: usize, logits: &[f32]) -> (Vec<u32>, Vec<u32>) {
        let rows_of = logits.len() / cols;
        let (mut tokens, logits) = (b.tokens(rows_of * MOST_CANDIDATES).unwrap(), tensor(b, cols, logits));
        let mut values = b.tensor(rows_of, MOST_CANDIDATES).unwrap();
        b.begin(&rows(rows_of));
        b.top(&mut tokens, &mut values, count, &logits);
        let mut ids = vec![0; rows_of * MOST_CANDIDATES];
        b.read_tokens(&tokens, &mut ids).unwrap();
        let values = read(b, &values, rows_of * MOST_CANDIDATES);
        let kept = |place: usize| place % MOST_CANDIDATES < count;
        let bits = values.iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, v)| v.to_bits()).collect();
        (ids.iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, id)| *id).collect(), bits)
    }
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for cols in [1, 100, 256, 5003] {
        let random = &mut Random(24);
        let mut logits = random.floats(8 * cols);
        // Many equals; all equal; NaN; −∞ but for one; zeros of both signs; one infinity; tiny ones.
        logits[cols..2 * cols].iter_mut().for_each(|v| *v = (*v * 4.0).round() / 4.0 + 0.0);
        logits[2 * cols..3 * cols].fill(-7.5);
        logits[3 * cols..4 * cols].fill(nan);
        logits[4 * cols..5 * cols].fill(-inf);
        logits[5 * cols - 1] = 3.0;
        logits[5 * cols..6 * cols].iter_mut().enumerate().for_each(|(i, v)| *v = if i % 2 == 0 { 0.0 } else { -0.0 });
        logits[6 * cols + cols / 2] = inf;
        logits[7 * cols..].iter_mut().for_each(|v| *v *= 1e-39);
        for count in [1, 2, 40, 255, 256] {
            let ours = top(backend, cols, count, &logits);
            let theirs = reference(|r| top(r, cols, count, &logits));
            assert_eq!(ours.0, theirs.0, "the best {count} of {cols}");
            let [ours, theirs] = [&ours.1, &theirs.1].map(|bits| bits.iter().map(|&bits| f32::from_bits(bits)));
            let differ = ours.zip(theirs).find(|(a, b)| a != b && !(a.is_nan() && b.is_nan()));
            assert_eq!(differ, None, "the best {count} of {cols}");
        }
    }
}
