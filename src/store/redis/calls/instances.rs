//! What operators see of a store in Redis: the reports of the instances, the sweeps and the history.
//!
//! The reports are in the first partition. An instance writes one script call or two commands for each report, and its
//! report is forgotten if it is silent for [`REPORT_COUNTS`].

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{Script, ScriptInvocation};

use crate::model::{InstanceReport, Partition, PartitionSet, StoreSummary, Timestamp, millis};
use crate::store::error::StoreError;
use crate::store::policy::{MOST_INSTANCES, REPORT_COUNTS, REPORTS_KEPT};
use crate::store::redis::format::replies::take;
use crate::store::redis::store::RedisStore;

/// How much earlier than the estimated time of Redis a brief report is dated: Redis forgets reports from the future.
const CLOCK_ERROR: Duration = Duration::from_secs(1);

/// How many held departures are compared to find the first end of a hold. After an outage nearly all holds end
/// together.
const HELD_READ: usize = 1_000;

impl RedisStore {
    pub(in crate::store) async fn report(
        &self,
        report: &InstanceReport,
        is_brief: bool,
    ) -> Result<(), StoreError> {
        if is_brief && self.report_briefly(report).await? {
            return Ok(());
        }
        let mut call = self.about_instances(&self.scripts.report_instance);
        call.arg(&report.id)
            .arg(encoded(report))
            .arg(millis(REPORT_COUNTS))
            .arg(MOST_INSTANCES)
            .arg(millis(REPORTS_KEPT));
        self.in_first_partition(&call).await
    }

    /// Replaces a report with two commands. Returns false if there was none.
    async fn report_briefly(&self, report: &InstanceReport) -> Result<bool, StoreError> {
        let keys = self.layout.keys(Partition::FIRST);
        let at = self.now(Partition::FIRST).minus(CLOCK_ERROR);
        let mut replace = redis::pipe();
        replace.cmd("ZADD").arg(&keys.instances).arg("XX").arg("CH");
        replace.arg(at.as_millis()).arg(&report.id);
        replace.cmd("HSET").arg(&keys.reports);
        replace.arg(&report.id).arg(encoded(report));
        let route = self.lanes.to(Partition::FIRST);
        let sent = route.pipeline_idempotent(&replace);
        let replies = self.with_deadline(Partition::FIRST, sent).await?;
        let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
        take(&mut replies.into_iter())
    }

    pub(in crate::store) async fn withdraw(&self, id: &str) -> Result<(), StoreError> {
        let mut call = self.about_instances(&self.scripts.withdraw_instance);
        call.arg(id);
        self.in_first_partition(&call).await
    }

    pub(in crate::store) async fn instances(&self) -> Result<Vec<InstanceReport>, StoreError> {
        let mut call = self.about_instances(&self.scripts.instances);
        call.arg(millis(REPORT_COUNTS)).arg(MOST_INSTANCES);
        let found: Vec<(String, String)> = self.in_first_partition(&call).await?;
        let found = found.into_iter();
        let mut reports: Vec<_> = found
            .filter_map(|(id, report)| decoded(id, &report))
            .collect();
        reports.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(reports)
    }

