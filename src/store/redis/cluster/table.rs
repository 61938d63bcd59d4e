//! Which node serves which partition.

use tokio::time::Instant;

use super::node_address::NodeAddress;
use super::slots::View;
use crate::model::{Partition, PartitionSet, Partitions};

/// The nodes, or one value for each node, and the node of each partition. A table never changes: a new one takes its
/// place.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Table<T> {
    partitions: Partitions,
    /// The index of the node of each partition; `None` if no master serves its slot.
    owners: Box<[Option<usize>]>,
    nodes: Vec<T>,
}

/// A node of a cluster in a table.
pub(in crate::store::redis) trait InCluster {
    /// Where the node is.
    fn address(&self) -> &NodeAddress;

    /// When the node was last needed although it may serve no partition.
    fn used_at(&self) -> Instant;
}

impl<T> Table<T> {
    /// A table in which `node` serves all partitions.
    pub(in crate::store::redis) fn of_one(partitions: Partitions, node: T) -> Self {
        Self {
            partitions,
            owners: vec![Some(0); partitions.count()].into(),
            nodes: vec![node],
        }
    }

    /// A table without nodes.
    pub(in crate::store::redis) fn empty(partitions: Partitions) -> Self {
        Self {
            partitions,
            owners: vec![None; partitions.count()].into(),
            nodes: Vec::new(),
        }
    }

    /// All nodes, also nodes that serve no partition.
    pub(in crate::store::redis) fn nodes(&self) -> &[T] {
        &self.nodes
    }

    /// The node of `partition`; `None` if no master serves its slot.
    pub(in crate::store::redis) fn owner(&self, partition: Partition) -> Option<&T> {
        let owner = *self.owners.get(partition.index())?;
        self.nodes.get(owner?)
    }

    /// The index of the node of `partition` among the nodes.
    pub(in crate::store::redis) fn owner_index(&self, partition: Partition) -> Option<usize> {
        *self.owners.get(partition.index())?
    }

    /// The partitions that the node at `index` serves.
    pub(in crate::store::redis) fn partitions_of(&self, index: usize) -> PartitionSet {
        let mut served = PartitionSet::default();
        for partition in self.partitions.all() {
            if self.owner_index(partition) == Some(index) {
                served.insert(partition);
            }
        }
        served
    }

    /// Whether `other` has the same nodes in the same order, and the same owners.
    pub(in crate::store::redis) fn is_same(
        &self,
        other: &Self,
        is_same_node: impl Fn(&T, &T) -> bool,
    ) -> bool {
        let mut nodes = self.nodes.iter().zip(&other.nodes);
        self.owners == other.owners
            && self.nodes.len() == other.nodes.len()
            && nodes.all(|(one, other)| is_same_node(one, other))
    }

    /// The same table of something else for each node.
    pub(in crate::store::redis) fn map<U>(&self, each: impl FnMut(&T) -> U) -> Table<U> {
        Table {
            partitions: self.partitions,
            owners: self.owners.clone(),
            nodes: self.nodes.iter().map(each).collect(),
        }
    }
}

impl<T: Clone + InCluster> Table<T> {
    /// The table after `view`. A partition whose slot the view lacks keeps its node. A node that serves no partition
    /// stays if it was used at `oldest_use` or later. `open` makes a node that is new.
    pub(in crate::store::redis) fn next(
        &self,
        view: &View,
        oldest_use: Instant,
        mut open: impl FnMut(&NodeAddress) -> T,
    ) -> Self {
        let mut nodes = Vec::new();
        let mut index_of = |node: &NodeAddress, known: Option<&T>| {
            let place = nodes.iter().position(|each: &T| each.address() == node);
            place.unwrap_or_else(|| {
                nodes.push(known.cloned().unwrap_or_else(|| open(node)));
                nodes.len() - 1
            })
        };
        let owners = self.partitions.all().map(|partition| {
            if let Some(master) = view.master_of(self.partitions.slot(partition)) {
                let address = &view.masters[master].0;
                return Some(index_of(address, self.node_at(address)));
            }
            let owner = self.owner(partition)?;
            Some(index_of(owner.address(), Some(owner)))
        });
        let owners = owners.collect();
        for node in &self.nodes {
            if node.used_at() >= oldest_use {
                index_of(node.address(), Some(node));
            }
        }
        Self {
            partitions: self.partitions,
            owners,
            nodes,
        }
    }

