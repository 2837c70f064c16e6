//! A model from opening to tokens, with everything that must hold on the way: errors that can be printed, and tokens that do not
//! depend on how many rows a step has.

use sterna::cpu::{CpuOptions, KernelSet, Screening};
use sterna::generate::{GenerateOptions, Sampling};
use sterna::reference::Reference;
use sterna::{Device, Error, Model, Session, SessionOptions};

use crate::Input;
use crate::counting_allocator::peak_bytes;

/// Larger networks than this are not run: they are slow, and show nothing that smaller ones do not.
const LARGEST: usize = 4096;

/// Bytes of memory that any model may take besides sixteen times its own.
const MOST_BYTES: usize = 64 << 20;

/// Whether an error, or a decision, is short and holds nothing that a terminal obeys.
pub fn check_text(text: &str) {
    assert!(text.len() < 4000 && !text.contains(char::is_control), "no text for people: {text:?}");
}

/// Opens and runs a model of so many bytes, and holds that to little memory: what a file does not hold, it does not get.
pub fn check_from(bytes: usize, way: Way, open: impl FnOnce() -> Result<Model, Error>) {
    let (_, peak) = peak_bytes(|| match open() {
        Err(error) => check_text(&error.to_string()),
        Ok(model) => check(&model, way),
    });
    assert!(peak <= 16 * bytes + MOST_BYTES, "{peak} bytes of memory for {bytes} bytes of a model");
}

/// Which kernels, which head.
#[derive(Clone, Copy)]
pub struct Way {
    reference: bool,
    kernels: Option<KernelSet>,
    screening: Screening,
}

impl Way {
    pub fn choose(input: &mut Input) -> Self {
        let choice = input.byte();
        Self {
            reference: choice % 16 == 15,
            kernels: [None, None, Some(KernelSet::Avx2), Some(KernelSet::Portable)][usize::from(choice / 16 % 4)],
            screening: if choice / 64 % 2 == 0 { Screening::Always } else { Screening::Never },
        }
    }
}

/// Runs a model that was opened, twice: with steps of one row and of several.
fn check(model: &Model, way: Way) {
    for decision in model.decisions() {
        check_text(&format!("{} {} {}", decision.subject, decision.choice, decision.reason));
    }
    let config = model.config();
    if [config.width, config.ffn_width, config.heads.head_dim, config.layers * 256].iter().any(|&size| size > LARGEST) {
        return;
    }
    let text = |result: Result<Vec<u32>, Error>| result.map_err(|error| error.to_string());
    let alone = text(tokens(model, way, 1));
    if let Err(error) = &alone {
        check_text(error);
    }
    let together = text(tokens(model, way, 4));
    match (&alone, &together) {
        (Ok(one), Ok(other)) => assert_eq!(one, other, "the size of steps changes the tokens"),
        (Err(_), Err(_)) => {}
        _ => panic!("the size of steps decides whether it runs: {alone:?}, {together:?}"),
    }
}

/// Greedy tokens, drawn ones, and those after a text; or the bits of a vector.
fn tokens(model: &Model, way: Way, rows: usize) -> Result<Vec<u32>, Error> {
    let options =
        SessionOptions { context: Some(model.config().context.min(8)), chunk: Some(rows), ..SessionOptions::default() };
    let mut session = if way.reference {
        Session::with_backend(model, Reference::default(), &options)?
    } else {
        let cpu = CpuOptions { threads: Some(1), kernels: way.kernels, screening: way.screening };
        Session::new(model, &Device::cpu_with(cpu), &options)?
    };
    let positions = session.positions();
    let vocabulary = model.config().vocabulary as u32;
    let ids: Vec<u32> = (0..positions.min(4) as u32).map(|id| id * 7 % vocabulary).collect();
    if model.config().pooling.is_some() {
        return Ok(session.embed_ids(&[&ids])?.into_iter().flatten().map(f32::to_bits).collect());
    }
    let greedy = GenerateOptions { max_tokens: 3, ..GenerateOptions::greedy() };
    let drawn =
        GenerateOptions { sampling: Sampling { seed: 7, ..Sampling::default() }, max_tokens: 2, ..greedy.clone() };
    let mut made = Vec::new();
    for options in [&greedy, &drawn] {
        for id in session.generate_ids(&ids, options)? {
            made.push(id?);
        }
    }
    let stopped = GenerateOptions { stop: vec!["b".into()], max_tokens: 2, ..greedy };
    if let Ok(texts) = session.generate("ab c", &stopped) {
        for text in texts {
            text?;
        }
    }
    assert!(made.iter().all(|&id| id < vocabulary));
    Ok(made)
}
