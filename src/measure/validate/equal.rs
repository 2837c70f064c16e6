//! Whether a device computes what it should: speed counts for nothing without it.

use crate::backend::{Reads, Work};
use crate::device::Device;
use crate::generate::{Session, SessionOptions};
use crate::measure::run::Workload;
use crate::measure::validate::{Criterion, Evidence, Outcome, ROUNDING_TOLERANCE, Target, Validation};
use crate::model::{Model, SyntheticShape};
use crate::reference::Reference;

/// Positions whose logits are compared: more than a tile of every kernel has rows, so that the kernels of long prompts run.
const POSITIONS: usize = 48;
/// Greedy tokens that are compared.
const TOKENS: usize = 16;
/// The seed of a small model whose activations stay clear of rounding boundaries in one layer. In more layers, devices part at
/// some activation sooner or later, and all that comes after it differs.
const CLEAR_SEED: u64 = 2;

/// What one device computed.
struct Answers {
    device: String,
    kernels: Vec<&'static str>, // that multiplied the rows whose logits are compared
    unproven: Option<String>,   // kernels of prompts that did not
    ids: Vec<u32>,              // [TOKENS], greedy
    logits: Vec<Vec<f32>>, // [POSITIONS + TOKENS][vocabulary]: of the prompt at once, then of each id that was expected
}

/// How far apart two devices are.
struct Difference {
    clear: f64, // of any logit, as a share of the largest of its row, in the nearest quarter of the rows, computed many or single
    most: f64,  // in all rows
    equal: usize,
    all: usize, // greedy ids
    flaw: Option<String>,
}

impl Validation<'_> {
    /// A small model with random trits, on the device and on the reference in plain loops.
    pub(super) fn equals_reference(&mut self, id: &'static str, device: &Device) -> Outcome<()> {
        let model = Model::synthetic(SyntheticShape::Tales4M, CLEAR_SEED).first_layers(1);
        self.tell("comparing with the reference", 0, 2)?;
        let mut expected = Session::with_backend(&model, Reference::default(), &options())?;
        let expected = answers(&mut expected, CLEAR_SEED, None)?;
        self.tell("comparing with the reference", 1, 2)?;
        let found = answers(&mut Session::new(&model, device, &options())?, CLEAR_SEED, Some(&expected.ids))?;
        let what = "logits, against plain loops on a small model";
        self.add_difference(id, what, &found, &expected);
        Ok(())
    }

    /// The first layer of this model, on the device and on another.
    pub(super) fn equals_device(
        &mut self,
        id: &'static str,
        device: &Device,
        other: &Device,
        name: &str,
    ) -> Outcome<()> {
        let model = self.model.first_layers(1);
        let what = format!("logits, against {name} on the first layer of this model");
        self.tell("comparing kernels", 0, 2)?;
        let expected = answers(&mut Session::new(&model, other, &options())?, self.plan.seed, None)?;
        self.tell("comparing kernels", 1, 2)?;
        let found = answers(&mut Session::new(&model, device, &options())?, self.plan.seed, Some(&expected.ids))?;
        self.add_difference(id, &what, &found, &expected);
        Ok(())
    }

    fn add_difference(&mut self, id: &'static str, what: &str, found: &Answers, expected: &Answers) {
        let Difference { clear, most, equal, all, flaw } = difference(found, expected);
        let how = format!(
            "in the quarter of {} positions that no rounding boundary touches; {most:.1e} in all, of which {ROUNDING_TOLERANCE} may \
             be rounding; {equal} of {all} greedy ids equal; by {}; against {}",
            expected.logits.len(),
            found.kernels.join(", "),
            expected.device
        );
        let evidence = Evidence { value: Ok(clear), flaw, unjudged: None, how };
        let target = Target::AtMost(self.plan.targets.logits_difference);
        self.add(Criterion::judge((id, &found.device, what.into()), target, "of the largest", evidence));
    }
}

fn options() -> SessionOptions {
    SessionOptions { context: Some(POSITIONS + TOKENS), ..SessionOptions::default() }
}

/// How a seeded prompt goes on, and the logits of all its positions. Those after the prompt are of the ids `expected`, or of the
/// device's own.
fn answers(session: &mut Session, seed: u64, expected: Option<&[u32]>) -> crate::Result<Answers> {
    let vocabulary = session.model().config().vocabulary;
    let prompt = &Workload { prompt: POSITIONS, batch: 1, tokens: TOKENS }.prompts(seed, vocabulary)[0];
    let before = session.work();
    let ids: Vec<u32> = session.generate_ids(&prompt.ids, &prompt.options)?.collect::<crate::Result<_>>()?;
    let generated = session.work();
    let mut logits = Vec::new();
    session.evaluate(&prompt.ids, &mut |_, row| logits.push(row.to_vec()))?;
    let evaluated = session.work().since(&generated);
    // Many rows and single rows have kernels of their own.
    let all = [&prompt.ids, expected.unwrap_or(&ids)].concat();
    for end in prompt.ids.len() + 1..=all.len() {
        logits.push(session.logits(&all[..end])?);
    }
    let kernels = multipliers(&session.work().since(&generated));
    let unproven = unproven(&multipliers(&generated.since(&before)), &kernels, evaluated.rows);
    Ok(Answers { device: session.device().to_owned(), kernels, unproven, ids, logits })
}

