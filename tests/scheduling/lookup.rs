//! Drafted tokens: the same ones as without drafts, in fewer steps where a text is written anew.

use sterna::generate::{Draw, Finish, History, Logits, Need, Piece, Prompt, PromptLookup, Sampler, StepBudget};
use sterna::{Loaded, Model, Session};

use crate::prefixes::fresh;
use crate::samplers::samplings;
use crate::script::Script;
use crate::{Outcomes, Random, greedy, prompt, run_to_the_end, session};

crate::on_every_device!(
    drafts_change_no_token,
    drafts_change_nothing_in_company,
    ends_are_met_within_a_draft,
    what_was_not_taken_leaves_nothing_in_the_cache,
    samplers_are_told_what_they_need_within_a_draft,
    a_text_written_anew_takes_few_steps,
);

/// Tokens that are made of each prompt.
const TOKENS: usize = 16;

/// Tokens that say the same again and again.
fn repeating(random: &mut Random) -> Vec<u32> {
    let phrase = random.ids(9);
    [&phrase[..], &phrase, &phrase, &phrase[..4]].concat()
}

fn with(mut prompt: Prompt, lookup: PromptLookup) -> Prompt {
    prompt.options.lookup = lookup;
    prompt
}

/// All pieces of a prompt, and how many steps made some.
fn pieces(session: &mut Session, prompt: Prompt) -> (Vec<Piece>, usize) {
    let id = session.join(prompt).unwrap();
    let (mut pieces, mut steps) = (Vec::new(), 0);
    while session.usage(id).is_some() {
        let made = session.step(&StepBudget::default());
        steps += usize::from(!made.is_empty());
        pieces.extend(made.iter().cloned());
    }
    (pieces, steps)
}

/// What a piece tells, but for the counts of drafts.
#[derive(Debug, PartialEq)]
struct Told {
    id: Option<u32>,
    text: String,
    finish: Option<Finish>,
    logprob: Option<f32>,
    made: usize,
}

fn told(pieces: &[Piece]) -> Vec<Told> {
    let told = |piece: &Piece| Told {
        id: piece.id,
        text: piece.text.clone(),
        finish: piece.finish,
        logprob: piece.logprobs.as_ref().map(|logprobs| logprobs.chosen),
        made: piece.usage.made,
    };
    pieces.iter().map(told).collect()
}

fn drafts_change_no_token(loaded: Loaded) {
    let tale = "The bird sang to the sea, and the sea sang to the bird. ".repeat(3) + "The bird";
    let ids = loaded.model().tokenizer().unwrap().encode_prompt(&tale).unwrap();
    let mut session = session(&loaded, 1, 64);
    let (mut drafted, mut accepted) = (0, 0);
    for (place, sampling) in samplings().into_iter().enumerate() {
        let mut asked = prompt(ids.clone(), sampling, TOKENS);
        asked.options.logprobs = (place % 2 == 0).then_some(3);
        let (alone, steps) = pieces(&mut session, with(asked.clone(), PromptLookup::Never));
        assert_eq!((alone.len(), steps), (TOKENS, TOKENS));
        for lookup in [PromptLookup::Always, PromptLookup::WhereFaster] {
            let (made, steps) = pieces(&mut session, with(asked.clone(), lookup));
            assert_eq!(told(&made), told(&alone), "sampling {place}, {lookup:?}");
            let usage = made.last().unwrap().usage;
            assert_eq!((steps + usage.accepted, usage.computed + usage.cached), (TOKENS, ids.len() + TOKENS - 1));
            assert!(usage.accepted <= usage.drafted);
            (drafted, accepted) = (drafted + usage.drafted, accepted + usage.accepted);
        }
    }
    assert!(accepted > 0 && drafted > accepted, "some are taken, and some are not: {accepted} of {drafted}");
}

