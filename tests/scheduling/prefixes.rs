//! What a sequence computed is found by those that begin alike, whoever they are, and is what they would have computed.

use sterna::Loaded;
use sterna::generate::{Reuse, StepBudget, Usage};

use crate::{Outcomes, Random, greedy, run_to_the_end, session};

crate::on_every_device!(
    the_second_turn_of_a_chat_computes_what_is_new,
    chats_by_turns_keep_what_they_have,
    a_long_beginning_is_copied_from_a_sequence_that_still_runs,
    what_asks_for_it_takes_and_leaves_nothing,
);

/// Runs a prompt to its end; its ids, and how many tokens were found.
fn run(session: &mut sterna::Session, ids: Vec<u32>, tokens: usize) -> (Vec<u32>, Usage) {
    let mut outcomes = Outcomes::default();
    let id = session.join(greedy(ids, tokens)).unwrap();
    run_to_the_end(session, &mut outcomes);
    (outcomes.of(id).to_vec(), outcomes.last[&id].usage)
}

pub fn fresh(loaded: &Loaded, ids: Vec<u32>, tokens: usize) -> Vec<u32> {
    run(&mut session(loaded, 1, 64), ids, tokens).0
}

fn the_second_turn_of_a_chat_computes_what_is_new(loaded: Loaded) {
    let random = &mut Random(11);
    let mut session = session(&loaded, 3, 64);
    let first = random.ids(40);
    let (answer, usage) = run(&mut session, first.clone(), 12);
    assert_eq!((usage.prompt, usage.cached, usage.computed, usage.made), (40, 0, 51, 12));
    let second = [first, answer, random.ids(9)].concat();
    let (answer, usage) = run(&mut session, second.clone(), 5);
    // The last token that was made was never computed.
    assert_eq!((usage.prompt, usage.cached, usage.computed, usage.made), (61, 51, 14, 5));
    assert_eq!(answer, fresh(&loaded, second.clone(), 5));
    // The same again: its last token is computed for its logits.
    let (again, usage) = run(&mut session, second, 5);
    assert_eq!((usage.cached, usage.computed), (60, 5));
    assert_eq!(again, answer);
}

fn chats_by_turns_keep_what_they_have(loaded: Loaded) {
    let random = &mut Random(12);
    let mut session = session(&loaded, 2, 64);
    let shared = random.ids(20);
    let mut chats: Vec<Vec<u32>> = (0..2).map(|_| [&shared[..], &random.ids(50)].concat()).collect();
    for turn in 0..3 {
        for chat in &mut chats {
            let (answer, usage) = run(&mut session, chat.clone(), 6);
            let known = if turn == 0 { usage.cached } else { chat.len() - 11 };
            assert_eq!(usage.cached, known, "turn {turn}");
            assert_eq!(answer, fresh(&loaded, chat.clone(), 6));
            chat.extend(answer);
            chat.extend(random.ids(10));
        }
    }
}

fn a_long_beginning_is_copied_from_a_sequence_that_still_runs(loaded: Loaded) {
    let random = &mut Random(13);
    let mut session = session(&loaded, 2, 64);
    let shared = random.ids(200);
    let one = [&shared[..], &random.ids(30)].concat();
    let other = [&shared[..], &random.ids(40)].concat();
    let mut outcomes = Outcomes::default();
    let first = session.join(greedy(one.clone(), 30)).unwrap();
    while outcomes.of(first).is_empty() {
        outcomes.take(session.step(&StepBudget::whole_chunks()));
    }
    let second = session.join(greedy(other.clone(), 10)).unwrap();
    run_to_the_end(&mut session, &mut outcomes);
    let usage = outcomes.last[&second].usage;
    assert_eq!((usage.cached, usage.computed), (200, 40 + 9));
    assert_eq!(outcomes.of(second), fresh(&loaded, other, 10));
    assert_eq!(outcomes.of(first), fresh(&loaded, one, 30));
}

fn what_asks_for_it_takes_and_leaves_nothing(loaded: Loaded) {
    let random = &mut Random(14);
    let mut session = session(&loaded, 2, 64);
    let ids = random.ids(40);
    let alone = |session: &mut sterna::Session| {
        let mut prompt = greedy(ids.clone(), 5);
        prompt.options.reuse = Reuse::Never;
        let mut outcomes = Outcomes::default();
        let id = session.join(prompt).unwrap();
        run_to_the_end(session, &mut outcomes);
        (outcomes.of(id).to_vec(), outcomes.last[&id].usage.cached)
    };
    let wanted = fresh(&loaded, ids.clone(), 5);
    assert_eq!(alone(&mut session), (wanted.clone(), 0));
    let (made, usage) = run(&mut session, ids.clone(), 5);
    assert_eq!((&made, usage.cached), (&wanted, 0), "nothing was left");
    assert_eq!(alone(&mut session), (wanted, 0), "and nothing taken");
    assert_eq!(run(&mut session, ids.clone(), 5).1.cached, 39);
}
