//! AC5.4: several sequences at once share each read of the weights, and each gets what it would get alone.

use crate::device::Device;
use crate::generate::{Prompt, Session};
use crate::measure::run::{Measurement, Run, Workload};
use crate::measure::validate::{Criterion, Evidence, Outcome, ScaleSpan, Target, Validation};

const ID: &str = "AC5.4";

/// The most that the products of a batch may take, as a share of the time in which the weights are read, where weight traffic
/// is what binds a device. Nearer to the balance of the two, both do.
const TRAFFIC_BOUND: f64 = 0.5;

/// Tokens of the prompt that says how many products a second the device makes.
const ARITHMETIC_PROMPT: usize = 128;

impl Validation<'_> {
    pub(super) fn batch(&mut self, device: &Device) -> Outcome<()> {
        let Workload { prompt, tokens, .. } = self.workload(1);
        let most = self.plan.batches.iter().copied().max().unwrap_or(1);
        let positions = (prompt + tokens).max(ARITHMETIC_PROMPT + 2);
        let mut options = match self.context(positions) {
            Ok(options) => options,
            Err(why) => {
                let evidence = Evidence { value: Err(why), flaw: None, unjudged: None, how: String::new() };
                let target = Target::AtLeast(self.plan.targets.batch_efficiency);
                self.add(Criterion::judge((ID, "", "efficiency of a batch".into()), target, "", evidence));
                return Ok(());
            }
        };
        options.sequences = most;
        let model = self.model;
        let mut session = self.load(model, device, &options)?;
        self.warm_up(&mut session)?;
        let rows_per_second = self.arithmetic(&mut session)?;

        // Sizes by turns, so that a machine that slows down meanwhile slows all of them.
        let sizes: Vec<usize> = std::iter::once(1).chain(self.plan.batches.iter().copied()).collect();
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); sizes.len()];
        let vocabulary = model.config().vocabulary;
        for run in 1..=self.plan.runs {
            for (&size, runs) in sizes.iter().zip(&mut runs) {
                let what = format!("batch of {size}, run {run} of {}", self.plan.runs);
                runs.push(self.run_once(
                    &mut session,
                    &self.workload(size).prompts(self.plan.seed, vocabulary),
                    &what,
                )?);
            }
        }
        let (name, span) = (session.device().to_owned(), ScaleSpan::of(model)?.to_string());
        let measured: Vec<Measurement> = sizes
            .iter()
            .zip(runs)
            .map(|(&size, runs)| {
                Measurement::new(name.clone(), span.clone(), self.workload(size), runs, model.config())
            })
            .collect();
        let (single, batches) = measured.split_first().expect("one sequence is among them");
        for batch in batches {
            self.judge_efficiency(single, batch, rows_per_second);
        }
        self.judge_sequences(batches);
        let equality = self.equals_alone(&mut session, most)?;
        self.report.measurements.extend(measured);
        self.add(equality);
        Ok(())
    }

    fn workload(&self, batch: usize) -> Workload {
        Workload { prompt: self.plan.batch_prompt, batch, tokens: self.plan.tokens }
    }

    /// Rows a second of a prompt, which is bound by arithmetic: the most that any batch can reach.
    fn arithmetic(&mut self, session: &mut Session) -> Outcome<f64> {
        let workload = Workload { prompt: ARITHMETIC_PROMPT, batch: 1, tokens: 1 };
        let prompts = workload.prompts(self.plan.seed, session.model().config().vocabulary);
        let mut best = 0.0f64;
        for _ in 0..self.plan.runs {
            best = best.max(self.run_once(session, &prompts, "a prompt, for its products")?.prefill_per_second());
        }
        Ok(best)
    }

    fn judge_efficiency(&mut self, single: &Measurement, batch: &Measurement, rows_per_second: f64) {
        let size = batch.workload.batch;
        let rates = single.decode().zip(batch.decode());
        let (alone, together) = rates.map_or((f64::NAN, f64::NAN), |(a, b)| (a.mean, b.mean));
        let (reading, multiplying) = (1.0 / alone, size as f64 / rows_per_second);
        let unjudged = (multiplying > TRAFFIC_BOUND * reading).then(|| {
            format!(
                "not bound by weight traffic alone: the products of {size} rows take {:.1} ms, a step of one row {:.1} ms",
                multiplying * 1e3,
                reading * 1e3
            )
        });
        let most = rows_per_second.min(size as f64 * alone);
        let how = format!(
            "{together:.1} tok/s together, {alone:.1} alone; {:.0} % of the {most:.1} that weight traffic and arithmetic allow",
            100.0 * together / most
        );
        let flaw = single.flaw.clone().or_else(|| batch.flaw.clone());
        let evidence = Evidence { value: Ok(together / (size as f64 * alone)), flaw, unjudged, how };
        let target = Target::AtLeast(self.plan.targets.batch_efficiency);
        let what = (ID, &batch.device[..], format!("efficiency, {size} sequences"));
        self.add(Criterion::judge(what, target, "", evidence));
    }

    fn judge_sequences(&mut self, batches: &[Measurement]) {
        let each =
            |batch: &Measurement| Some((batch.workload.batch, batch.decode()?.mean / batch.workload.batch as f64));
        let rates: Vec<(usize, f64)> = batches.iter().filter_map(each).collect();
        let least = rates.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let all: Vec<String> = rates.iter().map(|(size, rate)| format!("{rate:.1} of {size}")).collect();
        let evidence = Evidence {
            value: least.map(|(_, rate)| rate).ok_or_else(|| "the plan has no batches".into()),
            flaw: batches.iter().find_map(|batch| batch.flaw.clone()),
            unjudged: None,
            how: all.join(", "),
        };
        let device = batches.first().map_or("", |batch| &batch.device).to_owned();
        let target = Target::AtLeast(self.plan.targets.sequence_tokens_per_second);
        let what = (ID, &device[..], "tokens a second of each sequence, the slowest batch".into());
        self.add(Criterion::judge(what, target, "tok/s", evidence));
    }

    /// Sequences of ragged prompts and ragged ends, together and each alone.
    fn equals_alone(&mut self, session: &mut Session, sequences: usize) -> Outcome<Criterion> {
        let mut prompts = self.workload(sequences).prompts(self.plan.seed, session.model().config().vocabulary);
        let most = self.plan.tokens;
        for (sequence, Prompt { options, .. }) in prompts.iter_mut().enumerate() {
            options.max_tokens = most - sequence % (most / 2);
        }
        let together = self.run_once(session, &prompts, "a ragged batch")?.ids;
        let mut equal = 0;
        for (sequence, prompt) in prompts.iter().enumerate() {
            let what = format!("sequence {} of {sequences} alone", sequence + 1);
            let alone = self.run_once(session, std::slice::from_ref(prompt), &what)?.ids;
            equal += usize::from(alone[0] == together[sequence] && alone[0].len() == prompt.options.max_tokens);
        }
        let how = format!(
            "{sequences} ragged prompts, {} to {most} tokens, leaving one after the other",
            most - most / 2 + 1
        );
        let evidence = Evidence { value: Ok(equal as f64 / sequences as f64), flaw: None, unjudged: None, how };
        let what = (ID, session.device(), "sequences whose ids equal those they get alone".into());
        Ok(Criterion::judge(what, Target::AtLeast(1.0), "of all", evidence))
    }
}