fn drafts_change_nothing_in_company(loaded: Loaded) {
    let random = &mut Random(41);
    let (mut alone, mut together) = (session(&loaded, 1, 64), session(&loaded, 4, 24));
    let asked: Vec<Prompt> =
        samplings().into_iter().map(|sampling| prompt(repeating(random), sampling, 8 + random.below(16))).collect();
    let wanted: Vec<Vec<u32>> = asked
        .iter()
        .map(|prompt| {
            let (pieces, _) = pieces(&mut alone, with(prompt.clone(), PromptLookup::Never));
            pieces.iter().filter_map(|piece| piece.id).collect()
        })
        .collect();
    let mut outcomes = Outcomes::default();
    let mut joined = Vec::new();
    for prompt in asked {
        joined.push(together.join(with(prompt, PromptLookup::Always)).unwrap());
        (0..random.below(6)).for_each(|_| outcomes.take(together.step(&StepBudget::default())));
    }
    run_to_the_end(&mut together, &mut outcomes);
    for (place, (id, wanted)) in joined.iter().zip(&wanted).enumerate() {
        assert_eq!(outcomes.of(*id), wanted, "sequence {place}");
    }
    assert!(joined.iter().map(|id| outcomes.last[id].usage.drafted).sum::<usize>() > 0);
}

fn ends_are_met_within_a_draft(loaded: Loaded) {
    let ids = repeating(&mut Random(42));
    let mut session = session(&loaded, 1, 64);
    let whole = fresh(&loaded, ids.clone(), 24);
    let both = |session: &mut Session, prompt: Prompt| {
        let [never, always] = [PromptLookup::Never, PromptLookup::Always]
            .map(|lookup| told(&pieces(session, with(prompt.clone(), lookup)).0));
        assert_eq!(always, never);
        never
    };
    for most in 1..12 {
        assert_eq!(both(&mut session, greedy(ids.clone(), most)).len(), most);
    }
    for stop in whole.iter().skip(3).step_by(4) {
        let mut asked = greedy(ids.clone(), 24);
        asked.options.stop_ids = vec![*stop];
        assert_eq!(both(&mut session, asked).last().unwrap().finish, Some(Finish::StopId(*stop)));
    }
    let options = sterna::SessionOptions { context: Some(ids.len() + 7), ..Default::default() };
    let mut small = loaded.session(&options).unwrap();
    assert_eq!(both(&mut small, greedy(ids.clone(), 24)).last().unwrap().finish, Some(Finish::ContextFull));
}

fn what_was_not_taken_leaves_nothing_in_the_cache(loaded: Loaded) {
    let random = &mut Random(43);
    let ids = repeating(random);
    let mut session = session(&loaded, 1, 64);
    // The phrase goes on for three tokens, and then otherwise.
    let script = [&ids[4..7], &random.ids(10)].concat();
    let asked = with(greedy(ids.clone(), script.len()), PromptLookup::Always);
    let id = session.join_with(asked, Box::new(Script(script.clone()))).unwrap();
    let mut outcomes = Outcomes::default();
    run_to_the_end(&mut session, &mut outcomes);
    let usage = outcomes.last[&id].usage;
    assert_eq!((outcomes.of(id), usage.accepted), (&script[..], 2));
    assert!(usage.drafted > 4, "{usage:?}");
    let talk = [&ids[..], &script, &random.ids(5)].concat();
    let (again, _) = pieces(&mut session, greedy(talk.clone(), 10));
    assert_eq!(again.last().unwrap().usage.cached, ids.len() + script.len() - 1);
    assert_eq!(again.iter().filter_map(|piece| piece.id).collect::<Vec<_>>(), fresh(&loaded, talk, 10));
}