    fn about_instances<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let keys = self.layout.keys(Partition::FIRST);
        let mut call = script.prepare_invoke();
        call.key(&keys.instances)
            .key(&keys.reports)
            .key(&keys.absent);
        call
    }

    async fn in_first_partition<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let answer = self.lanes.to(Partition::FIRST).script(call);
        self.with_deadline(Partition::FIRST, answer).await
    }

    pub(in crate::store) async fn summary(&self) -> Result<StoreSummary, StoreError> {
        let partitions = self.partitions();
        let all = partitions.all().map(|each| self.summary_of(each));
        let whole = async {
            let (all, held_until) = tokio::join!(try_join_all(all), self.held_until());
            let (all, held_until) = (all?, held_until?);
            // `None` is less than every time.
            Ok(StoreSummary {
                swept_at: all.iter().map(|part| part.swept_at).min().flatten(),
                held_until,
                oldest: all.iter().filter_map(|part| part.oldest).min(),
                newest: all.iter().filter_map(|part| part.newest).max(),
            })
        };
        self.with_deadline_over(PartitionSet::all(partitions), whole)
            .await
    }

    /// When the first held departure can be announced: the least score in the indices of the users whose departure is
    /// held.
    pub(in crate::store) async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let all = self.partitions().all();
        let firsts = try_join_all(all.map(|each| self.held_until_in(each))).await?;
        Ok(firsts.into_iter().flatten().min())
    }

    async fn held_until_in(&self, partition: Partition) -> Result<Option<Timestamp>, StoreError> {
        let (keys, route) = (self.layout.keys(partition), self.lanes.to(partition));
        let mut read = redis::cmd("ZRANGE");
        read.arg(&keys.held).arg(0).arg(HELD_READ - 1);
        let held: Vec<String> = route.query_idempotent(&read).await?;
        if held.is_empty() {
            return Ok(None);
        }
        let mut read = redis::cmd("ZMSCORE");
        read.arg(&keys.deadlines).arg(held);
        let ends: Vec<Option<f64>> = route.query_idempotent(&read).await?;
        let first = ends.into_iter().flatten().reduce(f64::min);
        Ok(first.map(|end| Timestamp::from_millis(end as u64)))
    }

    async fn summary_of(&self, partition: Partition) -> Result<StoreSummary, StoreError> {
        let keys = self.layout.keys(partition);
        let mut read = self.scripts.summary.prepare_invoke();
        read.key(&keys.swept).key(&keys.events).key(&keys.absent);
        let read: (String, String, String) = self.lanes.to(partition).script(&read).await?;
        Ok(StoreSummary {
            swept_at: time_of(&read.0),
            held_until: None,
            oldest: time_of(&read.1),
            newest: time_of(&read.2),
        })
    }
}

/// The time in a position or in a number of milliseconds.
fn time_of(text: &str) -> Option<Timestamp> {
    let millis = text.split(['-', '.']).next()?;
    millis.parse().ok().map(Timestamp::from_millis)
}

/// The text of a report: times and numbers, then the version. Later versions may append words.
fn encoded(report: &InstanceReport) -> String {
    let swept_at = report.swept_at.unwrap_or_default();
    format!(
        "{} {} {} {} {}",
        report.started_at.as_millis(),
        report.streams,
        report.connections,
        swept_at.as_millis(),
        report.version,
    )
}

/// The report with this text. `None`: the text is not a report.
fn decoded(id: String, text: &str) -> Option<InstanceReport> {
    let mut words = text.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let (started, streams, connections, swept) = (number()?, number()?, number()?, number()?);
    Some(InstanceReport {
        id,
        version: words.next()?.to_owned(),
        started_at: Timestamp::from_millis(started),
        streams,
        connections,
        swept_at: (swept > 0).then(|| Timestamp::from_millis(swept)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_report_survives_its_text(
            numbers in any::<[u64; 3]>(),
            swept in proptest::option::of(1_u64..),
            version in "[0-9]{1,3}[.][0-9a-z.+-]{1,12}",
            appended in "( [a-z0-9]{1,5}){0,2}",
        ) {
            let report = InstanceReport {
                id: "a".to_owned(),
                version,
                started_at: Timestamp::from_millis(numbers[0]),
                streams: numbers[1],
                connections: numbers[2],
                swept_at: swept.map(Timestamp::from_millis),
            };
            let text = encoded(&report) + &appended;
            prop_assert_eq!(decoded("a".to_owned(), &text), Some(report));
        }

        #[test]
        fn any_text_is_a_report_or_not(text in ".{0,40}") {
            let _ = decoded("a".to_owned(), &text);
        }
    }

    #[test]
    fn positions_and_numbers_have_a_time() {
        assert_eq!(time_of(""), None);
        assert_eq!(time_of("17-3"), Some(Timestamp::from_millis(17)));
        assert_eq!(time_of("17"), Some(Timestamp::from_millis(17)));
    }
}
