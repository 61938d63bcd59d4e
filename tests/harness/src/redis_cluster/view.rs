//! What one node knows about the cluster.

use std::collections::BTreeSet;

use crate::names::SLOTS;

/// The answer to `CLUSTER NODES`, with the numbers of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The number of known nodes of the cluster.
    pub(super) known: usize,
    /// The master of each slot.
    pub(super) owners: Vec<Option<usize>>,
    /// The nodes that are replicas.
    pub(super) replicas: BTreeSet<usize>,
}

impl View {
    /// Reads the lines of `CLUSTER NODES`. `None` while a node is not known by its final name.
    pub(super) fn read(lines: &str, number: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let mut view = Self {
            known: 0,
            owners: vec![None; SLOTS],
            replicas: BTreeSet::new(),
        };
        for line in lines.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let node = number(fields[0])?;
            view.known += 1;
            if fields[2].contains("slave") {
                view.replicas.insert(node);
            }
            // Slots that are migrating are in brackets.
            let slots = fields[8..].iter().filter(|slots| !slots.starts_with('['));
            for slots in slots {
                let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
                let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
                view.owners[first..=last].fill(Some(node));
            }
        }
        Some(view)
    }

    /// Whether `node` is the master of a slot.
    pub(super) fn owns_any(&self, node: usize) -> bool {
        self.owners.contains(&Some(node))
    }
}
