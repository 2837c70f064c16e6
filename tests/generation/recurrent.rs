//! A model whose layers hold the state of the latest position alone: whoever continues, leaves, is interrupted or comes after another
//! gets what he would have got in an empty session, and what is found again is the whole of what was computed.

use sterna::backend::{Backend, CachePrecision, Numerics};
use sterna::generate::{GenerateOptions, Prompt, PromptLookup, Session, SessionOptions, StepBudget};
use sterna::model::{Model, OpenOptions};
use sterna::{Error, Interrupt};

use crate::common::data;

crate::on_every_backend! {
    a_text_that_goes_on_finds_all_that_was_computed,
    another_end_finds_nothing_and_gets_the_same,
    a_conversation_that_leaves_out_a_thought_goes_on_from_the_snapshot,
    who_leaves_leaves_a_state_behind,
    a_running_sequence_is_copied_as_it_stands,
    interrupts_change_no_token,
    nothing_is_drafted,
}

fn session<B: Backend + 'static>(backend: B, sequences: usize, interrupt: &Interrupt) -> Session {
    let options = OpenOptions { numerics: Some(Numerics::Float), ..OpenOptions::default() };
    let model = Model::open_with(data("golden/qwen35-128/q2_0_g128.gguf"), &options).unwrap();
    let options = SessionOptions {
        cache: CachePrecision::F32,
        context: Some(256),
        chunk: Some(48),
        sequences,
        interrupt: interrupt.clone(),
        ..SessionOptions::default()
    };
    Session::with_backend(&model, backend, &options).unwrap()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_end: true, ..GenerateOptions::greedy() }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % 509).collect()
}

/// The ids that a session makes, and how many of the prompt's it found.
fn continued(session: &mut Session, ids: &[u32], max_tokens: usize) -> (Vec<u32>, usize) {
    let prompt = Prompt { ids: ids.to_vec(), options: greedy(max_tokens) };
    let (mut made, mut cached) = (Vec::new(), 0);
    for piece in session.generate_batch(&[prompt]).unwrap() {
        let piece = piece.unwrap();
        (cached, made) = (piece.usage.cached, [made, piece.id.into_iter().collect()].concat());
    }
    (made, cached)
}

fn a_text_that_goes_on_finds_all_that_was_computed<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (mut ids, interrupt) = (prompt(60), Interrupt::new());
    let mut session = session(make(), 1, &interrupt);
    for turn in 0..3 {
        let known = ids.len();
        let (made, cached) = continued(&mut session, &ids, 5);
        let wanted = continued(&mut self::session(make(), 1, &interrupt), &ids, 5);
        assert_eq!((&made, wanted.1), (&wanted.0, 0), "turn {turn}");
        // All but the two ids that were new, and the one whose logits the turn begins with.
        assert_eq!(cached, if turn == 0 { 0 } else { known - 3 }, "turn {turn}");
        ids.extend(made);
        ids.extend([7 + turn, 300]);
    }
}

fn another_end_finds_nothing_and_gets_the_same<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (ids, interrupt) = (prompt(60), Interrupt::new());
    let mut session = session(make(), 1, &interrupt);
    let first = continued(&mut session, &ids, 6);
    assert_eq!(continued(&mut session, &ids, 6), first, "the state stands behind the prompt");
    let shorter = continued(&mut session, &ids[..40], 6);
    assert_eq!(shorter, continued(&mut self::session(make(), 1, &interrupt), &ids[..40], 6));
    session.clear();
    assert_eq!(continued(&mut session, &ids, 6), first);
}

fn a_conversation_that_leaves_out_a_thought_goes_on_from_the_snapshot<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (ids, interrupt) = (prompt(150), Interrupt::new());
    let alone = |ids: &[u32]| continued(&mut session(make(), 1, &interrupt), ids, 5).0;
    let mut session = session(make(), 2, &interrupt);
    assert_eq!(continued(&mut session, &ids, 30).0[..5], alone(&ids));
    // The last ids of the prompt, and all that was made, are not part of the next one.
    let next = [&ids[..145], &[3, 400, 77], &prompt(40)[20..]].concat();
    assert_eq!(continued(&mut session, &next, 5), (alone(&next), 134));
    // Once more from the same place, and by way of another slot: while one runs, the other gets a copy.
    let others = [5, 6].map(|end| [&next[..160], &[end; 12]].concat());
    let prompts = others.clone().map(|ids| Prompt { ids, options: greedy(5) });
    let (mut made, mut cached) = ([Vec::new(), Vec::new()], [0; 2]);
    for piece in session.generate_batch(&prompts).unwrap() {
        let piece = piece.unwrap();
        made[piece.sequence].extend(piece.id);
        cached[piece.sequence] = piece.usage.cached;
    }
    assert_eq!((made, cached), (others.map(|ids| alone(&ids)), [152, 152]));
}