/// Networks of other numerics: activations in groups, scales by groups of columns, floats.
#[test]
fn drafts_change_no_token_of_other_numerics() {
    let mut accepted = 0;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/");
    for name in ["qwen3-256/q2_0_g128", "qwen3-256/ptq1_0", "llama-256/tq2_0", "trilm-128/f16"] {
        let model = Model::open(format!("{folder}{name}.gguf")).unwrap();
        let mut check = |loaded: Loaded, what: &str| {
            let ids: Vec<u32> = repeating(&mut Random(45)).iter().map(|id| id % 200).collect();
            let mut session = session(&loaded, 1, 64);
            let [never, always] = [PromptLookup::Never, PromptLookup::Always]
                .map(|lookup| pieces(&mut session, with(greedy(ids.clone(), TOKENS), lookup)).0);
            assert_eq!(told(&always), told(&never), "{name}, {what}");
            accepted += always.last().unwrap().usage.accepted;
        };
        check(Loaded::on_backend(&model, crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2)).unwrap(), "cpu");
        for device in crate::gpu::devices(Default::default()) {
            check(Loaded::on_backend(&model, sterna::gpu::Gpu::new(&device)).unwrap(), "gpu");
        }
    }
    assert!(accepted > 0);
}

/// Needs more with every token, and says what it was told to.
struct Growing {
    script: Script,
    by: usize,
}

impl Sampler for Growing {
    fn needs(&self, history: &History<'_>) -> Need {
        Need::Candidates(1 + self.by * history.made().len())
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> sterna::Result<Draw> {
        let Logits::Best(best) = &logits else { panic!("{logits:?}") };
        assert_eq!(best.ids.len(), 1 + self.by * history.made().len(), "as many as were asked for");
        self.script.draw(logits, history)
    }
}

fn samplers_are_told_what_they_need_within_a_draft(loaded: Loaded) {
    let ids = repeating(&mut Random(46));
    let mut session = session(&loaded, 1, 64);
    // The phrase goes on, as is likely.
    let said: Vec<u32> = (0..9).map(|place| ids[(4 + place) % 9]).collect();
    for by in [0, 1, 2, 5] {
        let sampler = Growing { script: Script(said.clone()), by };
        let asked = with(greedy(ids.clone(), said.len()), PromptLookup::Always);
        let id = session.join_with(asked, Box::new(sampler)).unwrap();
        let mut outcomes = Outcomes::default();
        run_to_the_end(&mut session, &mut outcomes);
        assert_eq!((outcomes.of(id), outcomes.finish(id)), (&said[..], Some(Finish::MaxTokens)), "{by} more each time");
        assert!(outcomes.last[&id].usage.accepted > 0);
    }
}

fn a_text_written_anew_takes_few_steps(loaded: Loaded) {
    let random = &mut Random(44);
    let mut session = session(&loaded, 1, 128);
    let mut steps_of = |ids: &[u32], script: &[u32], lookup: PromptLookup| {
        let asked = with(greedy(ids.to_vec(), script.len()), lookup);
        let id = session.join_with(asked, Box::new(Script(script.to_vec()))).unwrap();
        let (mut outcomes, mut steps) = (Outcomes::default(), 0);
        while session.usage(id).is_some() {
            let made = session.step(&StepBudget::default());
            steps += usize::from(!made.is_empty());
            outcomes.take(made);
        }
        assert_eq!(outcomes.of(id), script);
        (steps, outcomes.last[&id].usage)
    };
    let text = random.ids(160);
    let mut anew = text.clone();
    for place in (20..160).step_by(30) {
        anew[place] += 1; // one token of thirty is another
    }
    let (steps, usage) = steps_of(&text, &anew, PromptLookup::Always);
    assert!(steps * 3 <= 160 && usage.accepted + steps == 160, "{steps} steps: {usage:?}");
    let (steps, usage) = steps_of(&text, &anew, PromptLookup::WhereFaster);
    match loaded.device_bytes() {
        None => assert!(steps * 3 <= 2 * 160 && usage.accepted + steps == 160, "{steps} steps: {usage:?}"),
        Some(_) => assert_eq!((steps, usage.drafted), (160, 0), "no GPU was measured yet"),
    }
    // What was not said before is not drafted.
    let (steps, usage) = steps_of(&text, &random.ids(160), PromptLookup::WhereFaster);
    assert_eq!((steps, usage.drafted), (160, 0));
}
