//! What is drawn is drawn by the sampler within, among what may follow, and depends on nobody else.

use serde_json::{Value, json};
use sterna::constrain::Constraint;
use sterna::generate::{Draw, Finish, History, Logits, Need, Sampler, Sampling};
use sterna::{Error, Result};

use crate::{alone, constrained, constrainer, model, outcomes, plain, prompt, sampler, session};

fn ages() -> Constraint {
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["name", "age"], "properties": {
        "name": { "type": "string", "maxLength": 20 }, "age": { "type": "integer", "minimum": 0, "maximum": 150 } } });
    constrainer().json_schema(&schema).unwrap()
}

fn samplings() -> Vec<Sampling> {
    vec![
        Sampling::greedy(),
        Sampling::default(),
        plain(3),
        Sampling { top_k: 5, ..plain(4) },
        Sampling { top_p: 0.9, ..plain(5) },
        Sampling { min_p: 0.1, temperature: 1.5, ..plain(6) },
        Sampling { frequency_penalty: 1.5, presence_penalty: -0.5, ..plain(7) },
        Sampling { repetition_penalty: 1.4, temperature: 0.0, ..plain(8) },
        Sampling { logit_bias: vec![(3, 5.0), (40, f32::NEG_INFINITY)], top_k: 20, ..plain(9) },
    ]
}

#[track_caller]
fn is_an_age(answer: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let age = answer["age"].as_u64().unwrap();
    assert!(answer["name"].as_str().unwrap().chars().count() <= 20 && age <= 150, "{answer}");
}

#[test]
fn every_way_to_draw_draws_within_the_form_and_its_seed_draws_again() {
    for sampling in samplings() {
        let answer = alone(prompt(400), constrained(ages(), &sampling));
        is_an_age(answer.whole());
        assert_eq!(alone(prompt(400), constrained(ages(), &sampling)).ids, answer.ids, "{sampling:?}");
    }
    let texts = [11, 12, 13].map(|seed| alone(prompt(400), constrained(ages(), &plain(seed))).text);
    assert!(texts[0] != texts[1] || texts[1] != texts[2], "seeds make no difference: {texts:?}");
}

/// Asks for the most likely token, which nobody draws; tells if somebody does.
struct Best;

impl Sampler for Best {
    fn needs(&self, _: &History<'_>) -> Need {
        Need::Best
    }

    fn draw(&mut self, _: Logits<'_>, _: &History<'_>) -> Result<Draw> {
        Err(Error::Input("the best is not drawn".into()))
    }
}

/// Draws the best of what may follow, and notes by how much the network wanted another.
struct Overruled(std::sync::mpsc::Sender<usize>);

impl Sampler for Overruled {
    fn needs(&self, _: &History<'_>) -> Need {
        Need::Logits
    }

    fn draw(&mut self, logits: Logits<'_>, _: &History<'_>) -> Result<Draw> {
        let Logits::All(logits) = logits else { return Ok(Draw::NeedsAll) };
        let allowed = (0..logits.len()).filter(|&id| logits[id] > f32::NEG_INFINITY);
        self.0.send(allowed.clone().count()).unwrap();
        let best = allowed.rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        Ok(Draw::Token(best.unwrap() as u32))
    }
}

#[test]
fn the_greedy_choice_is_the_best_of_what_may_follow() {
    let (sender, allowed) = std::sync::mpsc::channel();
    let wanted = alone(prompt(400), ages().sampler(Box::new(Overruled(sender)), None));
    is_an_age(wanted.whole());
    for inner in [Box::new(Best) as Box<dyn Sampler>, sampler(&Sampling::greedy())] {
        assert_eq!(alone(prompt(400), ages().sampler(inner, None)).ids, wanted.ids);
    }
    // Where one token alone may follow, nobody is asked; within the name, most may.
    let allowed: Vec<usize> = allowed.try_iter().collect();
    assert!(allowed.iter().all(|&count| count > 1) && allowed.iter().any(|&count| count > 1000), "{allowed:?}");
}

#[test]
fn constrained_and_free_sequences_of_one_session_get_what_they_get_alone() {
    let mut session = session(3);
    let free = prompt(60);
    let ids = [
        session.join_with(prompt(400), constrained(ages(), &plain(1))).unwrap(),
        session.join_with(free.clone(), sampler(&plain(2))).unwrap(),
        session.join_with(prompt(400), constrained(constrainer().json_object().unwrap(), &plain(3))).unwrap(),
    ];
    let together = outcomes(&mut session);
    assert_eq!(together[&ids[0]].ids, alone(prompt(400), constrained(ages(), &plain(1))).ids);
    assert_eq!(together[&ids[1]].ids, alone(free, sampler(&plain(2))).ids);
    let object = constrained(constrainer().json_object().unwrap(), &plain(3));
    assert_eq!(together[&ids[2]].ids, alone(prompt(400), object).ids);
}

