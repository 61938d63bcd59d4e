//! Positions in the histories of all partitions.

use std::sync::Arc;

use super::event::Position;
use super::partition::{Partition, Partitions};

/// A position in the history of each partition. A clone costs one reference count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    positions: Arc<[Position]>,
}

impl Vector {
    /// The start of each history.
    pub fn start(partitions: Partitions) -> Self {
        let positions = partitions.all().map(|_| Position::START);
        Self {
            positions: positions.collect(),
        }
    }

    /// The position in one history; the start for a partition that the vector does not have.
    pub fn get(&self, partition: Partition) -> Position {
        let position = self.positions.get(partition.index());
        position.copied().unwrap_or(Position::START)
    }

    /// This vector with another position in one history.
    pub fn with(&self, partition: Partition, position: Position) -> Self {
        let mut changed = self.clone();
        if let Some(place) = Arc::make_mut(&mut changed.positions).get_mut(partition.index()) {
            *place = position;
        }
        changed
    }

    /// The later of both positions in each history.
    pub fn max(&self, other: &Self) -> Self {
        let pairs = self.positions.iter().zip(&*other.positions);
        Self {
            positions: pairs.map(|(one, other)| *one.max(other)).collect(),
        }
    }

    /// The positions in the order of the partitions.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Position> {
        self.positions.iter().copied()
    }
}

impl FromIterator<Position> for Vector {
    fn from_iter<I: IntoIterator<Item = Position>>(positions: I) -> Self {
        Self {
            positions: positions.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Position {
        Position {
            millis,
            sequence: 0,
        }
    }

    #[test]
    fn the_maximum_has_the_later_position_of_each_partition() {
        let start = Vector::start(Partitions::MOST);
        let (first, last) = (Partition::FIRST, Partitions::MOST.get(255).expect("one"));
        let one = start.with(first, at(5)).with(last, at(1));
        let other = start.with(first, at(3)).with(last, at(2));
        let both = one.max(&other);
        assert_eq!((both.get(first), both.get(last)), (at(5), at(2)));
        assert_eq!(both, other.max(&one));
        assert_eq!(both.iter().filter(|each| *each != at(0)).count(), 2);
        assert_eq!(start.get(first), Position::START);
    }
}
