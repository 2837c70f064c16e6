//! How long single tokens take: a mean hides the slow ones that a reader waits for.

use std::time::Duration;

/// The distribution of some durations, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// The arithmetic mean.
    pub mean: f64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 95 in a hundred took no longer.
    pub p95: f64,
    /// 99 in a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub most: f64,
    /// How many there were.
    pub count: usize,
}

impl Latency {
    /// The distribution of `times`; none of no times. A percentile is the smallest time that so many of them do not exceed
    /// (nearest rank).
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut seconds: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let count = seconds.len();
        let most = *seconds.last()?;
        let percentile = |share: f64| seconds[((share * count as f64).ceil() as usize).clamp(1, count) - 1];
        let mean = seconds.iter().sum::<f64>() / count as f64;
        Some(Self { mean, p50: percentile(0.50), p95: percentile(0.95), p99: percentile(0.99), most, count })
    }
}

/// The mean of some figures, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spread {
    /// The arithmetic mean.
    pub mean: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of some figures; none of no figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let figures: Vec<f64> = figures.into_iter().collect();
        let least = figures.iter().copied().reduce(f64::min)?;
        let most = figures.iter().copied().fold(least, f64::max);
        Some(Self { mean: figures.iter().sum::<f64>() / figures.len() as f64, least, most })
    }

    /// What lies between the smallest and the largest, as a share of the mean.
    pub fn relative(&self) -> f64 {
        (self.most - self.least) / self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let latency = Latency::of((1..=200).rev().map(Duration::from_millis)).expect("there are some");
        assert_eq!((latency.p50, latency.p95, latency.p99, latency.most), (0.100, 0.190, 0.198, 0.200));
        assert!((latency.mean - 0.1005).abs() < 1e-12);
        let one = Latency::of([Duration::from_secs(3)]).expect("there is one");
        assert_eq!((one.mean, one.p50, one.p99, one.count), (3.0, 3.0, 3.0, 1));
        assert_eq!(Latency::of([]), None);
    }

    #[test]
    fn a_spread_is_that_of_the_extremes() {
        let spread = Spread::of([2.0, 1.0, 3.0]).expect("there are some");
        assert_eq!(spread, Spread { mean: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(spread.relative(), 1.0);
        assert_eq!(Spread::of([]), None);
    }
}