#[test]
fn clones_of_a_constraint_know_nothing_of_each_other() {
    let constraint = ages();
    let mut session = session(4);
    let ids: Vec<_> = (0..4)
        .map(|seed| session.join_with(prompt(400), constrained(constraint.clone(), &plain(seed))).unwrap())
        .collect();
    let answers = outcomes(&mut session);
    for (seed, id) in (0..).zip(ids) {
        is_an_age(answers[&id].whole());
        assert_eq!(answers[&id].ids, alone(prompt(400), constrained(ages(), &plain(seed))).ids);
    }
}

#[test]
fn log_probabilities_are_the_networks_and_change_no_draw() {
    let mut asked = prompt(400);
    asked.options.logprobs = Some(3);
    let mut session = session(1);
    let id = session.join_with(asked, constrained(ages(), &plain(2))).unwrap();
    let mut ids = Vec::new();
    while session.usage(id).is_some() {
        for piece in session.step(&sterna::StepBudget::default()) {
            ids.extend(piece.id);
            let Some(logprobs) = &piece.logprobs else { continue };
            let sum: f32 = logprobs.best.iter().map(|(_, logprob)| logprob.exp()).sum();
            assert!(logprobs.chosen <= 0.0 && logprobs.chosen > -60.0 && sum <= 1.001, "{logprobs:?}");
        }
    }
    assert_eq!(ids, alone(prompt(400), constrained(ages(), &plain(2))).ids);
}

#[test]
fn an_answer_cut_off_is_a_beginning_of_one() {
    let whole = alone(prompt(400), constrained(ages(), &plain(4)));
    let cut = alone(prompt(7), constrained(ages(), &plain(4)));
    assert_eq!(cut.finish, Some(Finish::MaxTokens));
    assert_eq!(cut.ids, whole.ids[..7]);
}

#[test]
fn past_the_end_the_end_comes_again() {
    let mut asked = prompt(60);
    asked.options.ignore_end = true;
    let constraint = constrainer().json_schema(&json!({ "const": 1 })).unwrap();
    let answer = alone(asked, constrained(constraint, &plain(4)));
    assert_eq!(answer.finish, Some(Finish::MaxTokens), "{answer:?}");
    let end = model().tokenizer().unwrap().end_of_generation();
    assert_eq!(answer.text.trim(), "1");
    assert!(answer.ids[40..].iter().all(|id| end.contains(id)), "{answer:?}");
}

#[test]
fn biases_that_leave_nothing_are_told_from_a_network_that_failed() {
    let all = (0..model().config().vocabulary as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let answer = alone(prompt(10), constrained(ages(), &Sampling { logit_bias: all, ..plain(1) }));
    assert_eq!(answer.finish, Some(Finish::Failed));
    assert!(answer.error.as_ref().is_some_and(|error| error.contains("biases")), "{answer:?}");
}

/// Puts its tokens into the sequence, then has the other draw, as a thinking budget does.
struct Forced(Vec<u32>, Box<dyn Sampler>);

impl Sampler for Forced {
    fn needs(&self, history: &History<'_>) -> Need {
        self.1.needs(history)
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw> {
        match self.0.get(history.made().len()) {
            Some(&id) => Ok(Draw::Token(id)),
            None => self.1.draw(logits, history),
        }
    }
}

#[test]
fn the_form_begins_after_a_text_that_the_model_or_another_made() {
    let within = |after: &'static str, sampling: &Sampling| ages().sampler(sampler(sampling), Some(after));
    // A text of the model's own, which it makes soon: the first sentence's end.
    for seed in 0..5 {
        let answer = alone(prompt(450), within(".", &plain(seed)));
        let (thought, form) = answer.whole().split_once('.').unwrap();
        assert!(!thought.is_empty(), "{answer:?}");
        is_an_age(form);
        assert!(form.len() - form.trim_start().len() <= 4, "{answer:?}");
    }
    // What another put there, in the tokens that its text has: after a line break or none, and with the form's first letter.
    for forced in ["I see. </think>\n\n", " </think>", "<think>\n</think>{"] {
        let ids = model().tokenizer().unwrap().encode(forced).unwrap();
        let answer = alone(prompt(400), Box::new(Forced(ids, within("</think>", &plain(1)))));
        assert!(answer.text.starts_with(forced.trim_start()) || answer.text.starts_with(forced), "{answer:?}");
        is_an_age(answer.whole().split_once("</think>").unwrap().1);
    }
}

#[test]
fn nothing_ends_before_the_form_has_begun() {
    let end = model().tokenizer().unwrap().eos().unwrap();
    let eager = Sampling { logit_bias: vec![(end, 100.0)], ..plain(1) };
    assert!(alone(prompt(20), sampler(&eager)).ids.is_empty());
    let answer = alone(prompt(20), ages().sampler(sampler(&eager), Some("</think>")));
    assert_eq!((answer.finish, answer.ids.len()), (Some(Finish::MaxTokens), 20));
}
