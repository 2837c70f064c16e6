//! Tokens made on a GPU: which, and at what cost.

use sterna::generate::{GenerateOptions, Prompt, Sampling, SessionOptions};
use sterna::gpu::GpuCounters;
use sterna::{Device, Error, Session};

use crate::gpu::skipped;
use crate::{gpus, shipped_model};

/// Dispatches of a layer of one row: its fused verbs.
const MOST_OF_LAYER: u64 = 5;
/// Dispatches of embedding, last norm, head and choice.
const MOST_OF_REST: u64 = 5;
const PROMPT: &str = "Once upon a time";

fn session(device: &str) -> Session {
    let options = SessionOptions { chunk: Some(8), ..SessionOptions::default() };
    Session::new(&shipped_model(), &Device::named(device).unwrap(), &options).unwrap()
}

fn greedy_text(session: &mut Session) -> String {
    let options = GenerateOptions { max_tokens: 60, ..GenerateOptions::greedy() };
    session.generate(PROMPT, &options).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_gpu_tells_the_story_of_the_cpu() {
    let wanted = greedy_text(&mut session("cpu"));
    for name in gpus() {
        let mut session = session(&name);
        assert!(session.device().contains(&name), "{}", session.device());
        assert_eq!(greedy_text(&mut session), wanted, "{name}");
    }
}

/// What so many tokens cost, the prompt included. All of them lie in the first chunk of attention's.
fn cost(session: &mut Session, sampling: &Sampling, max_tokens: usize) -> GpuCounters {
    session.clear();
    let options = GenerateOptions { sampling: sampling.clone(), max_tokens, ignore_end: true, ..Default::default() };
    let ids = session.model().tokenizer().unwrap().encode_prompt(PROMPT).unwrap();
    let before = session.gpu_counters().unwrap();
    let made = session.generate_batch(&[Prompt { ids, options }]).unwrap().filter(|piece| piece.is_ok()).count();
    assert_eq!(made, max_tokens);
    session.gpu_counters().unwrap().since(before)
}

#[test]
fn a_token_costs_one_submit_no_bind_groups_and_few_bytes_back() {
    for name in gpus() {
        for (sampling, most_bytes) in [(Sampling::greedy(), 4), (Sampling::default(), 4096)] {
            let mut session = session(&name);
            cost(&mut session, &sampling, 40);
            let (short, long) = (cost(&mut session, &sampling, 20), cost(&mut session, &sampling, 40));
            let tokens = long.since(short);
            println!("{name}: 20 tokens cost {tokens:?}");
            assert_eq!(tokens.submits, 20);
            assert_eq!(long.bind_groups, 0, "all were made before");
            assert!((80..=20 * most_bytes).contains(&tokens.bytes_read), "{tokens:?}");
            let layers = session.model().config().layers as u64;
            assert!(tokens.dispatches <= 20 * (MOST_OF_LAYER * layers + MOST_OF_REST), "{tokens:?}");
        }
    }
}

#[test]
fn a_profile_names_the_shaders_and_the_bytes_they_read() {
    for name in gpus() {
        let mut session = session(&name);
        assert_eq!(session.shader_times(), []);
        match session.profile() {
            Ok(()) => {}
            Err(error) => {
                skipped(format_args!("profiles: {error}"));
                continue;
            }
        }
        greedy_text(&mut session);
        let times = session.shader_times();
        assert!(times.is_sorted_by(|a, b| a.seconds >= b.seconds), "{times:?}");
        assert!(times.iter().all(|time| time.runs > 0 && (0.0..60.0).contains(&time.seconds)), "{times:?}");
        assert!(times.iter().any(|time| time.bytes > 0), "{times:?}");
    }
}

#[test]
fn the_cpu_counts_no_dispatches_and_has_no_profile() {
    let mut session = session("cpu");
    assert_eq!(session.gpu_counters(), None);
    assert!(matches!(session.profile(), Err(Error::Device(fault)) if fault.message.contains("choose a GPU")));
    assert_eq!(session.shader_times(), []);
}
