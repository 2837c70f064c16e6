use super::*;

fn draw(options: Sampling, logits: &[f32], history: &[u32], draws: usize) -> Vec<u32> {
    let mut sampler = Sampled::new(&options, history.len(), logits.len()).unwrap();
    (0..draws).map(|_| draw_one(&mut sampler, logits, &History { ids: history, prompt: 0 })).collect()
}

/// A draw from all logits.
fn draw_one(sampler: &mut Sampled, logits: &[f32], history: &History<'_>) -> u32 {
    match sampler.draw(Logits::All(&mut logits.to_vec()), history).unwrap() {
        Draw::Token(id) => id,
        Draw::NeedsAll => panic!("it was told all"),
    }
}

/// A draw as a session makes it: told what it needs, and all if that was too little.
fn draw_as_needed(sampler: &mut Sampled, logits: &[f32], history: &History<'_>, asked_again: &mut usize) -> u32 {
    let (count, temperature) = match sampler.needs(history) {
        Need::Best => (1, None),
        Need::Candidates(count) => (count, None),
        Need::Totals { candidates, temperature } => (candidates, Some(temperature)),
        Need::Logits => return draw_one(sampler, logits, history),
    };
    let mut ranking = Ranking::new();
    ranking.begin(count);
    ranking.offer_all(logits);
    let best = ranking.finish();
    let (ids, best_logits): (Vec<u32>, Vec<f32>) = best.iter().map(|c| (c.id, c.logit)).unzip();
    let totals = temperature.map(|temperature| Totals {
        at_one: total_odds(logits, best_logits[0], 1.0),
        at_temperature: total_odds(logits, best_logits[0], 1.0 / temperature),
    });
    let best = Candidates { ids: &ids, logits: &best_logits, totals };
    match sampler.draw(Logits::Best(best), history).unwrap() {
        Draw::Token(id) => id,
        Draw::NeedsAll => {
            *asked_again += 1;
            draw_one(sampler, logits, history)
        }
    }
}

fn plain() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, repetition_penalty: 1.0, ..Sampling::default() }
}

#[test]
fn temperature_zero_takes_the_first_of_the_largest() {
    let options = Sampling { temperature: 0.0, ..plain() };
    assert_eq!(draw(options, &[0.0, 3.0, 1.0, 3.0], &[], 3), [1, 1, 1]);
}

#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
    let ids = draw(plain(), &logits, &[], 40_000);
    for (id, probability) in [0.5, 0.25, 0.125, 0.125].into_iter().enumerate() {
        let share = ids.iter().filter(|&&i| i as usize == id).count() as f64 / ids.len() as f64;
        assert!((share - probability).abs() < 0.01, "token {id} was drawn {share}, not {probability}");
    }
}

#[test]
fn top_k_keeps_exactly_the_k_best() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 617) % 1000) as f32 * 1e-3).collect();
    let mut wanted: Vec<u32> = (0..1000).collect();
    wanted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    let mut drawn = draw(Sampling { top_k: 7, ..plain() }, &logits, &[], 2000);
    drawn.sort_unstable();
    drawn.dedup();
    wanted.truncate(7);
    wanted.sort_unstable();
    assert_eq!(drawn, wanted);
}

#[test]
fn top_p_and_min_p_cut_the_tail() {
    let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let most = |options| draw(options, &logits, &[], 2000).into_iter().max().unwrap();
    assert_eq!(most(Sampling { top_p: 0.7, ..plain() }), 1, "0.5 + 0.3 reach 0.7");
    assert_eq!(most(Sampling { top_p: 0.5, ..plain() }), 0, "0.5 alone reaches 0.5");
    assert_eq!(most(Sampling { min_p: 0.25, ..plain() }), 2, "0.15 is at least a quarter of 0.5");
    assert_eq!(most(Sampling { min_p: 1.0, ..plain() }), 0, "the best one always stays");
}

#[test]
fn penalty_lowers_recent_tokens_of_either_sign() {
    let options = Sampling { temperature: 0.0, repetition_penalty: 2.0, repetition_window: 2, ..plain() };
    assert_eq!(draw(options.clone(), &[1.0, 1.5], &[1], 1), [0], "1.5 / 2 is below 1");
    assert_eq!(draw(options.clone(), &[-1.0, -0.6], &[1], 1), [0], "-0.6 * 2 is below -1");
    assert_eq!(draw(options, &[1.0, 1.5], &[1, 0, 0], 1), [1], "token 1 lies before the window");
}

