//! Greedy steps that a GPU starts before the last is read: the ids are those of steps read one by one, whatever ends a
//! sequence, and whatever comes after a step that was started in vain.

use sterna::backend::Backend;
use sterna::generate::{GenerateOptions, Prompt, Session, SessionOptions};
use sterna::gpu::Gpu;

use crate::common::{gpu::devices, shipped_model};
use crate::{Output, TEXTS, collect, prompt};

fn greedy(text: &str, max_tokens: usize, stop_ids: &[u32]) -> Prompt {
    let options = GenerateOptions { max_tokens, stop_ids: stop_ids.to_vec(), ..GenerateOptions::greedy() };
    Prompt { options, ..prompt(text, 0, 1) }
}

/// Generations that end in every way, one after the other in the same session.
fn story<B: Backend + 'static>(backend: B) -> Vec<Vec<Output>> {
    let options = SessionOptions { sequences: 3, context: Some(80), chunk: Some(32), ..SessionOptions::default() };
    let mut session = Session::with_backend(&shipped_model(), backend, &options).unwrap();
    let mut run = |prompts: &[Prompt]| collect(session.generate_batch(prompts).unwrap(), prompts.len());
    let alone = run(&[greedy(TEXTS[0], 24, &[])]);
    let stop = [alone[0].ids[9]];
    vec![
        run(&[greedy(TEXTS[0], 24, &stop)]),
        // The same prompt again: its cache was written beyond its end.
        run(&[greedy(TEXTS[0], 24, &[])]),
        // Sequences that end at different steps, and one that is sampled.
        run(&[greedy(TEXTS[0], 3, &[]), greedy(TEXTS[1], 17, &[]), greedy(TEXTS[3], 9, &[])]),
        run(&[greedy(TEXTS[1], 12, &[]), prompt(TEXTS[3], 7, 12)]),
        // To the last position of the context.
        run(&[greedy(TEXTS[3], 200, &[])]),
        alone,
    ]
}

#[test]
fn steps_ahead_give_the_ids_of_steps_read_one_by_one() {
    for device in devices(Default::default()) {
        let gpu = Gpu::new(&device);
        assert!(gpu.steps_ahead() > 0);
        let plain = Gpu::plain(&device);
        assert_eq!(plain.steps_ahead(), 0);
        let (ahead, one_by_one) = (story(gpu), story(plain));
        assert!(one_by_one[4][0].ids.len() > 60, "the context was filled");
        assert_eq!(ahead, one_by_one);
    }
}
