//! A running session allocates nothing for a token, below the text: neither the steps of a transformer, nor the session
//! with its lists of ids. The allocations of all threads count, as the pool's threads work, too; so this is a program
//! without the test harness, whose own thread would add some.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sterna::backend::{CachePrecision, Row};
use sterna::cpu::{Cpu, CpuOptions, KernelSet, Screening};
use sterna::generate::{GenerateOptions, Prompt, Sampling, Session, SessionOptions, StepBudget};
use sterna::model::{Model, SyntheticShape};
use sterna::transformer::{Capacity, Input, State, Transformer, Wanted};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads since the start.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all requests go to `System` unchanged; beside that only a counter is updated. The provided `realloc` and
// `alloc_zeroed` are made of these two, so that growing counts, too.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, because `alloc` above is the only source.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The allocations of all threads during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Tokens of each generation: more than the window of the repetition penalty.
const TOKENS: usize = 80;
/// Steps of each kind.
const STEPS: u32 = 6;

fn main() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1, "they are counted");
    let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf")).unwrap();
    for kernels in KernelSet::available() {
        for (threads, screening) in [(1, Screening::Never), (3, Screening::Never), (3, Screening::Always)] {
            let options =
                CpuOptions { threads: Some(threads), kernels: Some(kernels), screening, ..CpuOptions::default() };
            let cpu = || Cpu::new(&options).expect("this CPU has the kernels");
            let what = format!("{kernels}, {threads} threads, screening {screening:?}");
            a_token_of_a_session_allocates_nothing(&model, cpu(), &what);
            a_step_of_several_sequences_allocates_nothing(&model, cpu(), &what);
            a_step_with_sequences_that_come_and_go_allocates_nothing(cpu(), &what);
        }
    }
    // Recurrent layers in a rotated basis, and experts.
    for file in ["qwen35-hadamard-v1/pq2_0.gguf", "maple-256/mixed.gguf"] {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(file)).unwrap();
        for threads in [1, 3] {
            let cpu = || Cpu::new(&CpuOptions { threads: Some(threads), ..CpuOptions::default() }).unwrap();
            let what = format!("{file}, {threads} threads");
            a_token_of_a_session_allocates_nothing(&model, cpu(), &what);
            a_step_of_several_sequences_allocates_nothing(&model, cpu(), &what);
        }
    }
    println!("a running session allocates nothing for a token ... ok");
}

/// All tokens but the first, for each way to draw them.
fn a_token_of_a_session_allocates_nothing(model: &Model, cpu: Cpu, what: &str) {
    let options = SessionOptions { context: Some(100), ..SessionOptions::default() };
    let mut session = Session::with_backend(model, cpu, &options).unwrap();
    let mut generate = |sampling: &Sampling| {
        let sampling = sampling.clone();
        let options = GenerateOptions { sampling, max_tokens: TOKENS, ignore_end: true, ..GenerateOptions::default() };
        session.clear();
        let mut ids = session.generate_ids(&[1, 2, 3], &options).unwrap();
        ids.next().unwrap().unwrap();
        allocations(|| assert_eq!(ids.map(Result::unwrap).count(), TOKENS - 1))
    };
    // Meanwhile the threads have begun, which allocate for themselves.
    generate(&Sampling::greedy());
    let candidates = Sampling { repetition_penalty: 1.1, ..Sampling::default() };
    let logits = Sampling { top_k: 0, ..Sampling::default() };
    for sampling in [Sampling::greedy(), candidates, logits] {
        assert_eq!(generate(&sampling), 0, "{sampling:?}, {what}");
    }
}

/// Sequences that wait, read, make tokens in every way, end and are cancelled, on a model without text: joining makes room, no step
/// does.
fn a_step_with_sequences_that_come_and_go_allocates_nothing(cpu: Cpu, what: &str) {
    let model = Model::synthetic(SyntheticShape::Tales4M, 1);
    let options = SessionOptions { sequences: 3, context: Some(100), chunk: Some(24), ..SessionOptions::default() };
    let mut session = Session::with_backend(&model, cpu, &options).unwrap();
    let flat = Sampling { top_k: 0, temperature: 1.0, repetition_penalty: 1.0, ..Sampling::default() };
    let samplings = [
        Sampling::greedy(),
        Sampling::default(),
        flat.clone(),
        Sampling { top_p: 0.9, ..flat.clone() },
        Sampling { frequency_penalty: 0.5, logit_bias: vec![(3, 1.0)], ..flat },
    ];
    let mut come_and_go = || -> usize {
        session.clear();
        let mut counted = 0;
        for turn in 0..40u32 {
            if turn < 15 {
                let sampling = samplings[turn as usize % samplings.len()].clone();
                let options = GenerateOptions { sampling, max_tokens: 4 + turn as usize, ..GenerateOptions::default() };
                let ids = (0..5 + 3 * turn).map(|i| 1 + i * (turn + 1) % 2000).collect();
                let id = session.join(Prompt { ids, options }).unwrap();
                if turn % 4 == 3 {
                    session.leave(id - 1);
                }
            }
            counted += allocations(|| _ = black_box(session.step(&StepBudget::default()).len()));
        }
        while session.running() + session.waiting() > 0 {
            counted += allocations(|| _ = black_box(session.step(&StepBudget::default()).len()));
        }
        counted
    };
    // The first time, room is made and threads begin.
    come_and_go();
    assert_eq!(come_and_go(), 0, "{what}");
}

/// Chunks of a prompt, and tokens of three sequences: all steps but the first ones.
fn a_step_of_several_sequences_allocates_nothing(model: &Model, mut cpu: Cpu, what: &str) {
    let capacity = Capacity { rows: 40, selected: 3, sequences: 3, positions: 100, cache: CachePrecision::F16 };
    let transformer = Transformer::load(&mut cpu, model, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let mut state = State::new(&mut cpu, &transformer, capacity).unwrap();
    let mut steps = |wanted, len, wants_logits| -> usize {
        let step = |first: u32| {
            let row = |i: u32| Row { sequence: i % 3, position: first + i / 3, wants_logits };
            let (rows, tokens): (Vec<Row>, Vec<u32>) = (0..len).map(|i| (row(i), 7)).unzip();
            allocations(|| transformer.forward(&mut cpu, &mut state, Input::Ids(&tokens), &rows, wanted))
        };
        (0..STEPS).map(step).sum()
    };
    let all = [Wanted::Best, Wanted::Candidates(40), Wanted::Totals(256), Wanted::Logits, Wanted::Features];
    let mut kinds = all.map(|wanted| (wanted, 3, true)).to_vec();
    kinds.push((Wanted::Nothing, 40, false));
    // The first time, room is made and threads begin.
    for &(wanted, len, wants_logits) in &kinds {
        steps(wanted, len, wants_logits);
    }
    for &(wanted, len, wants_logits) in &kinds {
        assert_eq!(steps(wanted, len, wants_logits), 0, "{wanted:?}, {len} rows, {what}");
    }
}
