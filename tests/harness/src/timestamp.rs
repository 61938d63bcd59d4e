//! Times in the form of the contract: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize, Deserializer, Error};

/// Milliseconds since 1970. The text form is `2026-11-24T08:00:00.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time of the clock of this machine.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.expect("the clock is past 1970");
        Self(i64::try_from(since.as_millis()).expect("before the year 292 million"))
    }

    /// Parses the text form; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let shape: String = text.chars().map(digit_as_zero).collect();
        if shape != "0000-00-00T00:00:00.000Z" {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
        if !in_range || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_since_1970(year, month, day);
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self(seconds * 1_000 + number(20, 23)?))
    }

    /// Milliseconds from `earlier` to this time; negative if `earlier` is later.
    pub fn millis_after(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// This time plus `ms` milliseconds, which may be negative.
    pub fn later_by(self, ms: i64) -> Self {
        Self(self.0 + ms)
    }

    /// This time plus `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0 + i64::try_from(duration.as_millis()).expect("a duration of a test"))
    }

    /// This time minus `duration`.
    pub fn less(self, duration: Duration) -> Self {
        Self(self.0 - i64::try_from(duration.as_millis()).expect("a duration of a test"))
    }

    /// Sleeps until this time has passed, such as the end of a TTL.
    pub async fn pass(self) {
        let left = self.millis_after(Self::now());
        if let Ok(left) = u64::try_from(left) {
            tokio::time::sleep(Duration::from_millis(left + 1)).await;
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("not RFC 3339 UTC with milliseconds: {text}")))
    }
}

fn digit_as_zero(character: char) -> char {
    if character.is_ascii_digit() {
        '0'
    } else {
        character
    }
}

/// Howard Hinnant's `days_from_civil`, for years after 0.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