#[test]
fn equal_seeds_draw_equally_and_others_differ() {
    let logits = vec![0.0; 50];
    let with = |seed| draw(Sampling { seed, ..plain() }, &logits, &[], 20);
    assert_eq!(with(7), with(7));
    assert_ne!(with(7), with(8));
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let mut sampler = Sampled::new(&plain(), 0, 4).unwrap();
    let outcome = sampler.draw(Logits::All(&mut [f32::NAN; 4]), &History { ids: &[], prompt: 0 });
    assert!(matches!(outcome, Err(Error::NotFinite(_))));
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    for (options, name) in [
        (Sampling { temperature: -1.0, ..plain() }, "temperature"),
        (Sampling { temperature: f32::NAN, ..plain() }, "temperature"),
        (Sampling { top_p: 0.0, ..plain() }, "top-p"),
        (Sampling { min_p: 1.5, ..plain() }, "min-p"),
        (Sampling { repetition_penalty: 0.0, ..plain() }, "repetition penalty"),
        (Sampling { presence_penalty: 2.5, ..plain() }, "presence penalty"),
        (Sampling { frequency_penalty: f32::NAN, ..plain() }, "frequency penalty"),
        (Sampling { logit_bias: vec![(4, 1.0)], ..plain() }, "token 4"),
        (Sampling { logit_bias: vec![(0, f32::INFINITY)], ..plain() }, "logit bias"),
    ] {
        let error = Sampled::new(&options, 0, 4).err().expect("refused").to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// Logits of a vocabulary that the best candidates are a small part of, flat or steep.
fn wide(flatness: f32) -> Vec<f32> {
    (0..5000u32).map(|i| -((i * 2657 % 5000) as f32).ln_1p() / flatness).collect()
}

#[test]
fn a_draw_told_what_it_needs_is_the_draw_told_all() {
    let mut asked_again = 0;
    let mut told_enough = 0;
    for flatness in [0.2, 0.7, 2.0] {
        let logits = wide(flatness);
        for options in [
            plain(),
            Sampling { temperature: 0.6, ..plain() },
            Sampling { temperature: 1.7, ..plain() },
            Sampling { top_p: 0.9, ..plain() },
            Sampling { top_p: 0.3, temperature: 1.5, ..plain() },
            Sampling { min_p: 0.02, ..plain() },
            Sampling { min_p: 1e-4, top_p: 0.99, ..plain() },
            Sampling { top_k: 50, top_p: 0.8, ..plain() },
            Sampling { top_k: 50, repetition_penalty: 1.3, ..plain() },
            Sampling { top_k: 50, presence_penalty: 1.0, frequency_penalty: 0.3, ..plain() },
            Sampling { top_k: 50, logit_bias: vec![(0, -3.0), (7, f32::NEG_INFINITY)], ..plain() },
            Sampling { repetition_penalty: 1.3, top_p: 0.9, ..plain() },
            Sampling { logit_bias: vec![(17, 4.0)], ..plain() },
            Sampling { temperature: 0.0, frequency_penalty: 1.0, ..plain() },
        ] {
            let mut one = Sampled::new(&options, 200, logits.len()).unwrap();
            let mut other = Sampled::new(&options, 200, logits.len()).unwrap();
            let mut ids = vec![0, 1];
            for _ in 0..150 {
                let history = History { ids: &ids, prompt: 2 };
                let before = asked_again;
                let (a, b) = (
                    draw_as_needed(&mut one, &logits, &history, &mut asked_again),
                    draw_one(&mut other, &logits, &history),
                );
                assert_eq!(a, b, "{options:?}, flatness {flatness}, after {}", ids.len());
                told_enough += usize::from(asked_again == before);
                ids.push(a);
            }
        }
    }
    assert!(asked_again > 50 && told_enough > asked_again, "{asked_again} draws were asked again, {told_enough} not");
}

#[test]
fn presence_and_frequency_count_what_was_made_and_not_the_prompt() {
    let logits = [0.0, -0.5, -10.0];
    let pick = |presence_penalty, frequency_penalty, ids: &[u32]| {
        let options = Sampling { temperature: 0.0, presence_penalty, frequency_penalty, ..plain() };
        draw_one(&mut Sampled::new(&options, ids.len(), 3).unwrap(), &logits, &History { ids, prompt: 1 })
    };
    assert_eq!(pick(1.0, 0.0, &[0]), 0, "the prompt does not count");
    assert_eq!(pick(1.0, 0.0, &[0, 0]), 1, "0 − 1 is below −0.5");
    assert_eq!(pick(0.4, 0.0, &[0, 0, 0, 0]), 0, "presence counts once");
    assert_eq!(pick(0.0, 0.2, &[0, 0, 0, 0]), 1, "frequency counts each time: 0 − 0.6 is below −0.5");
    assert_eq!(pick(0.0, -0.2, &[1, 1, 1, 1]), 1, "a negative one attracts: −0.5 + 0.6 is above 0");
}

#[test]
fn biases_raise_lower_and_rule_out() {
    let pick = |logit_bias: &[(u32, f32)]| {
        let options = Sampling { temperature: 0.0, logit_bias: logit_bias.to_vec(), ..plain() };
        draw_one(&mut Sampled::new(&options, 0, 3).unwrap(), &[3.0, 2.0, 1.0], &History { ids: &[], prompt: 0 })
    };
    assert_eq!(pick(&[(2, 2.5)]), 2);
    assert_eq!(pick(&[(0, -1.5)]), 1);
    assert_eq!(pick(&[(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)]), 2);
    assert_eq!(pick(&[(2, 1.0), (2, 1.5)]), 2, "those of one token add up");
}