/// The kernels that multiplied trits.
fn multipliers(work: &Work) -> Vec<&'static str> {
    work.kernels.iter().filter(|kernel| kernel.reads == Reads::Trits).map(|kernel| kernel.name).collect()
}

/// What speaks against logits as evidence: a kernel that computed a prompt and its tokens, and not these logits.
fn unproven(generated: &[&str], compared: &[&str], rows: u64) -> Option<String> {
    let missing: Vec<&str> = generated.iter().filter(|kernel| !compared.contains(kernel)).copied().collect();
    match (&missing[..], rows) {
        ([], rows) if rows == POSITIONS as u64 => None,
        ([], rows) => Some(format!("the logits of {POSITIONS} positions were made of {rows} rows")),
        _ => Some(format!("{} computed tokens, but none of the logits that were compared", missing.join(", "))),
    }
}

fn difference(found: &Answers, expected: &Answers) -> Difference {
    let rows = found.logits.iter().zip(&expected.logits);
    let mut differences: Vec<f64> = rows.map(|(a, b)| relative_difference(a, b)).collect();
    let most = differences.iter().copied().fold(0.0, f64::max);
    let prompt = POSITIONS.min(differences.len());
    let (of_prompt, of_tokens) = differences.split_at_mut(prompt);
    let clear = nearest_quarter(of_prompt).max(nearest_quarter(of_tokens));
    let equal = found.ids.iter().zip(&expected.ids).take_while(|(a, b)| a == b).count();
    let (asked, all) = (expected.ids.len(), expected.logits.len());
    let flaw = if let Some(unproven) = &found.unproven {
        Some(unproven.clone())
    } else if (found.ids.len(), found.logits.len()) != (asked, all) {
        Some("the devices told of different numbers of positions".into())
    } else if most > ROUNDING_TOLERANCE {
        Some(format!("some logits differ by {most:.3} of the largest, which is more than rounding does"))
    } else if equal < asked {
        // Two tokens that are as good as equally likely may change places.
        let (a, b) = (found.ids[equal], expected.ids[equal]);
        let gap = gap(&expected.logits[all - asked + equal - 1], a, b);
        (gap > ROUNDING_TOLERANCE)
            .then(|| format!("token {equal} is {a} instead of {b}, which is {gap:.4} of the largest above it"))
    } else {
        None
    };
    Difference { clear, most, equal, all: asked, flaw }
}

/// The largest of the nearest quarter; infinite where there are none.
fn nearest_quarter(differences: &mut [f64]) -> f64 {
    differences.sort_by(f64::total_cmp);
    differences.get(differences.len() / 4).copied().unwrap_or(f64::INFINITY)
}

/// The largest difference of two rows of logits, as a share of the largest magnitude; infinite where one is no number.
pub(super) fn relative_difference(found: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0f64, |most, &logit| most.max(f64::from(logit).abs()));
    let difference = found.iter().zip(expected).fold(0.0f64, |most, (&a, &b)| {
        let difference = (f64::from(a) - f64::from(b)).abs();
        if difference.is_nan() { f64::INFINITY } else { most.max(difference) }
    });
    match found.len() == expected.len() && largest > 0.0 {
        true => difference / largest,
        false => f64::INFINITY,
    }
}

/// How far two logits are apart, as a share of the largest magnitude of all.
pub(super) fn gap(logits: &[f32], a: u32, b: u32) -> f64 {
    let at = |id: u32| logits.get(id as usize).map_or(f64::NAN, |&logit| f64::from(logit));
    let largest = logits.iter().fold(0.0f64, |most, &logit| most.max(f64::from(logit).abs()));
    let gap = (at(a) - at(b)).abs() / largest;
    if gap.is_nan() { f64::INFINITY } else { gap }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shares_of_the_largest() {
        assert_eq!(relative_difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(relative_difference(&[2.0, -4.0], &[1.0, -4.0]), 0.25);
        assert_eq!(relative_difference(&[f32::NAN, 1.0], &[1.0, 1.0]), f64::INFINITY);
        assert_eq!(relative_difference(&[0.0], &[0.0]), f64::INFINITY, "a row of zeros proves nothing");
        assert_eq!(relative_difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }

    #[test]
    fn logits_prove_the_kernels_that_computed_them_alone() {
        let rows = POSITIONS as u64;
        assert_eq!(unproven(&["matmul", "matvec"], &["matvec", "matmul"], rows), None);
        assert!(unproven(&["matmul", "matvec"], &["matvec"], rows).is_some_and(|text| text.contains("matmul")));
        assert!(unproven(&["matvec"], &["matvec"], rows - 1).is_some());
    }

    #[test]
    fn a_gap_to_nothing_is_infinite() {
        assert_eq!(gap(&[1.0, 2.0, -4.0], 0, 1), 0.25);
        assert_eq!(gap(&[1.0], 0, u32::MAX), f64::INFINITY);
    }
}
