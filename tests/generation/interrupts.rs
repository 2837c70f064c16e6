//! A step that is left off computes nothing, and whoever goes on gets what he would have got.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sterna::backend::Backend;
use sterna::generate::{GenerateOptions, Prompt, Session, SessionOptions, StepBudget};
use sterna::{Device, Error, Interrupt};

use crate::common::{gpu, shipped_model};

crate::on_every_backend! {
    an_interrupted_step_computes_nothing_and_the_next_begins_it_again,
    interrupts_at_any_time_change_no_token,
    prompts_read_ahead_stay_as_far_as_they_came,
}

/// A prompt of several chunks.
fn prompt() -> Vec<u32> {
    (0..200).map(|i| (i * 37 + 11) % 1000).collect()
}

fn session<B: Backend + 'static>(backend: B, interrupt: &Interrupt) -> Session {
    let options = SessionOptions { chunk: Some(64), interrupt: interrupt.clone(), ..SessionOptions::default() };
    Session::with_backend(&shipped_model(), backend, &options).unwrap()
}

fn greedy() -> GenerateOptions {
    GenerateOptions { max_tokens: 8, ignore_end: true, ..GenerateOptions::greedy() }
}

fn an_interrupted_step_computes_nothing_and_the_next_begins_it_again<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = prompt();
    let interrupt = Interrupt::new();
    let mut session = session(make(), &interrupt);
    let undisturbed: Vec<u32> = session.generate_ids(&ids, &greedy()).unwrap().map(Result::unwrap).collect();
    session.clear();

    let sequence = session.join(Prompt { ids: ids.clone(), options: greedy() }).unwrap();
    let (mut made, mut interrupted) = (Vec::new(), 0);
    // Every other step is interrupted before it begins.
    for step in 0.. {
        let before = session.usage(sequence);
        let Some(before) = before else { break };
        let timings = session.timings();
        if step % 2 == 0 {
            interrupt.set();
        }
        let pieces: Vec<_> = session.step(&StepBudget::whole_chunks()).to_vec();
        assert_eq!(session.was_interrupted(), step % 2 == 0);
        assert!(!interrupt.is_set(), "it was heeded");
        if session.was_interrupted() {
            assert!(pieces.is_empty());
            assert_eq!(session.usage(sequence), Some(before), "nothing is reported that was not done");
            let after = session.timings();
            assert_eq!(after.prefill_tokens, timings.prefill_tokens);
            assert_eq!(after.decode_tokens, timings.decode_tokens);
            interrupted += 1;
        }
        made.extend(pieces.iter().filter_map(|piece| piece.id));
    }
    assert_eq!((made, interrupted), (undisturbed, 4 + 7), "three chunks and the rest, then a step a token");
}

fn interrupts_at_any_time_change_no_token<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = prompt();
    let interrupt = Interrupt::new();
    let mut session = session(make(), &interrupt);
    let undisturbed: Vec<u32> = session.generate_ids(&ids, &greedy()).unwrap().map(Result::unwrap).collect();
    let done = AtomicBool::new(false);
    let mut heeded = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // At times that have nothing to do with the steps; ever rarer, so that the session comes to its end.
            let mut pause = Duration::from_micros(300);
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(pause);
                interrupt.set();
                pause += pause / 8;
            }
        });
        session.clear();
        let mut made = Vec::new();
        for token in session.generate_ids(&ids, &greedy()).unwrap() {
            match token {
                Ok(id) => made.push(id),
                Err(Error::Interrupted) => heeded += 1,
                Err(error) => panic!("{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(made, undisturbed, "{heeded} interrupts");
    });
    assert!(heeded > 0, "the first comes while the prompt is read");
}

fn prompts_read_ahead_stay_as_far_as_they_came<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = prompt();
    let interrupt = Interrupt::new();
    let mut session = session(make(), &interrupt);
    let outcome = session.prefill(&ids, &mut |done, _| {
        if done >= 128 {
            interrupt.set();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    let sequence = session.join(Prompt { ids: ids.clone(), options: greedy() }).unwrap();
    session.step(&StepBudget::whole_chunks());
    assert_eq!(session.usage(sequence).map(|usage| usage.cached), Some(128));
}

#[test]
fn loading_stops_between_layers() {
    let model = shipped_model();
    let mut devices = vec![Device::cpu()];
    devices.extend(gpu::devices(Default::default()).iter().map(|gpu| Device::named(&gpu.adapter().name()).unwrap()));
    for device in devices {
        for stop_at in [0, 2] {
            let mut told = Vec::new();
            let outcome = model.load_with_progress(&device, &mut |done, _| {
                told.push(done);
                if done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(matches!(outcome, Err(Error::Interrupted)));
            assert_eq!(told.last(), Some(&stop_at), "nothing is done after that");
        }
    }
}
