//! The newest entry of each user and group of a ring.

use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;

/// Notes the newest entry of a user or group. Makes `id` the shared copy of the id. Returns the distance to the entry
/// before, or zero, and whether the id is new.
pub(super) fn link<T: Clone + Eq + Hash>(
    newest_of: &mut HashMap<T, u64>,
    id: &mut T,
    number: u64,
) -> (u32, bool) {
    match newest_of.entry(id.clone()) {
        Entry::Occupied(mut newest) => {
            *id = newest.key().clone();
            let distance = number - newest.insert(number);
            (u32::try_from(distance).unwrap_or(0), false)
        }
        Entry::Vacant(place) => {
            place.insert(number);
            (0, true)
        }
    }
}

/// Removes a user or group if the entry with this number is its newest one. Returns whether it was.
pub(super) fn unlink<T: Eq + Hash>(newest_of: &mut HashMap<T, u64>, id: &T, number: u64) -> bool {
    let is_newest = newest_of.get(id) == Some(&number);
    if is_newest {
        newest_of.remove(id);
    }
    is_newest
}
