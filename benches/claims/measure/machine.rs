//! The speed of the machine during the run.

use std::hint::black_box;
use std::time::Instant;

use super::report::{Figure, Row};

/// The steps of the computation. They take some ten milliseconds, which is long enough to notice other work of the host.
const STEPS: u64 = 20_000_000;

/// The times of a fixed computation, at the beginning and after each claim.
#[derive(Default)]
pub(crate) struct Machine(Figure);

impl Machine {
    /// Measures the computation once more.
    pub(crate) fn measure(&mut self) {
        let began = Instant::now();
        let last = (0..black_box(STEPS)).fold(1_u64, |value, step| {
            value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(step)
        });
        black_box(last);
        self.0.push(began.elapsed().as_secs_f64() * 1e3);
    }

    pub(crate) fn row(self) -> Row {
        Row::new(
            "machine",
            "a fixed computation between the claims, ms",
            self.0,
        )
    }
}
