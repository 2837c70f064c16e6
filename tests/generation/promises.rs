//! The promises of a session: chunks, prefixes and threads change nothing; seeds repeat.

use std::ops::ControlFlow;

use sterna::backend::{Backend, Reads, Work};
use sterna::cpu::{CpuOptions, KernelSet};
use sterna::generate::{GenerateOptions, Reuse, Sampling, Session, SessionOptions};
use sterna::{Device, Error};

use crate::common::shipped_model;
use crate::{TEXTS, collect, prompt};

crate::on_every_backend!(
    a_prompt_in_chunks_gives_the_logits_of_one_by_one,
    a_text_in_pieces_gives_the_logits_of_the_whole,
    logits_of_all_positions_come_from_the_kernels_of_prompts,
    a_reused_prefix_changes_nothing,
    an_interrupted_prefill_can_be_continued,
);

fn session<B: Backend + 'static>(backend: B, chunk: usize) -> Session {
    Session::with_backend(
        &shipped_model(),
        backend,
        &SessionOptions { chunk: Some(chunk), ..SessionOptions::default() },
    )
    .unwrap()
}

fn cpu_session(threads: usize, kernels: KernelSet) -> Session {
    let device =
        Device::cpu_with(CpuOptions { threads: Some(threads), kernels: Some(kernels), ..CpuOptions::default() });
    Session::new(&shipped_model(), &device, &SessionOptions::default()).unwrap()
}

fn logits(mut session: Session, ids: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    session.evaluate(ids, &mut |_, row| bits.extend(row.iter().map(|v| v.to_bits()))).unwrap();
    bits
}

fn a_prompt_in_chunks_gives_the_logits_of_one_by_one<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = prompt(TEXTS[2], 0, 1).ids;
    let one_by_one = logits(session(make(), 1), &ids);
    for chunk in [2, 7, 16, 26, 128] {
        assert!(logits(session(make(), chunk), &ids) == one_by_one, "chunks of {chunk} differ, bit for bit");
    }
}

fn a_text_in_pieces_gives_the_logits_of_the_whole<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = prompt(TEXTS[2], 0, 1).ids;
    let whole = logits(session(make(), 16), &ids);
    let (mut session, mut pieces, mut places) = (session(make(), 16), Vec::new(), Vec::new());
    for first in (0..ids.len()).step_by(5) {
        let piece = first..ids.len().min(first + 5);
        let mut take = |position, row: &[f32]| {
            places.push(position);
            pieces.extend(row.iter().map(|v| v.to_bits()));
        };
        let before = session.work().rows;
        session.evaluate_range(&ids, piece.clone(), Reuse::Shared, &mut take).unwrap();
        let rows = session.work().rows - before;
        // The reference counts nothing.
        assert!([0, piece.len() as u64].contains(&rows), "what comes before is found, and {rows} rows are computed");
        // Something else comes between, and may take the place.
        let _ = session.logits(&[9; 3]).unwrap();
        let _ = session.prefill(&ids[..piece.end], &mut |_, _| ControlFlow::Continue(())).unwrap();
    }
    assert!(places.into_iter().eq(0..ids.len()) && pieces == whole);
    let mut none = |_, _: &[f32]| panic!("there are no such positions");
    assert!(matches!(session.evaluate_range(&ids, 0..ids.len() + 1, Reuse::Shared, &mut none), Err(Error::Input(_))));
    session.evaluate_range(&ids, 3..3, Reuse::Shared, &mut none).unwrap();
}

/// What the logits of every position are evidence of: the kernels of many rows, not those of few.
fn logits_of_all_positions_come_from_the_kernels_of_prompts<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids: Vec<u32> = (0..100).map(|i| 5 + 17 * i).collect();
    let mut session = session(make(), 128);
    let multipliers = |work: Work| -> Vec<&str> {
        let mut names: Vec<&str> =
            work.kernels.iter().filter(|kernel| kernel.reads == Reads::Trits).map(|kernel| kernel.name).collect();
        names.sort_unstable();
        names
    };
    let before = session.work();
    let _ = session.prefill(&ids, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let read = session.work();
    session.evaluate(&ids, &mut |_, _| {}).unwrap();
    let evaluated = session.work().since(&read);
    let read = multipliers(read.since(&before));
    let device = session.device();
    assert_eq!(multipliers(evaluated), read, "{device}");
    for (kind, kernel) in
        [("avx2", "span_codes"), ("avx512-vnni", "span_codes"), ("amx", "span_codes"), ("gpu", "matmul")]
    {
        assert!(!device.contains(kind) || read.contains(&kernel), "{device}: {read:?}");
    }
}

