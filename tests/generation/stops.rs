//! Why a generation ends, and that nothing is shown that should not be.

use sterna::generate::{Finish, GenerateOptions, Session, SessionOptions};
use sterna::{Device, Model};

use crate::common::{data, shipped_model};
use crate::{Output, collect, prompt};

fn session() -> Session {
    Session::new(&shipped_model(), &Device::cpu(), &SessionOptions::default()).unwrap()
}

/// A story, with options changed.
fn tell(change: impl FnOnce(&mut GenerateOptions)) -> Output {
    let mut story = prompt("Once upon a time", 5, 60);
    change(&mut story.options);
    collect(session().generate_batch(&[story]).unwrap(), 1).remove(0)
}

#[test]
fn max_tokens_is_exact() {
    let story = tell(|_| {});
    assert_eq!((story.ids.len(), story.finish), (60, Some(Finish::MaxTokens)));
}

#[test]
fn a_stop_text_ends_the_story_before_it_wherever_tokens_are_cut() {
    let story = tell(|_| {});
    let characters: Vec<usize> = story.text.char_indices().map(|(place, _)| place).collect();
    for (length, start) in [(1, 20), (3, 33), (9, 50), (14, 71)] {
        let stop = &story.text[characters[start]..characters[start + length]];
        let first = story.text.find(stop).expect("it was cut from there");
        let cut = tell(|options| options.stop = vec!["never said".into(), stop.into()]);
        assert_eq!((cut.text.as_str(), cut.finish), (&story.text[..first], Some(Finish::StopText)), "stop {stop:?}");
    }
}

#[test]
fn a_stop_id_ends_the_story_and_is_not_part_of_it() {
    let story = tell(|_| {});
    let place = 17;
    let first = story.ids.iter().position(|&id| id == story.ids[place]).unwrap();
    let cut = tell(|options| options.stop_ids = vec![story.ids[place]]);
    assert_eq!(cut.finish, Some(Finish::StopId(story.ids[place])));
    assert_eq!(cut.ids, story.ids[..first]);
}

#[test]
fn a_full_context_ends_the_story_after_the_last_position() {
    let options = SessionOptions { context: Some(12), ..SessionOptions::default() };
    let mut session = Session::new(&shipped_model(), &Device::cpu(), &options).unwrap();
    let story = prompt("Once upon a time", 5, 60);
    let output = collect(session.generate_batch(std::slice::from_ref(&story)).unwrap(), 1).remove(0);
    assert_eq!(output.finish, Some(Finish::ContextFull));
    // Twelve positions are computed, and the logits after the last give one token more.
    assert_eq!(story.ids.len() + output.ids.len(), 13);
    assert_eq!(output.ids, tell(|_| {}).ids[..output.ids.len()]);
}

#[test]
fn end_of_generation_tokens_end_the_text_unless_ignored() {
    // The random golden model says anything, its end token too: take one of its greedy tokens for the end.
    let model = Model::open(data("golden/bitnet-256/i2_s.gguf")).unwrap();
    let mut session = Session::new(&model, &Device::cpu(), &SessionOptions::default()).unwrap();
    let end = model.tokenizer().unwrap().eos().expect("it has one");
    let vocabulary = model.config().vocabulary as u32;
    let greedy = |ignore_end| GenerateOptions { max_tokens: 1, ignore_end, ..GenerateOptions::greedy() };
    // Of all two-token prompts, find one that the end follows.
    let ends = (0..vocabulary)
        .flat_map(|a| (0..8).map(move |b| [a, b]))
        .find(|ids| session.generate_ids(ids, &greedy(true)).unwrap().next().unwrap().unwrap() == end);
    let ids = ends.expect("among 4096 prompts of a random model over 512 tokens");
    let mut stream = session.generate_ids(&ids, &greedy(false)).unwrap();
    assert!(stream.next().is_none(), "the end token is not part of the output");
    assert_eq!(stream.finish(), Some(Finish::EndOfGeneration(end)));
}
