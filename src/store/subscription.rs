//! A subscription to the notifications of a store.

use super::signal::Signal;
use super::{memory, redis};

/// A subscription to the [`Signal`]s of a store.
#[derive(Debug)]
pub enum Subscription {
    /// A subscription to the embedded store.
    Memory(memory::Subscription),
    /// A subscription to Redis.
    Redis(Box<redis::Subscription>),
}

impl Subscription {
    /// The next signal; `None` when the subscription is lost. Then subscribe again.
    pub async fn next(&mut self) -> Option<Signal> {
        match self {
            Self::Memory(subscription) => subscription.next().await,
            Self::Redis(subscription) => subscription.next().await,
        }
    }
}
