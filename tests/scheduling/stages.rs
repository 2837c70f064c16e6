//! Sequences end in every stage, by their own, by others or by what they meet, and leave nothing behind but what is cached.

use std::sync::{Arc, Mutex};

use sterna::generate::{Draw, Finish, GenerateOptions, History, Logits, Need, Prompt, Sampler, StepBudget};
use sterna::{Error, Loaded, Result, SessionOptions};

use crate::{Outcomes, Random, greedy, run_to_the_end, session};

crate::on_every_device!(
    a_sequence_can_leave_in_every_stage,
    a_context_exactly_full_gives_one_token,
    a_sampler_that_fails_ends_its_own_sequence,
    more_than_may_wait_are_refused,
    one_that_is_held_keeps_its_place_and_others_go_on,
);

fn a_sequence_can_leave_in_every_stage(loaded: Loaded) {
    let random = &mut Random(21);
    let mut session = session(&loaded, 2, 16);
    let others: Vec<_> = (0..2).map(|_| greedy(random.ids(30), 100)).collect();
    let mut outcomes = Outcomes::default();
    let reading = session.join(others[0].clone()).unwrap();
    let making = session.join(greedy(random.ids(2), 100)).unwrap();
    let waiting = session.join(others[1].clone()).unwrap();
    outcomes.take(session.step(&StepBudget::whole_chunks()));
    assert_eq!((session.running(), session.waiting()), (2, 1));
    assert_eq!((outcomes.of(making).len(), outcomes.of(reading).len()), (1, 0));
    for id in [reading, making, waiting] {
        assert!(session.leave(id));
        assert!(!session.leave(id), "it is gone");
    }
    assert_eq!((session.running(), session.waiting()), (0, 0));
    outcomes.take(session.step(&StepBudget::whole_chunks()));
    assert!([reading, making, waiting].iter().all(|&id| outcomes.finish(id) == Some(Finish::Cancelled)));
    assert!(session.step(&StepBudget::whole_chunks()).is_empty(), "it is told once");
    // Whoever comes next gets what it gets alone.
    let id = session.join(others[0].clone()).unwrap();
    let wanted = {
        let mut alone = crate::session(&loaded, 1, 16);
        let (id, mut outcomes) = (alone.join(others[0].clone()).unwrap(), Outcomes::default());
        run_to_the_end(&mut alone, &mut outcomes);
        outcomes.of(id).to_vec()
    };
    run_to_the_end(&mut session, &mut outcomes);
    assert_eq!(outcomes.of(id), wanted);
}

fn a_context_exactly_full_gives_one_token(loaded: Loaded) {
    let random = &mut Random(22);
    let options = SessionOptions { sequences: 2, context: Some(40), chunk: Some(16), ..SessionOptions::default() };
    let mut session = loaded.session(&options).unwrap();
    let mut outcomes = Outcomes::default();
    let other = session.join(greedy(random.ids(5), 20)).unwrap();
    let full = session.join(greedy(random.ids(40), 100)).unwrap();
    assert!(matches!(session.join(greedy(random.ids(41), 1)), Err(Error::Input(text)) if text.contains("41 tokens")));
    run_to_the_end(&mut session, &mut outcomes);
    assert_eq!((outcomes.of(full).len(), outcomes.finish(full)), (1, Some(Finish::ContextFull)));
    assert_eq!((outcomes.of(other).len(), outcomes.finish(other)), (20, Some(Finish::MaxTokens)));
}

