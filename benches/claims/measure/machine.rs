//! The speed of the machine during the run.

use std::hint::black_box;
use std::time::Instant;

use super::report::{Figure, Row};

/// The numbers that are written as text. The instructions of this work are as mixed as those of a server, so it takes
/// longer while other guests of the host use the same core. A loop of a few instructions does not.
const NUMBERS: u64 = 500_000;

/// The times of the same work, at the beginning and after each claim.
#[derive(Default)]
pub(crate) struct Machine(Figure);

impl Machine {
    /// Measures the work once more.
    pub(crate) fn measure(&mut self) {
        let began = Instant::now();
        for number in 0..NUMBERS {
            black_box(format!("{number}:{}", number ^ NUMBERS));
        }
        self.0.push(began.elapsed().as_secs_f64() * 1e3);
    }

    pub(crate) fn row(self) -> Row {
        Row::new(
            "machine",
            "ms to write 500,000 lines of text, between the claims",
            self.0,
        )
    }
}
