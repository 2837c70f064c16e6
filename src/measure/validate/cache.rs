//! AC5.3: what the cache of keys and values saves, what it costs, and that it changes nothing.

use crate::backend::CachePrecision;
use crate::cpu::KEYS_TOGETHER;
use crate::device::Device;
use crate::generate::{GenerateOptions, Prompt, Session, SessionOptions};
use crate::measure::run::Workload;
use crate::measure::validate::equal::relative_difference;
use crate::measure::validate::{Criterion, Evidence, Outcome, Target, Validation};
use crate::measure::{Spread, Work};
use crate::time::Instant;

const ID: &str = "AC5.3";

/// Positions before the first whose logits are compared.
const COMPARED_PROMPT: usize = 40;
/// Positions whose logits are compared.
const COMPARED: usize = 8;

/// Bytes by which a device may round up the keys, and the values, of a layer.
const ROUNDING: usize = 15;

/// A generation that computes its whole prefix for each token.
struct Uncached {
    ids: Vec<u32>,
    seconds: f64,
    work: Work,
}

impl Validation<'_> {
    pub(super) fn cache(&mut self, device: &Device) -> Outcome<()> {
        let (prompt, tokens) = (self.plan.cache_prompt, self.plan.cache_tokens);
        let what = format!("time without a cache over time with one, {prompt} tokens");
        let target = Target::AtLeast(self.plan.targets.cache_speedup);
        let options = match self.context(prompt + tokens) {
            Ok(options) => options,
            Err(why) => {
                let evidence = Evidence { value: Err(why), flaw: None, unjudged: None, how: String::new() };
                self.add(Criterion::judge((ID, "", what), target, "×", evidence));
                return Ok(());
            }
        };
        let layers = self.plan.cache_layers.unwrap_or(self.model.config().layers);
        let model = self.model.first_layers(layers);
        let mut session = self.load(&model, device, &options)?;
        self.warm_up(&mut session)?;
        let cached = self.measure(&mut session, Workload { prompt, batch: 1, tokens })?;
        let prompts = cached.workload.prompts(self.plan.seed, model.config().vocabulary);
        let (mut seconds, mut flaw) = (Vec::new(), cached.flaw.clone());
        for run in 1..=self.plan.runs {
            let uncached = self.recompute(&mut session, &prompts[0], run)?;
            flaw = flaw.or_else(|| {
                uncached.flaw(&prompts[0], session.device_bytes().is_none().then_some(&cached.runs[0].ids[0]))
            });
            seconds.push(uncached.seconds);
        }
        let with = Spread::of(cached.runs.iter().map(|run| run.wall.as_secs_f64()));
        let without = Spread::of(seconds);
        let (with, without) = with.zip(without).expect("there is a run");
        let rate = cached.decode().map_or(f64::NAN, |decode| decode.mean);
        let how = format!(
            "{} of {} layers, {tokens} tokens, the prompt's time in both: {:.2} s with, {:.2} s without; once the prompt is \
             read, a token takes {:.1} ms with, {:.0} ms without",
            model.config().layers,
            self.model.config().layers,
            with.mean,
            without.mean,
            1e3 / rate,
            1e3 * without.mean / tokens as f64
        );
        let evidence = Evidence { value: Ok(without.mean / with.mean), flaw, unjudged: None, how };
        let name = session.device().to_owned();
        self.add(Criterion::judge((ID, &name, what), target, "×", evidence));
        self.cache_memory(&session, prompt + tokens, options.cache);
        drop(session);
        if model.config().layers == self.model.config().layers {
            self.report.measurements.push(cached);
        }
        self.cache_equality(device)
    }

    /// Generates with the whole prefix computed anew for each token: the cache is emptied before each.
    fn recompute(&mut self, session: &mut Session, prompt: &Prompt, run: usize) -> Outcome<Uncached> {
        let tokens = prompt.options.max_tokens;
        let what = format!("{} tokens, no cache, run {run} of {}", prompt.ids.len(), self.plan.runs);
        let one = GenerateOptions { max_tokens: 1, ..prompt.options.clone() };
        let (mut prefix, before) = (prompt.ids.clone(), session.work());
        let mut seconds = 0.0;
        for done in 0..tokens {
            self.tell(&what, done, tokens)?;
            let start = Instant::now();
            session.clear();
            let next = session.generate_ids(&prefix, &one)?.next();
            seconds += start.elapsed().as_secs_f64();
            prefix.extend(next.transpose()?);
        }
        Ok(Uncached { ids: prefix.split_off(prompt.ids.len()), seconds, work: session.work().since(&before) })
    }

    /// What the caches of a session were given, against the formula.
    fn cache_memory(&mut self, session: &Session, positions: usize, precision: CachePrecision) {
        let (config, all_layers) = (session.model().config(), self.model.config().layers);
        let entry_bytes = match precision {
            CachePrecision::F16 => 2,
            CachePrecision::F32 => 4,
        };
        let attending = (0..config.layers).filter(|&layer| !config.is_recurrent(layer)).count();
        let values = 2 * attending * positions * config.heads.kv_heads * config.heads.head_dim;
        let states = 2 * config.state_bytes();
        let (allocated, expected) = (session.cache_bytes(), (values * entry_bytes) as u64 + states);
        // Of buffers, and of the last positions whose keys lie together in a CPU.
        let padded = positions.next_multiple_of(KEYS_TOGETHER) - positions;
        let most_padding = attending * padded * config.heads.kv_heads * config.heads.head_dim * entry_bytes;
        let most_rounding = (2 * ROUNDING * config.layers + most_padding) as u64;
        let flaw = (!(expected..=expected + most_rounding).contains(&allocated))
            .then(|| format!("{allocated} bytes were allocated, but the formula says {expected}"));
        let how = format!(
            "2 × {attending} layers × {positions} positions × {} heads × {} features × {entry_bytes} bytes, and states and their snapshots of {states} \
             bytes, = {expected}; allocated: {allocated}; the value is for all {all_layers} layers",
            config.heads.kv_heads, config.heads.head_dim
        );
        let megabytes = allocated as f64 / 1e6 * all_layers as f64 / config.layers as f64;
        let evidence = Evidence { value: Ok(megabytes), flaw, unjudged: None, how };
        let what = (ID, session.device(), format!("keys and values of {positions} positions"));
        let target = Target::AtMost(self.plan.targets.cache_mb);
        self.add(Criterion::judge(what, target, "MB", evidence));
    }

    /// Logits after each position with what was cached before, against all of them computed anew. Rows are computed one by one in
    /// both, so that the same kernels do it.
    fn cache_equality(&mut self, device: &Device) -> Outcome<()> {
        let model = self.model.first_layers(self.plan.cache_layers.unwrap_or(2).min(2));
        let positions = COMPARED_PROMPT + COMPARED;
        let options = SessionOptions { context: Some(positions), chunk: Some(1), ..SessionOptions::default() };
        let mut session = self.load(&model, device, &options)?;
        let workload = Workload { prompt: positions, batch: 1, tokens: 2 };
        let ids = &workload.prompts(self.plan.seed, model.config().vocabulary)[0].ids;
        let places = COMPARED_PROMPT + 1..=positions;
        let mut cached = Vec::new();
        for place in places.clone() {
            cached.push(session.logits(&ids[..place])?);
        }
        let mut largest = 0.0f64;
        for (done, (place, cached)) in places.zip(&cached).enumerate() {
            self.tell("comparing logits with and without a cache", done, COMPARED)?;
            session.clear();
            largest = largest.max(relative_difference(cached, &session.logits(&ids[..place])?));
        }
        let how = format!(
            "{COMPARED} positions after {COMPARED_PROMPT}, {} layers, {} logits each, as a share of the largest",
            model.config().layers,
            model.config().vocabulary
        );
        let evidence = Evidence { value: Ok(largest), flaw: None, unjudged: None, how };
        let what = (ID, session.device(), "logits with a cache against without".into());
        let target = Target::Below(self.plan.targets.cache_difference);
        let criterion = Criterion::judge(what, target, "of the largest", evidence);
        self.add(criterion);
        Ok(())
    }
}

impl Uncached {
    /// What speaks against this having been computed without a cache: rows that were not computed, other ids than with one. (The
    /// ids of a GPU need not be equal: it computes long prefixes with other kernels than single rows.)
    fn flaw(&self, prompt: &Prompt, cached_ids: Option<&Vec<u32>>) -> Option<String> {
        let rows: usize = (0..self.ids.len()).map(|made| prompt.ids.len() + made).sum();
        if self.ids.len() != prompt.options.max_tokens || self.work.rows != rows as u64 {
            return Some(format!(
                "without a cache {rows} rows were to be computed, but the device counted {}",
                self.work.rows
            ));
        }
        cached_ids
            .filter(|ids| **ids != self.ids)
            .map(|ids| format!("with a cache {ids:?} were made, without {:?}", self.ids))
    }
}
