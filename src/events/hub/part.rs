//! What a ring knows about one partition.

use std::collections::VecDeque;

use crate::events::sse::payload::ResetReason;
use crate::model::{Epoch, Position};

/// One partition of a ring.
#[derive(Debug)]
pub(super) struct Part {
    /// The data set. `None` while the history of the partition is not known.
    pub(super) epoch: Option<Epoch>,
    /// The position before the first entry.
    pub(super) floor: Position,
    /// The position of the newest entry, or the floor.
    pub(super) newest: Position,
    pub(super) numbers: Numbers,
    /// Entries with a lower number are void: the partition lost its data after them.
    pub(super) valid_from: u64,
    /// The generation of the ring when the partition restarted. Streams that joined in an older generation did not
    /// receive what the partition lost or gained.
    pub(super) generation: u64,
    /// Why the partition restarted.
    pub(super) reason: ResetReason,
}

impl Part {
    /// Returns an unknown partition. `is_only`: the ring has no other partition.
    pub(super) const fn unknown(is_only: bool) -> Self {
        Self {
            epoch: None,
            floor: Position::START,
            newest: Position::START,
            numbers: Numbers::new(is_only),
            valid_from: 0,
            generation: 0,
            reason: ResetReason::HistoryGone,
        }
    }

    /// Begins after `floor`, with the number `end`. All entries before are void.
    pub(super) fn begin(&mut self, end: u64, floor: Position) {
        self.epoch = None;
        self.floor = floor;
        self.newest = floor;
        self.numbers.clear(end);
        self.valid_from = end;
    }
}

/// The numbers of the entries of one partition, in order.
#[derive(Debug)]
pub(super) enum Numbers {
    /// All numbers of a range, for the only partition of a ring.
    Range { first: u64, end: u64 },
    /// Any numbers.
    Listed(VecDeque<u64>),
}

impl Numbers {
    const fn new(is_only: bool) -> Self {
        if is_only {
            Self::Range { first: 0, end: 0 }
        } else {
            Self::Listed(VecDeque::new())
        }
    }

    /// Returns the bytes of one number.
    pub(super) const fn bytes(is_only: bool) -> usize {
        if is_only { 0 } else { size_of::<u64>() }
    }

    /// Removes all numbers. The next number is not below `end`.
    fn clear(&mut self, end: u64) {
        match self {
            Self::Range { .. } => *self = Self::Range { first: end, end },
            Self::Listed(_) => *self = Self::Listed(VecDeque::new()),
        }
    }

    pub(super) fn push(&mut self, number: u64) {
        match self {
            Self::Range { end, .. } => *end = number + 1,
            Self::Listed(numbers) => numbers.push_back(number),
        }
    }

    pub(super) fn pop(&mut self) {
        match self {
            Self::Range { first, .. } => *first += 1,
            Self::Listed(numbers) => drop(numbers.pop_front()),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<u64> {
        match self {
            Self::Range { first, end } => {
                let number = first + index as u64;
                (number < *end).then_some(number)
            }
            Self::Listed(numbers) => numbers.get(index).copied(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Range { first, end } => (end - first) as usize,
            Self::Listed(numbers) => numbers.len(),
        }
    }

    /// Returns how many numbers are below `number`.
    pub(super) fn below(&self, number: u64) -> usize {
        match self {
            Self::Range { first, end } => (number.clamp(*first, *end) - first) as usize,
            Self::Listed(numbers) => numbers.partition_point(|each| *each < number),
        }
    }

    /// Returns how many numbers come before the first one that is not `is_before`. No number after it may be.
    pub(super) fn partition_point(&self, is_before: impl Fn(u64) -> bool) -> usize {
        let (mut from, mut until) = (0, self.len());
        while from < until {
            let middle = usize::midpoint(from, until);
            if self.get(middle).is_some_and(&is_before) {
                from = middle + 1;
            } else {
                until = middle;
            }
        }
        from
    }
}