    /// The table after a redirection of the partitions of `slot` to `address`.
    pub(in crate::store::redis) fn redirected(
        &self,
        slot: u16,
        address: &NodeAddress,
        open: impl FnOnce(&NodeAddress) -> T,
    ) -> Self {
        let mut next = self.with_node(address, open);
        let place = next.nodes.iter().position(|node| node.address() == address);
        for partition in self.partitions.all() {
            if self.partitions.slot(partition) == slot {
                next.owners[partition.index()] = place;
            }
        }
        next
    }

    /// The table with a node at `address`, which serves no partition if it is new.
    pub(in crate::store::redis) fn with_node(
        &self,
        address: &NodeAddress,
        open: impl FnOnce(&NodeAddress) -> T,
    ) -> Self {
        let mut next = self.clone();
        if self.node_at(address).is_none() {
            next.nodes.push(open(address));
        }
        next
    }

    /// The node at `address`.
    pub(in crate::store::redis) fn node_at(&self, address: &NodeAddress) -> Option<&T> {
        self.nodes.iter().find(|node| node.address() == address)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Node {
        number: usize,
        address: NodeAddress,
        used_at: Instant,
    }

    impl InCluster for Node {
        fn address(&self) -> &NodeAddress {
            &self.address
        }

        fn used_at(&self) -> Instant {
            self.used_at
        }
    }

    fn address(number: u16) -> NodeAddress {
        NodeAddress {
            host: "node".to_owned(),
            port: 7000 + number,
        }
    }

    /// A view in which each sixteenth of the slots has a master or none.
    fn view(owners: &[Option<u16>]) -> View {
        let mut view = View::default();
        for (part, owner) in (0_u16..).zip(owners) {
            if let Some(owner) = owner {
                view.masters
                    .push((address(*owner), vec![part * 1024..=part * 1024 + 1023]));
            }
        }
        view
    }

    proptest! {
        #[test]
        fn each_view_replaces_the_partitions_that_it_has_and_keeps_the_others(
            views in vec(vec(proptest::option::of(0_u16..5), 16), 1..6),
            unused in vec(any::<bool>(), 6),
        ) {
            let partitions = Partitions::new(16).expect("a count");
            let mut table: Table<Node> = Table::empty(partitions);
            let (mut opened, began) = (0, Instant::now());
            let mut expected: Vec<Option<u16>> = vec![None; 16];
            for (owners, forget) in views.iter().zip(unused) {
                let before = table.clone();
                let oldest_use = if forget { began + Duration::from_secs(1) } else { began };
                table = table.next(&view(owners), oldest_use, |address| {
                    opened += 1;
                    Node { number: opened, address: address.clone(), used_at: began }
                });
                for (expected, owner) in expected.iter_mut().zip(owners) {
                    *expected = owner.or(*expected);
                }
                for (partition, expected) in partitions.all().zip(&expected) {
                    let owner = table.owner(partition).map(|node| node.address.clone());
                    prop_assert_eq!(owner, expected.map(address));
                }
                let addresses: HashSet<_> = table.nodes().iter().map(|node| &node.address).collect();
                prop_assert_eq!(addresses.len(), table.nodes().len());
                for node in before.nodes() {
                    match table.node_at(&node.address) {
                        Some(kept) => prop_assert_eq!(kept, node),
                        None => prop_assert!(forget && !expected.iter().flatten().any(|each| address(*each) == node.address)),
                    }
                }
                let served: usize = (0..table.nodes().len()).map(|index| table.partitions_of(index).iter().count()).sum();
                prop_assert_eq!(served, expected.iter().flatten().count());
            }
        }
    }

    #[test]
    fn a_redirection_changes_the_partition_of_its_slot_only() {
        let partitions = Partitions::new(16).expect("a count");
        let open = |address: &NodeAddress| Node {
            number: 0,
            address: address.clone(),
            used_at: Instant::now(),
        };
        let table = Table::empty(partitions).next(&view(&[Some(0); 16]), Instant::now(), open);
        let redirected = table.redirected(1024, &address(3), open);
        for partition in partitions.all() {
            let expected = if partition.index() == 1 {
                address(3)
            } else {
                address(0)
            };
            assert_eq!(
                redirected.owner(partition).map(|node| node.address.clone()),
                Some(expected)
            );
        }
        let between = redirected.redirected(1025, &address(4), open);
        assert_eq!(
            between.nodes().len(),
            3,
            "a slot without a partition changes no owner"
        );
        assert_eq!(
            between.owner_index(partitions.get(1).expect("16")),
            redirected.owner_index(partitions.get(1).expect("16"))
        );
    }
}
