//! Whatever the order in which sequences come, go and are cancelled, each gets the ids that it gets alone.

use sterna::generate::{Prompt, Sampling, StepBudget};
use sterna::{Loaded, SessionOptions};

use crate::{Outcomes, Random, greedy, prompt, run_to_the_end, session};

/// Requests, and orders in which they come.
const CPU: (usize, usize) = (64, 20);
const GPU: (usize, usize) = (8, 3);

/// Every way to draw, prompts of 1 to 300 tokens, some of which begin alike.
fn requests(count: usize) -> Vec<Prompt> {
    let random = &mut Random(7);
    let beginning = random.ids(200);
    let request = |seed: usize| {
        let shared = if random.below(3) == 0 { random.below(200) } else { 0 };
        let own = 1 + random.below(300 - shared);
        let ids = [&beginning[..shared], &random.ids(own)].concat();
        let seed = seed as u64;
        let sampling = match random.below(6) {
            0 | 1 => return greedy(ids, 1 + random.below(20)),
            2 => Sampling { seed, ..Sampling::default() },
            3 => {
                Sampling { seed, top_k: 0, temperature: 1.0, repetition_penalty: 1.0, top_p: 0.9, ..Default::default() }
            }
            4 => Sampling { seed, top_k: 0, temperature: 1.3, repetition_penalty: 1.0, ..Default::default() },
            _ => Sampling { seed, top_k: 0, presence_penalty: 0.5, logit_bias: vec![(5, 1.0)], ..Default::default() },
        };
        prompt(ids, sampling, 1 + random.below(20))
    };
    (0..count).map(request).collect()
}

fn any_order_gives_the_ids_of_each_alone(loaded: &Loaded, (count, orders): (usize, usize)) {
    let requests = requests(count);
    let mut alone = session(loaded, 1, 64);
    let alone: Vec<Vec<u32>> = requests
        .iter()
        .map(|request| {
            alone.clear();
            let mut outcomes = Outcomes::default();
            let id = alone.join(request.clone()).unwrap();
            run_to_the_end(&mut alone, &mut outcomes);
            outcomes.of(id).to_vec()
        })
        .collect();
    assert!(requests.iter().zip(&alone).all(|(request, ids)| request.options.max_tokens == ids.len()));

    for order in 0..orders {
        let random = &mut Random(1000 + order as u64);
        let (sequences, chunk, reuses) = (1 + random.below(6), 8 + random.below(100), order % 4 != 3);
        let queue = Some(count);
        let options = SessionOptions { sequences, chunk: Some(chunk), queue, ..SessionOptions::default() };
        let mut session = loaded.session(&options).unwrap();
        let mut to_come: Vec<usize> = (0..count).collect();
        let (mut ids, mut outcomes, mut cancelled) = (vec![None; count], Outcomes::default(), 0);
        while !to_come.is_empty() || session.running() + session.waiting() > 0 {
            for _ in 0..random.below(4).min(to_come.len()) {
                let request = to_come.swap_remove(random.below(to_come.len()));
                ids[request] = Some(session.join(requests[request].clone()).unwrap());
            }
            if random.below(10) == 0 {
                // Somebody who may wait, read, make tokens, or be over.
                let known: Vec<usize> = ids.iter().flatten().copied().collect();
                if !known.is_empty() && session.leave(known[random.below(known.len())]) {
                    cancelled += 1;
                }
            }
            if !reuses {
                session.clear();
            }
            let budget = match random.below(3) {
                0 => StepBudget { rows: Some(1 + random.below(chunk)), ..StepBudget::whole_chunks() },
                1 => StepBudget { prompts_first: true, ..StepBudget::whole_chunks() },
                _ => StepBudget::whole_chunks(),
            };
            outcomes.take(session.step(&budget));
        }
        run_to_the_end(&mut session, &mut outcomes);
        assert!(cancelled > 0 && cancelled < count, "{cancelled} of {count} were cancelled");
        let mut whole = 0;
        for (request, (id, alone)) in ids.iter().zip(&alone).enumerate() {
            let ids = outcomes.of(id.unwrap());
            assert_eq!(ids, &alone[..ids.len()], "request {request}, order {order}");
            whole += usize::from(ids.len() == alone.len());
        }
        assert!(whole >= count - cancelled, "those that were not cancelled are whole");
    }
}

fn on_a_cpu(loaded: Loaded) {
    any_order_gives_the_ids_of_each_alone(&loaded, CPU);
}

#[test]
fn any_order_gives_the_ids_of_each_alone_on_the_cpu() {
    on_a_cpu(crate::loaded(crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2)));
}

#[test]
fn any_order_gives_the_ids_of_each_alone_on_a_gpu() {
    for device in crate::gpu::devices(Default::default()) {
        any_order_gives_the_ids_of_each_alone(&crate::loaded(sterna::gpu::Gpu::new(&device)), GPU);
    }
}
