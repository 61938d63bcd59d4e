//! Users that return soon after their departure.

use std::time::Duration;

use super::kept::Change;
use super::ring::Ring;
use crate::model::{Reason, UserChange};

/// The longest time from a departure of a user to its return that counts as a flap.
const FLAP: Duration = Duration::from_secs(60);

impl Ring {
    /// Returns the reason of the departure before a flap, if the entry with this number ends one.
    pub(super) fn flap(&self, number: u64) -> Option<Reason> {
        let arrival = self.valid(number)?;
        let is_arrival = matches!(arrival.change, Change::User(_, UserChange::Online { .. }));
        if !is_arrival || arrival.distance == 0 {
            return None;
        }
        let departure = self.valid(number.checked_sub(arrival.distance.into())?)?;
        match departure.change {
            Change::User(_, UserChange::Offline { reason, .. })
                if arrival.at.since(departure.at) <= FLAP =>
            {
                Some(reason)
            }
            _ => None,
        }
    }
}
