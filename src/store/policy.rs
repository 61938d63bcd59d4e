//! The constants of sweeps and outages, which both stores and the sweeper share.

use std::time::Duration;

/// A longer time without a sweep is an outage for every connection, whatever its grant.
///
/// Every instance sweeps at least every [`SWEEP_HEARTBEAT`], or notes that it is ready to serve. Scheduling alone does
/// not make all instances miss six sweeps in a row.
pub(crate) const OUTAGE: Duration = Duration::from_millis(1_500);

/// A shorter time without a sweep is not an outage for any connection.
pub(crate) const SHORTEST_OUTAGE: Duration = Duration::from_millis(500);

/// The longest time between two sweeps by one instance of a partition in which something happens, also if no user is
/// due.
pub(crate) const SWEEP_HEARTBEAT: Duration = Duration::from_millis(250);

/// How often an instance with quiet partitions sends a beat. Every second one writes the time until which it was ready
/// to serve: if all instances are killed, the time since then counts as an outage. The others look whether the data are
/// still there.
pub(crate) const BEAT: Duration = Duration::from_millis(800);

/// A store that stands still for a shorter time may do so unnoticed by a quiet instance: from the reply to a beat until
/// shortly after the request of the next one. `announce.lua` has the same number.
pub(crate) const UNNOTICED: Duration = Duration::from_millis(1_200);

/// How long an instance may send to a receiver of webhooks without claiming the lease again. Longer than a delivery
/// takes.
pub(crate) const DELIVERY_LEASE: Duration = Duration::from_secs(15);

/// How often an instance reports about itself.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How long a report of an instance counts. Two reports may be lost.
pub(crate) const REPORT_COUNTS: Duration = Duration::from_secs(30);

/// How long the reports are kept after the last full report.
pub(crate) const REPORTS_KEPT: Duration = Duration::from_secs(300);

/// How many instances are known at most: those that reported last.
pub(crate) const MOST_INSTANCES: usize = 1_000;

/// How many due users one sweep reads. A script for this many users blocks Redis for about 3 ms.
pub(crate) const SWEEP_BATCH: usize = 1_000;

/// In how many groups a user can be stored.
pub(crate) const USER_GROUPS: usize = 1_000;

/// How many users one event of a group names at most. The line of such an event has less than 60 KiB, also if each id
/// has its maximum length. `groups.lua` has the same number.
pub(crate) const USERS_PER_EVENT: usize = 100;
