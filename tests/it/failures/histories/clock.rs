//! The step that sets the clock of a Redis server.

use std::sync::Arc;
use std::time::Duration;

use presence::model::{Entry, Stated};
use presence::store::StoreError;
use tokio::time::Instant;

use super::model::Bracket;
use super::{CONNECTIONS, Run, USERS, sweep};

/// The latest departure after the clock was set: a TTL, another TTL after a step back, the interval and margin of a
/// hold after a step ahead, and some time to sweep.
const LONGEST_DELAY: Duration = Duration::from_millis(2 * 400 + 600 + 300);

impl Run {
    /// Sets the clock. All connections ping once more and then stop, and each user leaves once, within
    /// [`LONGEST_DELAY`]. The model cannot follow the state during that time.
    pub(super) async fn set_clock(&mut self, instance: usize, by_ms: i64) {
        let Some(redis) = &self.clock else {
            return;
        };
        // Instances sweep all the time, so a sweep precedes the step.
        let store = Arc::clone(&self.stores[instance]);
        sweep(&store).await;
        self.ahead_ms += by_ms;
        redis.set_clock_ahead(self.ahead_ms);
        for (user, connection) in (0..USERS.len()).zip(0..CONNECTIONS.len()) {
            let (user, connection) = self.names(user, connection);
            let pinged = self.stores[instance]
                .ping(&user, &connection, &Stated::default())
                .await;
            let refused = matches!(pinged, Err(StoreError::Refused(_)));
            assert!(pinged.is_ok() || refused, "the store answers: {pinged:?}");
        }
        let end = Instant::now() + LONGEST_DELAY;
        let mut swept = Bracket::open(self.ahead_ms);
        while Instant::now() < end {
            swept = Bracket::open(self.ahead_ms);
            for store in &self.stores {
                sweep(store).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for entry in self.new_entries(&store).await {
            match &entry {
                Entry::Event(event) => self.model.announced_while_the_clock_was_set(event),
                Entry::Group(event) => self.model.groups.announced_while_the_clock_was_set(event),
                Entry::Unknown { .. } => panic!("an unknown entry"),
            }
        }
        self.model.all_are_gone(swept.close(self.ahead_ms));
        assert_eq!(store.count().await.ok(), Some(0));
    }
}
