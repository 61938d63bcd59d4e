//! The reply to `CLUSTER SLOTS`: which master serves which slots.

use std::ops::RangeInclusive;

use redis::{Cmd, Value, from_redis_value};

use super::node_address::NodeAddress;
use crate::store::error::StoreError;
use crate::store::redis::format::replies::unexpected;

/// The number of slots of every cluster.
pub(in crate::store::redis) const SLOTS: u16 = 16_384;

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store::redis) struct View {
    /// Each master that serves slots, with these slots. Slots of no master are served by none, as far as the node
    /// knows.
    pub(in crate::store::redis) masters: Vec<(NodeAddress, Vec<RangeInclusive<u16>>)>,
}

impl View {
    /// The index of the master that serves `slot`.
    pub(in crate::store::redis) fn master_of(&self, slot: u16) -> Option<usize> {
        let serves =
            |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|range| range.contains(&slot));
        self.masters.iter().position(|(_, ranges)| serves(ranges))
    }

    /// The slots that no master serves, in order.
    pub(in crate::store::redis) fn lacking(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<_> = self.masters.iter().flat_map(|(_, ranges)| ranges).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let (mut lacking, mut next) = (Vec::new(), 0);
        for range in ranges {
            if *range.start() > next {
                lacking.push(next..=range.start() - 1);
            }
            next = next.max(range.end() + 1);
        }
        if next < SLOTS {
            lacking.push(next..=SLOTS - 1);
        }
        lacking
    }

    /// Whether each slot has a master.
    pub(in crate::store::redis) fn is_complete(&self) -> bool {
        self.lacking().is_empty()
    }

    /// The number of slots that no master serves.
    pub(in crate::store::redis) fn lacking_slots(&self) -> usize {
        self.lacking().iter().map(ExactSizeIterator::len).sum()
    }

    fn add(&mut self, master: NodeAddress, range: RangeInclusive<u16>) {
        match self.masters.iter_mut().find(|(known, _)| *known == master) {
            Some((_, ranges)) => ranges.push(range),
            None => self.masters.push((master, vec![range])),
        }
    }
}

/// The command that asks a node for its view.
pub(in crate::store::redis) fn request() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// Reads the reply of the node at the host `asked`. A range of slots whose master has no usable address is left out.
pub(in crate::store::redis) fn read(answer: Value, asked: &str) -> Result<View, StoreError> {
    let Value::Array(ranges) = answer else {
        return Err(unexpected("no list of slots"));
    };
    let mut view = View::default();
    for range in ranges {
        let Value::Array(range) = range else {
            return Err(unexpected("a range of slots that is no list"));
        };
        let mut values = range.into_iter();
        let first = slot(values.next())?;
        let last = slot(values.next())?;
        if first > last {
            return Err(unexpected("a range of slots that ends before its start"));
        }
        // The master is the first of the nodes; its replicas follow.
        if let Some(Value::Array(master)) = values.next()
            && let Some(address) = address(master, asked)
        {
            view.add(address, first..=last);
        }
    }
    Ok(view)
}

fn slot(value: Option<Value>) -> Result<u16, StoreError> {
    match value {
        Some(Value::Int(slot)) if (0..i64::from(SLOTS)).contains(&slot) => {
            u16::try_from(slot).map_err(unexpected)
        }
        _ => Err(unexpected("a slot that does not exist")),
    }
}

/// The address of a node, whose id and other facts follow in the list.
fn address(node: Vec<Value>, asked: &str) -> Option<NodeAddress> {
    let mut values = node.into_iter();
    let host: Option<String> = from_redis_value(values.next()?).ok()?;
    let port: u16 = from_redis_value(values.next()?).ok()?;
    NodeAddress::announced(host.as_deref().unwrap_or_default(), port, asked)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![
            host,
            Value::Int(port),
            text("id"),
            Value::Array(Vec::new()),
        ])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let mut values = vec![Value::Int(first), Value::Int(last)];
        values.extend(nodes);
        Value::Array(values)
    }

    fn any_reply() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            (-3_i64..16_400).prop_map(Value::Int),
            any::<i64>().prop_map(Value::Int),
            "[a-z?.:]{0,3}".prop_map(|host| text(&host)),
            vec(any::<u8>(), 0..4).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| vec(inner, 0..6).prop_map(Value::Array))
    }

    proptest! {
        /// A view never has a slot that does not exist, or an address without a host or a port.
        #[test]
        fn any_reply_is_read_or_refused(answer in any_reply(), asked in "[a-z]{0,3}") {
            if let Ok(view) = read(answer, &asked) {
                for (address, ranges) in &view.masters {
                    prop_assert!(!address.host.is_empty() && address.host != "?" && address.port != 0);
                    prop_assert!(ranges.iter().all(|range| range.start() <= range.end() && *range.end() < SLOTS));
                }
                prop_assert_eq!(view.lacking().is_empty(), (0..SLOTS).all(|slot| view.master_of(slot).is_some()));
            }
        }

        #[test]
        fn each_slot_has_the_master_of_its_range(cuts in vec(1_u16..SLOTS, 0..8), served in vec(any::<bool>(), 9)) {
            let mut cuts = cuts;
            cuts.extend([0, SLOTS]);
            cuts.sort_unstable();
            cuts.dedup();
            let parts: Vec<_> = cuts.windows(2).zip(&served).collect();
            let reply = parts.iter().enumerate().filter(|(_, (_, served))| **served).map(|(number, (part, _))| {
                let master = node(text(&format!("node-{number}")), 7000);
                range(part[0].into(), i64::from(part[1]) - 1, vec![master, node(text("replica"), 7001)])
            });
            let view = read(Value::Array(reply.collect()), "seed").expect("a view");
            for (number, (part, served)) in parts.iter().enumerate() {
                for slot in [part[0], part[1] - 1] {
                    let master = view.master_of(slot).map(|master| view.masters[master].0.host.clone());
                    prop_assert_eq!(master, served.then(|| format!("node-{number}")));
                }
                let is_lacking = view.lacking().iter().any(|range| range.contains(&part[0]));
                prop_assert_eq!(is_lacking, !**served);
            }
        }
    }

    #[test]
    fn a_master_may_have_several_ranges_and_no_host() {
        let reply = Value::Array(vec![
            range(0, 99, vec![node(Value::Nil, 7000)]),
            range(100, 199, vec![node(text("other"), 7001)]),
            range(200, 16_383, vec![node(text(""), 7000)]),
        ]);
        let view = read(reply, "seed").expect("a view");
        let hosts: Vec<_> = view
            .masters
            .iter()
            .map(|(address, _)| address.to_string())
            .collect();
        assert_eq!(hosts, ["seed:7000", "other:7001"]);
        assert_eq!(view.masters[0].1, [0..=99, 200..=16_383]);
        assert!(view.lacking().is_empty());
    }

    #[test]
    fn slots_without_an_address_are_lacking() {
        let reply = Value::Array(vec![
            range(0, 5_460, vec![node(text("one"), 7000)]),
            range(5_461, 10_922, vec![node(text("?"), 7001)]),
            range(10_923, 16_383, vec![]),
        ]);
        let view = read(reply, "seed").expect("a view");
        assert_eq!(view.lacking(), [5_461..=16_383]);
    }
}
