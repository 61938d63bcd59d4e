use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// A time of the clock of the store, in milliseconds since the Unix epoch.
///
/// Displayed and serialized as RFC 3339 in UTC with milliseconds. All arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// The end of the year 9999 in milliseconds, the latest time that RFC 3339 can express.
const LAST_RFC3339_MILLIS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// The time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The time of the clock of this machine.
    pub fn of_system_clock() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(millis(since_epoch.unwrap_or_default()))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `duration` later, in whole milliseconds.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The time `duration` earlier, in whole milliseconds.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Appends the text of [`Display`](fmt::Display). Each thread caches the text of a second, because the answers to
    /// all pings within a second contain the same one.
    pub(crate) fn append_to(self, text: &mut Vec<u8>) {
        let shown = self.0.min(LAST_RFC3339_MILLIS);
        let (second, millis) = (shown / 1_000, shown % 1_000);
        SECOND.with_borrow_mut(|(last, start)| {
            if *last != second {
                *last = second;
                *start = Self(second * 1_000).to_string();
                start.truncate(start.len() - "000Z".len());
            }
            text.extend_from_slice(start.as_bytes());
        });
        let digit = |tens: u64| b'0' + (millis / tens % 10) as u8;
        text.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
    }

    /// The duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

thread_local! {
    /// The last second that this thread wrote, and its text up to the milliseconds.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// A duration in whole milliseconds, the resolution of every deadline.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Duration::from_millis(self.0.min(LAST_RFC3339_MILLIS));
        humantime::format_rfc3339_millis(UNIX_EPOCH + shown).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_written_as_rfc_3339_with_milliseconds() {
        let moment = Timestamp::from_millis(1_795_507_200_123);
        assert_eq!(moment.to_string(), "2026-11-24T08:00:00.123Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn it_is_appended_as_it_is_displayed(millis in prop_oneof![0..5_000_u64, any::<u64>()]) {
            let moments = [Timestamp(millis), Timestamp(millis.saturating_add(1_001)), Timestamp(millis)];
            for moment in moments {
                let mut text = b"at ".to_vec();
                moment.append_to(&mut text);
                prop_assert_eq!(String::from_utf8(text).ok(), Some(format!("at {moment}")));
            }
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let day = Duration::from_secs(86_400);
        assert_eq!(Timestamp(5).minus(day), Timestamp(0));
        assert_eq!(Timestamp(u64::MAX).plus(day), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}