fn who_leaves_leaves_a_state_behind<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (ids, interrupt) = (prompt(60), Interrupt::new());
    // In the midst of the prompt, and of what is made.
    for steps in [1, 4] {
        let mut session = session(make(), 1, &interrupt);
        let sequence = session.join(Prompt { ids: ids.clone(), options: greedy(20) }).unwrap();
        let mut known = ids.clone();
        for _ in 0..steps {
            known.extend(session.step(&StepBudget::whole_chunks()).iter().filter_map(|piece| piece.id));
        }
        assert!(session.leave(sequence));
        session.step(&StepBudget::whole_chunks());
        known.push(9);
        let (made, cached) = continued(&mut session, &known, 5);
        assert_eq!(cached, if steps == 1 { 48 } else { known.len() - 2 });
        assert_eq!(made, continued(&mut self::session(make(), 1, &interrupt), &known, 5).0);
    }
}

fn a_running_sequence_is_copied_as_it_stands<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (ids, interrupt) = (prompt(150), Interrupt::new());
    let mut session = session(make(), 2, &interrupt);
    let budget = StepBudget::whole_chunks();
    let first = session.join(Prompt { ids: ids.clone(), options: greedy(9) }).unwrap();
    let mut made = [Vec::new(), Vec::new()];
    while made[0].len() < 3 {
        made[0].extend(session.step(&budget).iter().filter_map(|piece| piece.id));
    }
    let other = [&ids[..], &made[0], &[21, 22]].concat();
    let second = session.join(Prompt { ids: other.clone(), options: greedy(6) }).unwrap();
    let mut cached = 0;
    while session.running() + session.waiting() > 0 {
        for piece in session.step(&budget) {
            made[usize::from(piece.sequence == second)].extend(piece.id);
            cached = if piece.sequence == second { piece.usage.cached } else { cached };
        }
    }
    assert_eq!(cached, ids.len() + 2, "what the first had computed then");
    assert_ne!(first, second);
    assert_eq!(made[0], continued(&mut self::session(make(), 1, &interrupt), &ids, 9).0);
    assert_eq!(made[1], continued(&mut self::session(make(), 1, &interrupt), &other, 6).0);
}

fn interrupts_change_no_token<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let (ids, interrupt) = (prompt(60), Interrupt::new());
    let mut session = session(make(), 2, &interrupt);
    let wanted = continued(&mut session, &ids, 5).0;
    session.clear();
    let sequence = session.join(Prompt { ids: ids.clone(), options: greedy(5) }).unwrap();
    let (mut made, mut usage) = (Vec::new(), None);
    for step in 0.. {
        assert!(step < 100, "the sequence starts over for ever");
        // Steps that read the prompt and steps that make tokens, after which all is read again.
        if [1, 4, 9].contains(&step) {
            interrupt.set();
        }
        let is_interrupted = [1, 4, 9].contains(&step);
        for piece in session.step(&StepBudget::whole_chunks()) {
            made.extend(piece.id);
            usage = Some(piece.usage);
        }
        assert_eq!(session.was_interrupted(), is_interrupted, "step {step}");
        if session.usage(sequence).is_none() {
            break;
        }
    }
    assert_eq!(made, wanted);
    let usage = usage.unwrap();
    assert_eq!((usage.cached, usage.computed), (0, ids.len() + usage.made - 1), "what was lost does not count");
    // Nothing of a prompt that was read ahead stays, as its state is that of no position.
    let ids = prompt(200);
    let outcome = session.prefill(&ids, &mut |done, _| {
        if done >= 96 {
            interrupt.set();
        }
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    assert_eq!(continued(&mut session, &ids, 3), (continued(&mut self::session(make(), 1, &interrupt), &ids, 3).0, 0));
}

fn nothing_is_drafted<B: Backend + 'static>(make: &dyn Fn() -> B) {
    // A text that says the same again and again, whose next tokens are likely.
    let ids: Vec<u32> = prompt(12).repeat(4);
    let mut session = session(make(), 1, &Interrupt::new());
    let wanted = continued(&mut session, &ids, 8).0;
    let options = GenerateOptions { lookup: PromptLookup::Always, ..greedy(8) };
    let mut made = Vec::new();
    for piece in session.generate_batch(&[Prompt { ids, options }]).unwrap() {
        let piece = piece.unwrap();
        made.extend(piece.id);
        assert_eq!((piece.usage.drafted, piece.usage.accepted), (0, 0));
    }
    assert_eq!(made, wanted);
}
