//! A validation as an embedding application runs it, on a small model: what it promises beside figures.

use std::ops::ControlFlow;

use sterna::measure::validate::{Plan, Report, Section, Targets, Verdict, validate};
use sterna::measure::{Reads, Run, Workload};
use sterna::model::{SyntheticScales, SyntheticShape};
use sterna::{Device, Model, Session, SessionOptions};

fn model() -> Model {
    Model::synthetic(SyntheticShape::Tales4M, 1)
}

fn plan(sections: &[Section]) -> Plan {
    let (cache_prompt, prompts, batches) = (200, vec![16, 32], vec![2, 5]);
    Plan { sections: sections.to_vec(), cache_prompt, prompts, batches, bandwidth: false, ..Plan::quick() }
}

fn run(model: &Model, plan: &Plan) -> Report {
    validate(model, plan, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn fails(report: &Report) -> Vec<(&str, &str)> {
    let failed = report.criteria.iter().filter(|c| matches!(c.verdict, Verdict::Fail(_)));
    failed.map(|c| (c.id, &c.what[..])).collect()
}

#[test]
fn every_section_judges_what_it_is_for() {
    // Speeds of so small a model say nothing; all else must hold.
    let targets = Targets { batch_efficiency: 0.0, cache_speedup: 0.0, ..Targets::default() };
    let plan = Plan { targets, bandwidth: true, ..plan(&[Section::Cpu, Section::Cache, Section::Batch]) };
    let report = run(&model(), &plan);
    assert_eq!(fails(&report), [], "{:#?}", report.criteria);
    assert!(report.passes() && !report.stopped);
    for id in ["AC5.1", "AC5.3", "AC5.4"] {
        assert!(report.criteria.iter().any(|c| c.id == id && c.verdict == Verdict::Pass), "{id}");
    }
    let (bandwidth, threads) = report.cpu_bandwidth.unwrap();
    assert!(bandwidth.least < bandwidth.most && threads > 0);
}

#[test]
fn a_target_out_of_reach_fails_its_criterion_alone() {
    let targets = Targets { cpu_tokens_per_second: 1e9, ..Targets::default() };
    let report = run(&model(), &Plan { targets, ..plan(&[Section::Cpu]) });
    assert_eq!(fails(&report), [("AC5.1", "decoding, one sequence, I2_S")]);
    assert!(!report.passes());
}

#[test]
fn a_model_with_superblocks_is_held_to_their_floor() {
    let model = Model::synthetic_with(SyntheticShape::Tales4M, SyntheticScales::Superblocks, 1);
    let report = run(&model, &plan(&[Section::Cpu]));
    let speeds: Vec<_> = report.criteria.iter().filter(|c| c.what.starts_with("decoding")).collect();
    assert_eq!(speeds.len(), 1);
    assert!(speeds[0].what.contains("256-column superblocks") && speeds[0].verdict == Verdict::Pass);
    let kernels = &report.measurements[0].runs[0].work;
    assert!(kernels.calls_of("dot_codes, grouped") > 0, "{kernels:?}");
}

#[test]
fn what_the_model_has_no_room_for_is_not_measured() {
    let report =
        run(&model(), &Plan { cache_prompt: 1024, prompts: vec![4096], ..plan(&[Section::Cpu, Section::Cache]) });
    let cache = report.criteria.iter().find(|c| c.id == "AC5.3").unwrap();
    assert!(matches!(&cache.verdict, Verdict::NotMeasured(why) if why.contains("512 positions")), "{cache:?}");
    let speed = report.criteria.iter().find(|c| c.what.contains("I2_S")).unwrap();
    assert!(matches!(&speed.verdict, Verdict::NotMeasured(why) if why.contains("4096")) && speed.value.is_none());
}

#[test]
fn a_validation_that_is_stopped_returns_what_it_found() {
    let mut asked = 0;
    let report = validate(&model(), &plan(&[Section::Cpu, Section::Batch]), &mut |progress| {
        asked += 1;
        if progress.what.starts_with("batch of") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = report.unwrap();
    assert!(report.stopped && asked > 3);
    assert!(report.criteria.iter().all(|c| c.id == "AC5.1"), "batches were stopped");
    assert!(!report.criteria.is_empty());
    let at_once = validate(&model(), &plan(&[Section::Cpu]), &mut |_| ControlFlow::Break(())).unwrap();
    assert!(at_once.stopped && at_once.criteria.is_empty() && at_once.measurements.is_empty());
}

#[test]
fn a_plan_that_measures_nothing_is_an_error() {
    let empty = [
        Plan { sections: vec![], ..plan(&[]) },
        Plan { prompts: vec![], ..plan(&[Section::Cpu]) },
        Plan { runs: 0, ..plan(&[Section::Cpu]) },
        Plan { tokens: 1, ..plan(&[Section::Cpu]) },
        Plan { batches: vec![1], ..plan(&[Section::Batch]) },
    ];
    for plan in empty {
        let error = validate(&model(), &plan, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, sterna::Error::Input(_)), "{error}");
    }
}

#[test]
fn the_work_of_a_run_is_that_of_its_rows() {
    let model = model();
    let workload = Workload { prompt: 20, batch: 3, tokens: 5 };
    let prompts = workload.prompts(7, 2048);
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.ids.len()).collect();
    assert_eq!(lengths, [20, 17, 14], "prompts are ragged");
    let options = SessionOptions { context: Some(40), sequences: 3, ..SessionOptions::default() };
    let mut session = Session::new(&model, &Device::cpu(), &options).unwrap();
    let run = Run::measure(&mut session, &prompts, &mut || ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((run.work.steps, run.work.rows), (5, 51 + 4 * 3));
    assert_eq!((run.steps.len(), run.ids.len(), run.prompt_tokens), (4, 3, 51));
    let trit_bytes = model.config().ternary_weights() / 4;
    // Kernels of many rows may pass over the weights once for some rows and once for the others.
    assert!((5 * trit_bytes..=6 * trit_bytes).contains(&run.work.bytes(Reads::Trits)), "{:?}", run.work);
    assert_eq!(run.work.calls(Reads::Cache), 5 * 4, "each step attends in each layer");
    assert_eq!(run.bytes_per_step, (trit_bytes + 2048 * 256 * 2) as f64, "trits, and the f16 head");
    let seen = run.timings.prefill + run.timings.decode;
    assert!(seen <= run.wall && run.first_token <= run.wall);
    assert!(run.decode_per_second().unwrap() > 0.0);
}

#[test]
fn logits_with_a_cached_prefix_are_those_without() {
    let mut session = Session::new(&model(), &Device::cpu(), &SessionOptions::default()).unwrap();
    let ids: Vec<u32> = (0..50).map(|i| i * 37 % 2048).collect();
    session.logits(&ids[..49]).unwrap();
    let before = session.work().rows;
    let cached = session.logits(&ids).unwrap();
    assert_eq!(session.work().rows - before, 1, "one row is computed");
    session.clear();
    assert_eq!(session.logits(&ids).unwrap(), cached);
    assert_eq!(session.work().rows - before, 51);
    assert!(session.logits(&[]).is_err() && session.logits(&[2048]).is_err());
}

#[test]
fn caches_are_given_what_the_formula_says() {
    for (context, sequences) in [(64, 1), (100, 3)] {
        let options = SessionOptions { context: Some(context), sequences, ..SessionOptions::default() };
        let session = Session::new(&model(), &Device::cpu(), &options).unwrap();
        // Keys, which a CPU keeps by sixteens, and values; layers, sequences, heads, features, bytes.
        let formula = (context.next_multiple_of(16) + context) * 4 * sequences * 2 * 64 * 2;
        assert_eq!(session.cache_bytes(), formula as u64);
        assert_eq!(session.device_bytes(), None, "a CPU has no memory of its own");
    }
}
