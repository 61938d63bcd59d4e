use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::Timestamp;

/// The clock of Redis as this instance estimates it.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Clock {
    /// How far the clock of Redis is ahead of the local clock, in milliseconds.
    lead_ms: AtomicI64,
}

impl Clock {
    /// The estimated time of Redis.
    pub(in crate::store::redis) fn now(&self) -> Timestamp {
        let local = Timestamp::of_system_clock().as_millis();
        Timestamp::from_millis(local.saturating_add_signed(self.lead_ms.load(Ordering::Relaxed)))
    }

    /// Takes the time that Redis reported in reply to a request that was sent at `asked`.
    ///
    /// Redis read its clock between `asked` and now, so the lead has two bounds. An estimate within the bounds is kept,
    /// because a slow reply is less exact.
    pub(in crate::store::redis) fn set(&self, redis: Timestamp, asked: Timestamp) {
        let answered = Timestamp::of_system_clock();
        let lead_over = |local: Timestamp| {
            let lead = redis.as_millis().wrapping_sub(local.as_millis());
            lead.cast_signed()
        };
        let known = self.lead_ms.load(Ordering::Relaxed);
        let least = lead_over(answered);
        let lead = known.clamp(least, lead_over(asked).max(least));
        self.lead_ms.store(lead, Ordering::Relaxed);
    }
}