fn a_reused_prefix_changes_nothing<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let long = prompt(TEXTS[2], 3, 12);
    let mut branch = long.clone();
    branch.ids.truncate(long.ids.len() / 2);
    let fresh = |p: &_| collect(session(make(), 128).generate_batch(std::slice::from_ref(p)).unwrap(), 1);
    let mut reused = session(make(), 128);
    // The same prompt again, a shorter one, and the longer one after it: each shares a prefix with the one before.
    for p in [&long, &long, &branch, &long] {
        let mut batch = reused.generate_batch(std::slice::from_ref(p)).unwrap();
        let pieces: Vec<_> = batch.by_ref().map(|piece| piece.unwrap()).collect();
        assert!(batch.timings().prefill_tokens <= p.ids.len());
        let ids: Vec<u32> = pieces.iter().filter_map(|piece| piece.id).collect();
        assert_eq!(ids, fresh(p)[0].ids);
    }
    let mut again = reused.generate_batch(std::slice::from_ref(&long)).unwrap();
    again.next().unwrap().unwrap();
    assert_eq!(again.timings().prefill_tokens, 1, "only the last token of a known prompt is computed");
}

fn an_interrupted_prefill_can_be_continued<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let long = prompt(TEXTS[2], 3, 12);
    let mut session = session(make(), 4);
    let outcome = session.prefill(&long.ids, &mut |done, total| {
        assert!(done <= total && total == long.ids.len());
        if done >= 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(outcome.unwrap(), ControlFlow::Break(()));
    let mut batch = session.generate_batch(std::slice::from_ref(&long)).unwrap();
    batch.next().unwrap().unwrap();
    assert_eq!(batch.timings().prefill_tokens, long.ids.len() - 8, "the first two chunks are not computed again");
    drop(batch);
    session.clear();
    let outputs = collect(session.generate_batch(std::slice::from_ref(&long)).unwrap(), 1);
    let fresh = collect(session.generate_batch(std::slice::from_ref(&long)).unwrap(), 1);
    assert_eq!(outputs, fresh);
}

#[test]
fn ids_do_not_depend_on_the_number_of_threads_or_the_run() {
    for kernels in KernelSet::available() {
        let run = |threads| {
            let options = GenerateOptions {
                sampling: Sampling { seed: 42, temperature: 1.0, ..Sampling::default() },
                max_tokens: 40,
                ..GenerateOptions::default()
            };
            let mut session = cpu_session(threads, kernels);
            let ids: Vec<u32> =
                session.generate_ids(&prompt(TEXTS[0], 0, 0).ids, &options).unwrap().collect::<Result<_, _>>().unwrap();
            ids
        };
        let first = run(1);
        assert_eq!(first.len(), 40);
        for threads in [1, 2, 3, 8] {
            assert_eq!(run(threads), first, "{kernels} with {threads} threads");
        }
    }
}

#[test]
fn different_seeds_tell_different_stories() {
    let mut session = cpu_session(2, KernelSet::Portable);
    let mut tell = |seed| collect(session.generate_batch(&[prompt(TEXTS[0], seed, 30)]).unwrap(), 1)[0].text.clone();
    assert_ne!(tell(1), tell(2));
}

#[test]
fn text_and_ids_agree() {
    let model = shipped_model();
    let mut session = cpu_session(2, KernelSet::Portable);
    let options = GenerateOptions { max_tokens: 60, ..GenerateOptions::default() };
    let mut stream = session.generate(TEXTS[0], &options).unwrap();
    let text: String = stream.by_ref().map(|piece| piece.unwrap()).collect();
    assert_eq!(stream.ids().len(), 60);
    assert_eq!(text, model.tokenizer().unwrap().decode(stream.ids()));
}

#[test]
fn impossible_requests_are_errors_that_say_what_is_possible() {
    let model = shipped_model();
    let context = model.config().context;
    let with = |options: SessionOptions| Session::new(&model, &Device::cpu(), &options).unwrap_err().to_string();
    for (options, text) in [
        (SessionOptions { context: Some(context + 1), ..Default::default() }, "context of 513"),
        (SessionOptions { context: Some(0), ..Default::default() }, "context of 0"),
        (SessionOptions { sequences: 0, ..Default::default() }, "number of sequences of 0"),
        (SessionOptions { sequences: usize::MAX, ..Default::default() }, "number of sequences"),
        (SessionOptions { chunk: Some(0), ..Default::default() }, "chunk of 0"),
    ] {
        let error = with(options);
        assert!(error.contains(text), "{error}");
    }
    let mut session = cpu_session(1, KernelSet::Portable);
    let options = GenerateOptions::default();
    let mut refused = |ids: &[u32]| match session.generate_ids(ids, &options) {
        Err(Error::Input(text)) => text,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert!(refused(&[]).contains("no tokens"));
    assert!(refused(&[5, 2048]).contains("2048 is outside the vocabulary of 2048"));
    assert!(refused(&vec![1; context + 1]).contains("513 tokens do not fit"));
}
