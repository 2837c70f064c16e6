//! Nobody is kept waiting: those that make tokens make one in every step, and a short prompt does not wait for a long one.

use std::time::Duration;

use sterna::generate::StepBudget;
use sterna::{Loaded, SessionOptions};

use crate::{Outcomes, Random, greedy, run_to_the_end, session};

crate::on_every_device!(
    whoever_makes_tokens_makes_one_in_every_step,
    a_short_prompt_does_not_wait_for_a_long_one,
    equal_prompts_get_their_first_tokens_in_the_order_in_which_they_came,
    no_prompt_waits_for_ever_under_a_stream_of_short_ones,
);

fn whoever_makes_tokens_makes_one_in_every_step(loaded: Loaded) {
    let (random, chunk) = (&mut Random(1), 32);
    let mut session = session(&loaded, 4, chunk);
    let early: Vec<_> = (0..2).map(|_| session.join(greedy(random.ids(5), 60)).unwrap()).collect();
    assert_eq!(session.step(&StepBudget::whole_chunks()).len(), 2);
    let late = session.join(greedy(random.ids(400), 3)).unwrap();
    let mut steps = 0;
    while session.usage(late).is_some_and(|usage| usage.made == 0) {
        let before = session.work();
        let pieces: Vec<_> = session.step(&StepBudget::whole_chunks()).iter().map(|piece| piece.sequence).collect();
        assert_eq!(pieces[..2], early, "a long prompt came, and both go on");
        assert!(session.work().since(&before).rows <= chunk as u64);
        steps += 1;
    }
    assert_eq!(steps, 400usize.div_ceil(chunk - 2), "the rest of each step went to the prompt");
}

fn a_short_prompt_does_not_wait_for_a_long_one(loaded: Loaded) {
    let random = &mut Random(2);
    let mut session = session(&loaded, 3, 32);
    let mut outcomes = Outcomes::default();
    let long = session.join(greedy(random.ids(500), 2)).unwrap();
    outcomes.take(session.step(&StepBudget::default()));
    let short = session.join(greedy(random.ids(20), 2)).unwrap();
    let mut steps = 0;
    while outcomes.of(short).is_empty() {
        outcomes.take(session.step(&StepBudget::default()));
        steps += 1;
    }
    assert!(steps <= 4, "{steps} steps");
    assert!(outcomes.of(long).is_empty());
    run_to_the_end(&mut session, &mut outcomes);
    assert_eq!((outcomes.of(long).len(), outcomes.of(short).len()), (2, 2));
}

fn equal_prompts_get_their_first_tokens_in_the_order_in_which_they_came(loaded: Loaded) {
    let random = &mut Random(3);
    let options = SessionOptions { sequences: 3, chunk: Some(16), ..SessionOptions::default() };
    let mut session = loaded.session(&options).unwrap();
    // More than there are slots: the last ones wait.
    let ids: Vec<_> = (0..8).map(|_| session.join(greedy(random.ids(50), 4)).unwrap()).collect();
    assert_eq!((session.running(), session.waiting()), (0, 8));
    let (mut first, mut outcomes) = (Vec::new(), Outcomes::default());
    while session.running() + session.waiting() > 0 {
        let pieces = session.step(&StepBudget::whole_chunks());
        first.extend(pieces.iter().filter(|piece| outcomes.of(piece.sequence).is_empty()).map(|piece| piece.sequence));
        outcomes.take(pieces);
        assert!(session.running() <= 3);
    }
    assert_eq!(first, ids);
}

fn no_prompt_waits_for_ever_under_a_stream_of_short_ones(loaded: Loaded) {
    let random = &mut Random(4);
    let mut session = session(&loaded, 3, 16);
    let long = session.join(greedy(random.ids(300), 1)).unwrap();
    let mut steps = 0;
    while session.usage(long).is_some() {
        while session.waiting() == 0 {
            session.join(greedy(random.ids(8), 2)).unwrap();
        }
        session.step(&StepBudget::whole_chunks());
        steps += 1;
    }
    // Half of each step's rows that are not of those which make tokens.
    assert!(steps <= 300 / 6, "{steps} steps");
}

/// The time that prompts may take is kept by the speed of the steps before. A time that is over before it began leaves them a
/// row; one that is never over, whole chunks.
#[test]
fn prompts_are_cut_to_the_longest_stall_while_others_make_tokens() {
    let loaded = crate::loaded(crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2));
    for (stall, prompt_rows) in [(Some(Duration::ZERO), 1), (Some(Duration::from_secs(3600)), 63), (None, 63)] {
        let random = &mut Random(5);
        let mut session = session(&loaded, 2, 64);
        let budget = StepBudget { longest_stall: stall, ..StepBudget::default() };
        session.join(greedy(random.ids(100), 50)).unwrap();
        while session.step(&budget).is_empty() {}
        session.join(greedy(random.ids(400), 1)).unwrap();
        for _ in 0..3 {
            let before = session.work();
            session.step(&budget);
            assert_eq!(session.work().since(&before).rows, 1 + prompt_rows, "{stall:?}");
        }
    }
}
