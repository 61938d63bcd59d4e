//! The slots of a cluster that no master serves, as text for logs and `/readyz`.

use std::ops::RangeInclusive;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::slots::View;
use crate::model::Partitions;
use crate::store::error::StoreError;

/// How long after the last refusal a cluster counts as up again.
const DOWN_FOR: Duration = Duration::from_secs(10);

/// Which slots are not served, and why. Logs each change.
#[derive(Debug)]
pub(in crate::store::redis) struct Coverage {
    partitions: Partitions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The slots of partitions without a master, as text; empty if there are none.
    lacking: String,
    /// Why the last read of a view failed.
    failure: Option<StoreError>,
    /// When a node last said that the whole cluster is down.
    down_at: Option<Instant>,
}

impl Coverage {
    pub(in crate::store::redis) fn new(partitions: Partitions) -> Self {
        let state = Mutex::default();
        Self { partitions, state }
    }

    /// Records a new view of the cluster.
    pub(in crate::store::redis) fn note(&self, view: &View) {
        let lacking = view.lacking();
        let is_lacking = |slot: u16| lacking.iter().any(|range| range.contains(&slot));
        let partitions = self.partitions.all();
        let partitions = partitions
            .filter(|each| is_lacking(self.partitions.slot(*each)))
            .count();
        let slots = match partitions {
            0 => String::new(),
            _ => text(&lacking),
        };
        let mut state = self.state.lock();
        if state.lacking != slots {
            if partitions > 0 {
                warn!(
                    slots,
                    partitions, "the cluster lacks slots; calls of their users fail"
                );
            } else {
                info!("the cluster serves all slots again");
            }
        }
        state.lacking = slots;
        state.failure = None;
    }

    /// Notes that no node returned its view.
    pub(in crate::store::redis) fn note_failure(&self, error: StoreError) {
        self.state.lock().failure = Some(error);
    }

    /// Notes that a node refused a command because the whole cluster is down.
    pub(in crate::store::redis) fn note_down(&self) {
        let before = self.state.lock().down_at.replace(Instant::now());
        if before.is_none_or(|before| before.elapsed() > DOWN_FOR) {
            warn!("the cluster is down; see cluster-require-full-coverage");
        }
    }

    /// Why some partitions are not served; `None` if all are.
    pub(in crate::store::redis) fn lacking(&self) -> Option<String> {
        let state = self.state.lock();
        let is_lacking = !state.lacking.is_empty();
        is_lacking.then(|| format!("no master serves the slots {}", state.lacking))
    }

    /// Why a partition has no node.
    pub(in crate::store::redis) fn why_unserved(&self) -> StoreError {
        if let Some(lacking) = self.lacking() {
            return StoreError::Unreachable(lacking);
        }
        let state = self.state.lock();
        let not_yet = || StoreError::Unreachable("not connected yet".to_owned());
        state.failure.clone().unwrap_or_else(not_yet)
    }
}

fn text(ranges: &[RangeInclusive<u16>]) -> String {
    let ranges = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
    ranges.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::cluster::node_address::NodeAddress;

    fn view(ranges: &[RangeInclusive<u16>]) -> View {
        let address = NodeAddress {
            host: "node".to_owned(),
            port: 7000,
        };
        View {
            masters: vec![(address, ranges.to_vec())],
        }
    }

    #[test]
    fn the_slots_without_a_master_are_named_until_one_serves_them() {
        let coverage = Coverage::new(Partitions::new(16).expect("a count"));
        assert_eq!(coverage.why_unserved().cause(), "not connected yet");
        coverage.note(&view(&[0..=5_460, 10_923..=16_382]));
        let lacking = "no master serves the slots 5461-10922,16383";
        assert_eq!(coverage.lacking().as_deref(), Some(lacking));
        assert_eq!(coverage.why_unserved().cause(), lacking);
        coverage.note(&view(&[0..=16_383]));
        assert_eq!(coverage.lacking(), None);
    }

    #[test]
    fn slots_without_a_partition_are_not_missed() {
        let coverage = Coverage::new(Partitions::new(16).expect("a count"));
        coverage.note(&view(&[0..=0, 2..=16_383]));
        assert_eq!(coverage.lacking(), None);
    }
}
