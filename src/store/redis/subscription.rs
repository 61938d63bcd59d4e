//! The messages of Redis, read into signals.

use std::sync::Arc;

use redis::aio::PubSubStream;
use tokio_stream::StreamExt;
use tracing::warn;

use super::codec;
use super::connection::{Messages, SupervisedConnection};
use super::keys::Keys;
use crate::model::Partition;
use crate::store::signal::Signal;

/// The only reader of a subscription to the bus and, if configured, to the expiry notifications.
pub struct Subscription {
    connection: Arc<SupervisedConnection>,
    generation: u64,
    messages: Messages,
    stream: PubSubStream,
    keys: Keys,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    /// Waits until `connection` is subscribed, for as long as it takes.
    pub(super) async fn open(connection: &Arc<SupervisedConnection>, keys: &Keys) -> Self {
        let (generation, messages, stream) = connection.subscribed().await;
        Self {
            connection: Arc::clone(connection),
            generation,
            messages,
            stream,
            keys: keys.clone(),
        }
    }

    /// The next signal; `None` when the connection was lost.
    pub(in crate::store) async fn next(&mut self) -> Option<Signal> {
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message?,
                () = self.connection.closed(self.generation) => return None,
            };
            self.messages.note_heard();
            if message.get_channel_name() != self.keys.bus {
                if self.keys.is_user(message.get_payload_bytes()) {
                    return Some(Signal::Expired(Partition::FIRST));
                }
                continue;
            }
            let text = std::str::from_utf8(message.get_payload_bytes()).ok();
            if let Some((epoch, entries)) = text.and_then(codec::parse_message) {
                return Some(Signal::Entries(Partition::FIRST, epoch, entries));
            }
            warn!("ignored a message of another program on the bus channel");
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The next reader needs a stream of its own, so the connection has to be opened again.
        let why = "the subscription was dropped".to_owned();
        self.connection.close(self.generation, why);
    }
}
