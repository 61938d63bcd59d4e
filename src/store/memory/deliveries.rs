//! The delivery of webhooks in the embedded store. This process is the only sender, but the lease is kept all the same,
//! so that both stores keep one contract.

use std::collections::BTreeMap;

use crate::model::{Claim, Delivery, Timestamp};
use crate::store::policy::DELIVERY_LEASE;

/// The delivery to one receiver.
#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    retry_at: Timestamp,
    holder: String,
    until: Timestamp,
}

/// The deliveries to all receivers, by name.
#[derive(Debug, Default)]
pub(super) struct Deliveries(BTreeMap<String, Entry>);

impl Deliveries {
    pub(super) fn claim(
        &mut self,
        receiver: &str,
        holder: &str,
        first: Option<&str>,
        now: Timestamp,
    ) -> Option<Claim> {
        if !self.0.contains_key(receiver) {
            let delivery = Delivery {
                cursor: first?.to_owned(),
                ..Delivery::default()
            };
            let entry = Entry {
                delivery,
                retry_at: now,
                holder: holder.to_owned(),
                until: now,
            };
            self.0.insert(receiver.to_owned(), entry);
        }
        let entry = self.0.get_mut(receiver)?;
        if entry.holder != holder && entry.until > now {
            return Some(Claim::Held {
                cursor: entry.delivery.cursor.clone(),
                remaining: entry.until.since(now),
            });
        }
        entry.holder = holder.to_owned();
        entry.until = now.plus(DELIVERY_LEASE);
        Some(Claim::Granted(Delivery {
            pause: entry.retry_at.since(now),
            ..entry.delivery.clone()
        }))
    }

    pub(super) fn record(
        &mut self,
        receiver: &str,
        holder: &str,
        delivery: &Delivery,
        now: Timestamp,
    ) -> bool {
        match self.0.get_mut(receiver) {
            Some(entry) if entry.holder == holder => {
                entry.delivery = delivery.clone();
                entry.retry_at = now.plus(delivery.pause);
                entry.until = now.plus(DELIVERY_LEASE);
                true
            }
            _ => false,
        }
    }

    pub(super) fn release(&mut self, receiver: &str, holder: &str) {
        if let Some(entry) = self.0.get_mut(receiver)
            && entry.holder == holder
        {
            entry.until = Timestamp::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_holder_at_a_time_has_the_lease() {
        let mut deliveries = Deliveries::default();
        let now = Timestamp::from_millis(1_000);
        assert_eq!(deliveries.claim("crm", "a", None, now), None);
        let first = Delivery {
            cursor: "1".to_owned(),
            ..Delivery::default()
        };
        let granted = Some(Claim::Granted(first.clone()));
        assert_eq!(deliveries.claim("crm", "a", Some("1"), now), granted);
        let held = Claim::Held {
            cursor: "1".to_owned(),
            remaining: DELIVERY_LEASE,
        };
        assert_eq!(deliveries.claim("crm", "b", Some("9"), now), Some(held));
        let failed = Delivery {
            batch: Some("1 2 -".to_owned()),
            attempts: 1,
            pause: Duration::from_secs(20),
            ..first
        };
        assert!(!deliveries.record("crm", "b", &failed, now));
        assert!(deliveries.record("crm", "a", &failed, now));
        let later = now.plus(DELIVERY_LEASE);
        let taken_over = Delivery {
            pause: Duration::from_secs(5),
            ..failed
        };
        let granted = Some(Claim::Granted(taken_over.clone()));
        assert_eq!(deliveries.claim("crm", "b", None, later), granted);
        assert!(!deliveries.record("crm", "a", &taken_over, later));
        deliveries.release("crm", "b");
        assert!(matches!(
            deliveries.claim("crm", "a", None, later),
            Some(Claim::Granted(_))
        ));
    }
}
