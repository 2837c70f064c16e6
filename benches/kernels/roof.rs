//! Wall time, with rates that are set beside the machine's read bandwidth.

use std::time::{Duration, Instant};

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// Wall time on a machine that reads so many bytes a second.
pub struct Roofed {
    roof: f64,
}

impl Roofed {
    pub fn new(roof: f64) -> Self {
        Self { roof }
    }
}

impl Measurement for Roofed {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

/// Times are in nanoseconds, so that a count over a time is a rate in units of 1e9.
impl ValueFormatter for Roofed {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        match throughput {
            Throughput::BytesDecimal(bytes) => {
                let rate = *bytes as f64 / nanoseconds;
                format!("{rate:.2} GB/s = {:.0} % of the roof", 100.0 * rate * 1e9 / self.roof)
            }
            Throughput::Elements(count) => format!("{:.2} G/s", *count as f64 / nanoseconds),
            other => WallTime.formatter().format_throughput(other, nanoseconds),
        }
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
