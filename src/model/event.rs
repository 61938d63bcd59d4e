use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::id::UserId;
use super::state::State;
use super::timestamp::Timestamp;

/// The place of an event in the history of one data set. Later events have greater positions.
///
/// Both stores number events like a Redis stream: a millisecond and a sequence number within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Milliseconds since the Unix epoch.
    pub millis: u64,
    /// The number of the event within its millisecond.
    pub sequence: u64,
}

impl Position {
    /// The position before the first event.
    pub const START: Self = Self {
        millis: 0,
        sequence: 0,
    };

    /// The smallest position after this one for an event at `now`.
    pub fn next(self, now: Timestamp) -> Self {
        if now.as_millis() > self.millis {
            Self {
                millis: now.as_millis(),
                sequence: 0,
            }
        } else {
            Self {
                millis: self.millis,
                sequence: self.sequence + 1,
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (millis, sequence) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self {
            millis: millis.parse()?,
            sequence: sequence.parse()?,
        })
    }
}

/// The identity of a data set: the time at which it began, in microseconds since the Unix epoch.
///
/// A store that lost its data begins a new data set. Positions of two epochs cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// An event: a user went online or offline, or its state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEvent {
    /// The position of the event in the history.
    pub position: Position,
    /// The position of the event before it, of any user. A reader notices a missing event by it.
    pub previous: Position,
    /// The user.
    pub user: UserId,
    /// When the event was announced.
    pub at: Timestamp,
    /// The change.
    pub change: UserChange,
}

/// The change of a user, as streams carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// The first connection opened.
    Online {
        /// The state of the user, if something is set.
        state: Option<Arc<State>>,
    },
    /// The state of an online user changed.
    Updated {
        /// The whole state, if something is set.
        state: Option<Arc<State>>,
    },
    /// The last connection closed or expired.
    Offline {
        /// Why the user went offline.
        reason: Reason,
        /// The last moment at which the user was known to be alive.
        last_seen_at: Timestamp,
    },
}

impl UserChange {
    /// About how many bytes of memory the change takes on the heap.
    pub fn memory(&self) -> usize {
        match self {
            Self::Online { state } | Self::Updated { state } => {
                state.as_ref().map_or(0, |state| state.memory())
            }
            Self::Offline { .. } => 0,
        }
    }
}

/// Why a user went offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The deadline of the last connection passed without a ping.
    Expired,
    /// A disconnect closed the last connection.
    Disconnected,
}

impl Reason {
    /// The word for this reason in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_is_read_as_it_was_written(millis: u64, sequence: u64) {
            let position = Position { millis, sequence };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn a_position_is_two_numbers_and_a_dash(text in "[0-9]{0,21}-?[0-9]{0,21}|[0-9+ -]{0,6}|\\PC{0,8}") {
            let numbers: Vec<_> = text.split('-').map(str::parse::<u64>).collect();
            let good = matches!(&numbers[..], [Ok(_), Ok(_)]);
            prop_assert_eq!(text.parse::<Position>().is_ok(), good);
        }
    }

    #[test]
    fn positions_are_ordered_and_read_as_they_were_written() {
        let first = Position::START.next(Timestamp::from_millis(10));
        let second = first.next(Timestamp::from_millis(10));
        let after_a_clock_step_back = second.next(Timestamp::from_millis(3));
        assert!(first < second && second < after_a_clock_step_back);
        assert_eq!(second.to_string().parse(), Ok(second));
        for text in ["", "1", "-", "1-", "-1", "1-2-3", "a-b"] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}