/// Fails at its third draw, and takes note of what it was told.
struct Failing {
    need: Need,
    draws: usize,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl Sampler for Failing {
    fn needs(&self, _history: &History<'_>) -> Need {
        self.need
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw> {
        assert_eq!(history.made().len(), self.draws);
        self.draws += 1;
        self.seen.lock().unwrap().push(match logits {
            Logits::Best(best) => best.ids.len(),
            Logits::All(all) => all.len(),
        });
        match self.draws {
            3 => Err(Error::Input("out of words".into())),
            draw => Ok(Draw::Token(draw as u32)),
        }
    }
}

fn a_sampler_that_fails_ends_its_own_sequence(loaded: Loaded) {
    let random = &mut Random(23);
    let needs = [
        (Need::Candidates(7), 7),
        (Need::Totals { candidates: 9, temperature: 0.5 }, 9),
        (Need::Logits, loaded.model().config().vocabulary),
        (Need::Candidates(100_000), loaded.model().config().vocabulary),
    ];
    for (need, told) in needs {
        let mut session = session(&loaded, 2, 16);
        let mut outcomes = Outcomes::default();
        let wanted = random.ids(20);
        let other = session.join(greedy(wanted.clone(), 20)).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sampler = Failing { need, draws: 0, seen: seen.clone() };
        let failing = session.join_with(greedy(random.ids(9), 20), Box::new(sampler)).unwrap();
        run_to_the_end(&mut session, &mut outcomes);
        assert_eq!(outcomes.of(failing), [1, 2]);
        let last = &outcomes.last[&failing];
        assert_eq!(last.finish, Some(Finish::Failed));
        assert!(matches!(&last.error, Some(Error::Input(text)) if text == "out of words"));
        assert_eq!(*seen.lock().unwrap(), [told; 3], "{need:?}");
        assert_eq!((outcomes.of(other).len(), outcomes.finish(other)), (20, Some(Finish::MaxTokens)));
        let mut alone = crate::session(&loaded, 1, 16);
        let ids: Vec<u32> =
            alone.generate_ids(&wanted, &greedy(vec![], 20).options).unwrap().map(|id| id.unwrap()).collect();
        assert_eq!(outcomes.of(other), ids, "{need:?} beside it changes nothing");
    }
}

fn more_than_may_wait_are_refused(loaded: Loaded) {
    let random = &mut Random(24);
    let options = SessionOptions { sequences: 1, queue: Some(2), chunk: Some(16), ..SessionOptions::default() };
    let mut session = loaded.session(&options).unwrap();
    let mut join = |session: &mut sterna::Session| session.join(greedy(random.ids(4), 3));
    let accepted: Vec<_> = (0..3).map(|_| join(&mut session).unwrap()).collect();
    assert!(matches!(join(&mut session), Err(Error::Busy(text)) if text.contains("wait")));
    let nothing = Prompt { ids: vec![1], options: GenerateOptions { max_tokens: 0, ..GenerateOptions::default() } };
    let nothing = session.join(nothing).unwrap();
    let mut outcomes = Outcomes::default();
    run_to_the_end(&mut session, &mut outcomes);
    assert!(accepted.iter().all(|&id| outcomes.of(id).len() == 3));
    assert_eq!((outcomes.of(nothing).len(), outcomes.finish(nothing)), (0, Some(Finish::MaxTokens)));
}

#[test]
fn a_queue_without_end_takes_whoever_comes() {
    let loaded = crate::loaded(crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2));
    let options = SessionOptions { sequences: 2, queue: Some(usize::MAX), ..SessionOptions::default() };
    let mut session = loaded.session(&options).unwrap();
    let ids: Vec<_> = (0..50).map(|_| session.join(greedy(vec![5, 6, 7], 2)).unwrap()).collect();
    let mut outcomes = Outcomes::default();
    run_to_the_end(&mut session, &mut outcomes);
    assert!(ids.iter().all(|&id| outcomes.of(id).len() == 2));
}

#[test]
fn the_other_uses_of_a_session_do_not_push_sequences_aside() {
    let loaded = crate::loaded(crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2));
    let mut session = session(&loaded, 1, 16);
    let id = session.join(greedy(vec![5, 6, 7], 4)).unwrap();
    session.step(&StepBudget::default());
    assert!(matches!(session.generate_ids(&[1], &GenerateOptions::greedy()), Err(Error::Busy(_))));
    assert!(matches!(session.logits(&[1, 2]), Err(Error::Busy(_))));
    assert!(matches!(session.evaluate(&[1, 2], &mut |_, _| {}), Err(Error::Busy(_))));
    assert_eq!(session.usage(id).map(|usage| usage.made), Some(1), "it goes on");
    let mut outcomes = Outcomes::default();
    run_to_the_end(&mut session, &mut outcomes);
    assert_eq!(outcomes.of(id).len(), 3);
    assert!(session.logits(&[1, 2]).is_ok());
}

#[test]
fn a_thousand_that_were_cancelled_leave_nothing() {
    let loaded = crate::loaded(crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2));
    let random = &mut Random(25);
    let options = SessionOptions { sequences: 4, queue: Some(16), chunk: Some(32), ..SessionOptions::default() };
    let mut session = loaded.session(&options).unwrap();
    let (mut live, mut outcomes, mut joined, mut cancelled) = (Vec::new(), Outcomes::default(), 0, 0);
    while cancelled < 1000 {
        let count = 1 + random.below(60);
        if let Ok(id) = session.join(greedy(random.ids(count), 50)) {
            live.push(id);
            joined += 1;
        }
        if random.below(2) == 0 {
            outcomes.take(session.step(&StepBudget::default()));
        }
        if live.len() > random.below(20) {
            cancelled += usize::from(session.leave(live.swap_remove(random.below(live.len()))));
        }
    }
    for id in live {
        session.leave(id);
    }
    assert_eq!((session.running(), session.waiting()), (0, 0));
    outcomes.take(session.step(&StepBudget::default()));
    let ended = |finish| outcomes.last.values().filter(|piece| piece.finish == Some(finish)).count();
    assert!(ended(Finish::Cancelled) >= cancelled);
    assert_eq!(ended(Finish::Cancelled) + ended(Finish::MaxTokens), joined, "each is told of once");
    assert!(session.step(&StepBudget::default()).is_empty());
}

fn one_that_is_held_keeps_its_place_and_others_go_on(loaded: Loaded) {
    let random = &mut Random(25);
    let mut session = session(&loaded, 2, 16);
    let mut outcomes = Outcomes::default();
    let prompts = [greedy(random.ids(40), 12), greedy(random.ids(5), 100)];
    let wanted = {
        let (mut alone, mut outcomes) = (crate::session(&loaded, 1, 16), Outcomes::default());
        let id = alone.join(prompts[0].clone()).unwrap();
        run_to_the_end(&mut alone, &mut outcomes);
        outcomes.of(id).to_vec()
    };
    let [held, other] = prompts.map(|prompt| session.join(prompt).unwrap());
    for made in [0, 4] {
        while outcomes.of(held).len() < made {
            outcomes.take(session.step(&StepBudget::whole_chunks()));
        }
        assert!(session.hold(held, true));
        let before = session.usage(held);
        for _ in 0..3 {
            outcomes.take(session.step(&StepBudget::whole_chunks()));
        }
        assert_eq!((session.usage(held), session.running()), (before, 2), "held after {made}");
        assert!(session.hold(held, false));
    }
    let alone = session.usage(other).unwrap().made;
    assert!(alone > 6, "the other one went on meanwhile, and made {alone}");
    run_to_the_end(&mut session, &mut outcomes);
    assert_eq!(outcomes.of(held), wanted);
    assert!(!session.hold(held, true), "it is over");
}
