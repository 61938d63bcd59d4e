//! The phases: long ones in which Redis keeps its data, and short ones in which it loses them.

use std::env;
use std::time::Duration;

use fastrand::Rng;

use super::faults::Denied;

/// The length of a run without `PRESENCE_SOAK`.
const SHORT: Duration = Duration::from_secs(12);

/// The phases of a long run, which repeat.
const FAULTS: Duration = Duration::from_secs(60);
const DENIAL: Duration = Duration::from_secs(15);
const LOSSES: Duration = Duration::from_secs(10);

/// Longer than the latest departure during a denial.
const SHORT_DENIAL: Duration = Duration::from_secs(9);

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Faults of instances and of Redis without loss of data.
    Faults,
    /// All instances are denied something again and again.
    Denial(Denied),
    /// Redis loses its data, and instances have faults too.
    Losses,
}

/// The phases of a run and their lengths.
pub(super) fn phases(duration: Duration, rng: &mut Rng) -> Vec<(Phase, Duration)> {
    let first = if rng.bool() {
        Denied::Processor
    } else {
        Denied::Redis
    };
    let cycle = [
        (Phase::Faults, FAULTS),
        (Phase::Denial(first), DENIAL),
        (Phase::Faults, FAULTS),
        (Phase::Denial(first.other()), DENIAL),
        (Phase::Losses, LOSSES),
    ];
    let whole: Duration = cycle.iter().map(|(_, length)| *length).sum();
    if duration < whole {
        let rest = duration.saturating_sub(SHORT_DENIAL) / 2;
        return vec![
            (Phase::Faults, rest),
            (Phase::Denial(first), SHORT_DENIAL),
            (Phase::Losses, rest),
        ];
    }
    let mut left = duration;
    let again = cycle.into_iter().cycle();
    let phases = again.map_while(|(phase, length)| {
        let length = length.min(left);
        left -= length;
        (!length.is_zero()).then_some((phase, length))
    });
    phases.collect()
}

/// The length of the run: `PRESENCE_SOAK`.
pub(in crate::failures) fn duration() -> Duration {
    let Ok(text) = env::var("PRESENCE_SOAK") else {
        return SHORT;
    };
    let seconds = text.parse().map(Duration::from_secs);
    let duration = seconds.or_else(|_| humantime::parse_duration(&text));
    duration.expect("PRESENCE_SOAK is a duration, such as 90 or 5m")
}
