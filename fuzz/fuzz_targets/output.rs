//! From logits to text: the built-in sampler, told much or little, draws the same token or fails in the same way; and bytes cut
//! anywhere, with stop strings, give the text that they give whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna::Sampling;
use sterna::generate::{Candidates, Draw, History, Logits, Need, Sampler, Totals};
// For the file of the crate below, whose text stream is this one.
use sterna::tokenizer;
use sterna_fuzz::Input;

#[path = "../../src/generate/stop.rs"]
mod stop;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.chance(2) {
        false => draw(&mut input),
        true => show(&mut input),
    }
});

// ---- Sampler ----

fn draw(input: &mut Input) {
    let vocabulary = 1 + input.below(700);
    let sampling = sampling(input, vocabulary);
    let made = input.below(16);
    let prompt = input.below(16);
    let mut ids: Vec<u32> = (0..prompt + made).map(|_| (usize::from(input.byte()) % vocabulary) as u32).collect();
    let mut samplers = match (sampling.sampler(64, vocabulary), sampling.sampler(64, vocabulary)) {
        (Ok(one), Ok(other)) => [one, other],
        (Err(_), Err(_)) => return,
        _ => panic!("options are good once and bad once: {sampling:?}"),
    };
    for _ in 0..3 {
        let logits = logits(input, vocabulary);
        let history = History { ids: &ids, prompt };
        let need = samplers[0].needs(&history);
        let told_all = told_all(samplers[0].as_mut(), &logits, &history);
        let told_little = told_little(samplers[1].as_mut(), need, &logits, &history);
        match (told_all, told_little) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one, other, "{need:?} {sampling:?} of {vocabulary}");
                assert!((one as usize) < vocabulary);
                let is_ruled_out = sampling.logit_bias.contains(&(one, f32::NEG_INFINITY));
                assert!(!is_ruled_out, "drew what a bias rules out: {need:?} {sampling:?}");
                ids.push(one);
            }
            (Err(_), Err(_)) => return,
            (one, other) => panic!("told all: {one:?}, told {need:?}: {other:?}, {sampling:?} of {vocabulary}"),
        }
    }
}

fn sampling(input: &mut Input, vocabulary: usize) -> Sampling {
    let good = |input: &mut Input, least: f32, most: f32| least + (most - least) * f32::from(input.byte()) / 255.0;
    let mut sampling = Sampling {
        temperature: if input.chance(4) { input.float() } else { good(input, 0.0, 2.0) },
        top_k: if input.chance(2) { input.lie() as usize } else { input.below(64) },
        top_p: if input.chance(4) { input.float() } else { good(input, 0.01, 1.0) },
        min_p: if input.chance(4) { input.float() } else { good(input, 0.0, 0.3) },
        repetition_penalty: if input.chance(4) { input.float() } else { good(input, 0.5, 2.0) },
        repetition_window: input.lie() as usize,
        seed: input.long(),
        ..Sampling::greedy()
    };
    if input.chance(3) {
        sampling.repetition_penalty = 1.0;
    }
    if input.chance(3) {
        sampling.presence_penalty = input.float();
        sampling.frequency_penalty = input.float();
    }
    for _ in 0..input.below(4).saturating_sub(1) {
        sampling.logit_bias.push(((input.short() as usize % (vocabulary + 1)) as u32, input.float()));
    }
    sampling
}

/// Some order that repeats, with extremes in places; or all the same. All are finite: a device refuses what is not before a
/// sampler sees it.
fn logits(input: &mut Input, vocabulary: usize) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..vocabulary).map(|id| ((id * 7919 + 13) % 641) as f32 / 64.0 - 5.0).collect();
    if input.chance(8) {
        let value = input.float();
        logits.fill(value);
    }
    for _ in 0..input.below(32) {
        let id = input.below(vocabulary);
        logits[id] = input.float();
    }
    logits.iter_mut().filter(|logit| !logit.is_finite()).for_each(|logit| *logit = 0.0);
    logits
}

fn told_all(sampler: &mut dyn Sampler, logits: &[f32], history: &History) -> Result<u32, String> {
    match sampler.draw(Logits::All(&mut logits.to_vec()), history).map_err(|error| error.to_string())? {
        Draw::Token(id) => Ok(id),
        Draw::NeedsAll => panic!("it was told all"),
    }
}

/// What a device tells, written plainly.
fn told_little(sampler: &mut dyn Sampler, need: Need, logits: &[f32], history: &History) -> Result<u32, String> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let descending = |one: f32, other: f32| other.partial_cmp(&one).expect("these are numbers");
    order.sort_by(|&one, &other| descending(logits[one as usize], logits[other as usize]).then(one.cmp(&other)));
    let best = logits[order[0] as usize];
    let (count, totals) = match need {
        Need::Best => return Ok(order[0]),
        Need::Candidates(count) => (count, None),
        Need::Totals { candidates, temperature } => {
            let sum = |temperature: f32| {
                let odds = |&logit: &f32| ((f64::from(logit) - f64::from(best)) / f64::from(temperature)).exp();
                logits.iter().map(odds).sum::<f64>()
            };
            (candidates, Some(Totals { at_one: sum(1.0), at_temperature: sum(temperature) }))
        }
        Need::Logits => return told_all(sampler, logits, history),
        other => panic!("{other:?} is new"),
    };
    order.truncate(count);
    let mut values: Vec<f32> = order.iter().map(|&id| logits[id as usize]).collect();
    // As a device fills up what the vocabulary has not.
    let missing = count - order.len();
    order.extend(std::iter::repeat_n(0, missing));
    values.extend(std::iter::repeat_n(f32::NEG_INFINITY, missing));
    let candidates = Candidates { ids: &order, logits: &values, totals };
    match sampler.draw(Logits::Best(candidates), history).map_err(|error| error.to_string())? {
        Draw::Token(id) => Ok(id),
        Draw::NeedsAll => told_all(sampler, logits, history),
    }
}

// ---- Text ----

fn show(input: &mut Input) {
    let stops: Vec<String> = (0..input.below(4))
        .map(|_| {
            let length = input.below(12);
            String::from_utf8_lossy(input.take(length)).into_owned()
        })
        .collect();
    let mut stream = stop::StopText::new(&stops);
    let mut plain = tokenizer::TextStream::new();
    let (mut text, mut all, mut stopped, mut lossy) = (String::new(), Vec::new(), false, String::new());
    while !input.0.is_empty() && !stopped {
        let length = input.below(9);
        let bytes = input.take(length);
        all.extend(bytes);
        lossy += &plain.push(bytes);
        let (shown, stops_here) = stream.push(bytes);
        text += &shown;
        stopped = stops_here;
    }
    if !stopped {
        let (shown, stops_here) = stream.finish();
        text += &shown;
        stopped = stops_here;
    }
    lossy += &plain.finish();
    let whole = String::from_utf8_lossy(&all);
    assert_eq!(lossy, whole);
    match stops.iter().any(|stop| !stop.is_empty() && whole.contains(stop.as_str())) {
        false => assert!(!stopped && text == whole, "{stops:?}, {whole:?}: {text:?}"),
        true => {
            assert!(stopped, "{stops:?} is missed in {whole:?}");
            assert!(whole.starts_with(&text));
            let rest = &whole[text.len()..];
            assert!(stops.iter().any(|stop| !stop.is_empty() && rest.starts_with(stop.as_str())), "{stops:?} {rest:?}");
            assert!(!stops.iter().any(|stop| !stop.is_empty() && text.contains(stop.as_str())), "{stops:?} {text:?}");
        }
    }
}
