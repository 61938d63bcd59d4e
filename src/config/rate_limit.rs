//! The rate limit of a user.

use std::num::NonZeroU32;
use std::str::FromStr;

/// The smallest burst, in calls: an application that starts makes several calls at once.
const MIN_BURST: u32 = 20;

/// The burst in seconds of the rate, if that is more than [`MIN_BURST`] calls.
const BURST_SECONDS: u32 = 4;

/// The highest rate, in calls per second or per minute.
const MAX_RATE: u32 = 100_000;

/// How often a user may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// Users are not limited.
    Off,
    /// Users are limited.
    Calls {
        /// The rate, in calls per minute.
        per_minute: NonZeroU32,
        /// The most calls at once after a pause.
        burst: NonZeroU32,
    },
}

impl RateLimit {
    fn per_minute(calls: u32) -> Option<Self> {
        let burst = (calls / 60).saturating_mul(BURST_SECONDS).max(MIN_BURST);
        Some(Self::Calls {
            per_minute: NonZeroU32::new(calls)?,
            burst: NonZeroU32::new(burst)?,
        })
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::per_minute(5 * 60).unwrap_or(Self::Off)
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let calls = |count: &str| count.parse::<u32>().ok().filter(|count| *count <= MAX_RATE);
        let per_minute = match text.split_once('/') {
            Some((count, "s")) => calls(count).map(|count| count * 60),
            Some((count, "m")) => calls(count),
            _ => None,
        };
        per_minute.and_then(Self::per_minute).ok_or_else(|| {
            format!(
                "must be 1 to {MAX_RATE} calls per second or minute, such as 5/s or 90/m; or off"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_is_a_count_per_second_or_minute(count in prop_oneof![0_u32..300, any::<u32>()], unit in "[smh]") {
            let read = format!("{count}/{unit}").parse::<RateLimit>();
            let times = match &*unit {
                "s" => 60,
                "m" => 1,
                _ => 0,
            };
            let good = (1..=100_000).contains(&count) && times > 0;
            prop_assert_eq!(read.is_ok(), good);
            if let Ok(RateLimit::Calls { per_minute, burst }) = read {
                prop_assert_eq!(per_minute.get(), count * times);
                prop_assert_eq!(burst.get(), (count * times / 60 * 4).max(20));
            }
        }
    }

    #[test]
    fn a_rate_allows_bursts_of_twenty_calls_or_four_seconds() {
        for (text, per_minute, burst) in [("5/s", 300, 20), ("30/m", 30, 20), ("50/s", 3_000, 200)]
        {
            let expected = RateLimit::Calls {
                per_minute: NonZeroU32::new(per_minute).unwrap(),
                burst: NonZeroU32::new(burst).unwrap(),
            };
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "5", "0/s", "5/h", "-1/s", "5 / s"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }
}
