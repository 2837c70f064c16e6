//! Budgets of thoughts, token by token: each token of the vocabulary is a letter of ASCII, or one of a few longer texts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::generate::Candidates;

const OPEN: u32 = 128;
const CLOSE: u32 = 129;
const LINE_END_AND_CLOSE: u32 = 130;
const EMPTY_THOUGHT: u32 = 131;
const OPEN_AND_WORD: u32 = 132;

fn spell(id: u32) -> Vec<u8> {
    match id {
        OPEN => b"<think>".to_vec(),
        CLOSE => b"</think>".to_vec(),
        LINE_END_AND_CLOSE => b".\n</think>\n".to_vec(),
        EMPTY_THOUGHT => b"<think>\n\n</think>\n\n".to_vec(),
        OPEN_AND_WORD => b"<think>word".to_vec(),
        byte => vec![byte as u8],
    }
}

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// Says a script: what comes next after so many tokens that were its own. Takes every second token without a draw.
struct Script(Vec<u32>, Arc<AtomicUsize>);

impl Sampler for Script {
    fn needs(&self, history: &History<'_>) -> Need {
        if history.ids.len().is_multiple_of(2) { Need::Best } else { Need::Logits }
    }

    fn draw(&mut self, _: Logits<'_>, _: &History<'_>) -> Result<Draw> {
        Ok(Draw::Token(self.0[self.1.load(Ordering::Relaxed)]))
    }
}

/// What is made with a budget where the model would say this.
fn made(budget: usize, begins_in_thought: bool, script: &[u32]) -> Vec<u32> {
    let own = Arc::new(AtomicUsize::new(0));
    let tags = ThinkTags::default();
    let ending = ids(&tags.ending());
    let inner = Box::new(Script(script.to_vec(), own.clone()));
    let mut sampler = ThinkingBudget::spelled(inner, budget, tags, begins_in_thought, ending, spell);
    let mut history = ids("prompt");
    let prompt = history.len();
    while own.load(Ordering::Relaxed) < script.len() {
        let before = History { ids: &history, prompt };
        let next = script[own.load(Ordering::Relaxed)];
        let need = sampler.needs(&before);
        let best = Logits::Best(Candidates { ids: &[next], logits: &[1.0], totals: None });
        let id = match need {
            Need::Best => next,
            _ => match sampler.draw(best, &before).unwrap() {
                Draw::Token(id) => id,
                Draw::NeedsAll => panic!("the script needs nothing"),
            },
        };
        // Forced tokens are drawn, at the least cost.
        if need != Need::Candidates(1) {
            assert_eq!(id, next);
            own.fetch_add(1, Ordering::Relaxed);
        }
        history.push(id);
        // No more is kept than a tag can begin with.
        assert!(sampler.watch.borrow().tail.len() < 9);
    }
    history.split_off(prompt)
}

fn text(ids: &[u32]) -> String {
    String::from_utf8(ids.iter().flat_map(|&id| spell(id)).collect()).unwrap()
}

#[test]
fn a_thought_is_ended_after_so_many_tokens() {
    assert_eq!(text(&made(3, true, &ids("abcdef"))), "abc\n</think>\n\ndef");
    assert_eq!(text(&made(1, true, &ids("abcdef"))), "a\n</think>\n\nbcdef");
    let script = [&[OPEN][..], &ids("abcdef")].concat();
    assert_eq!(text(&made(3, false, &script)), "<think>abc\n</think>\n\ndef");
    let script = [&[OPEN_AND_WORD][..], &ids("abcdef")].concat();
    assert_eq!(text(&made(3, false, &script)), "<think>wordabc\n</think>\n\ndef");
    // Spelled letter by letter, a tag is a tag.
    assert_eq!(text(&made(3, false, &ids("<think>abcdef"))), "<think>abc\n</think>\n\ndef");
}

#[test]
fn a_budget_of_nothing_ends_a_thought_as_it_begins() {
    assert_eq!(text(&made(0, true, &ids("ab"))), "\n</think>\n\nab");
    assert_eq!(text(&made(0, false, &[&[OPEN][..], &ids("ab")].concat())), "<think>\n</think>\n\nab");
}

#[test]
fn a_thought_that_ends_in_time_is_left_alone() {
    for ending in [&[CLOSE][..], &[LINE_END_AND_CLOSE], &ids("</think>")] {
        let script = [&ids("ab"), ending, &ids("\n\nlong text")].concat();
        assert_eq!(made(2 + ending.len(), true, &script), script);
        let script = [&[OPEN][..], &script].concat();
        assert_eq!(made(2 + ending.len(), false, &script), script);
    }
}

#[test]
fn without_a_thought_nothing_is_forced() {
    for said in ["abc", "a<think>bcdef", "\n<think>bcdef", "<thin>kabcdef", "<"] {
        assert_eq!(text(&made(0, false, &ids(said))), said);
    }
    let script = [&[EMPTY_THOUGHT][..], &ids("abc")].concat();
    assert_eq!(made(0, false, &script), script);
    // Nor in a second one.
    let script = [&[OPEN][..], &[CLOSE], &ids("a"), &[OPEN], &ids("bcdef")].concat();
    assert_eq!(made(1, false, &script), script);
}

#[test]
fn a_thought_is_ended_once() {
    let script = [&ids("abc"), &[OPEN][..], &ids("defgh")].concat();
    assert_eq!(text(&made(2, true, &script)), "ab\n</think>\n\nc<think>defgh");
}

#[test]
fn the_history_tells_what_was_made_however_much_of_it_came_at_once() {
    let (tags, ending) = (ThinkTags::default(), ids("12"));
    let inner = Box::new(Script(ids("z"), Arc::default()));
    let sampler = ThinkingBudget::spelled(inner, 2, tags, true, ending, spell);
    let of = |history: &str| sampler.needs(&History { ids: &ids(history), prompt: 1 });
    assert_eq!(of("pa"), Need::Best);
    assert_eq!(of("pab"), Need::Candidates(1));
    assert_eq!(of("pab"), Need::Candidates(1));
    assert_eq!(of("pabc1"), Need::Candidates(1));
    assert_eq!(of("pabc12"), Need::Best);
    assert_eq!(of("pabc121"), Need::Logits);
}

#[test]
fn tags_are_those_of_the_template() {
    let tags = ThinkTags { open: "<think>".into(), close: "</think>".into() };
    assert_eq!(ThinkTags::of_template("{{ content.split('</think>')[-1] }}"), Some(tags.clone()));
    assert_eq!(ThinkTags::of_template("{{ 'I think: ' ~ content }}"), None);
    assert_eq!(tags.ending(), "\n</think>\n\n");
}

#[test]
fn a_text_is_left_open_by_its_last_tag() {
    let tags = ThinkTags::default();
    for (text, is_open) in [
        ("<|assistant|>\n<think>\n", true),
        ("<think>\n\n</think>\n\n", false),
        ("<think>a</think><think>b", true),
        ("</think>", false),
        ("", false),
    ] {
        assert_eq!(tags.is_left_open(text), is_open, "{text}");
    }
}
