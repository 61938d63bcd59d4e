//! The messages of Redis, read into signals.

use std::sync::Arc;

use tracing::warn;

use super::connection::{Message, MessageStream, Messages, SupervisedConnection};
use super::format::codec;
use super::format::layout::Layout;
use crate::model::Partition;
use crate::store::signal::Signal;

/// The message that a user is due earlier than other instances may know; `tell_nearer` in `announce.lua`.
pub(super) const NEARER: &[u8] = b"nearer";

/// The message that an instance takes part in a move from this store; `report_move.lua`.
const MOVING: &[u8] = b"moving";

/// The only reader of a subscription to the bus and, if configured, to the expiry notifications.
pub struct Subscription {
    layout: Arc<Layout>,
    /// `None` if the node left the cluster.
    open: Option<Open>,
}

struct Open {
    connection: Arc<SupervisedConnection>,
    generation: u64,
    messages: Messages,
    stream: MessageStream,
    /// The partitions whose events of the time before the subscription are not read yet.
    begun: Vec<Partition>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    /// Waits until `connection` is subscribed, for as long as it takes.
    pub(super) async fn open(
        connection: Option<Arc<SupervisedConnection>>,
        layout: &Arc<Layout>,
    ) -> Self {
        let layout = Arc::clone(layout);
        let Some(connection) = connection else {
            return Self { layout, open: None };
        };
        let (generation, messages, stream) = connection.subscribed().await;
        let open = Some(Open {
            begun: messages.served().iter().collect(),
            connection,
            generation,
            messages,
            stream,
        });
        Self { layout, open }
    }

    /// The next signal; `None` when the connection was lost. The first signals tell that each partition of the node may
    /// have changed.
    pub(in crate::store) async fn next(&mut self) -> Option<Signal> {
        let open = self.open.as_mut()?;
        if let Some(partition) = open.begun.pop() {
            return Some(Signal::Changed(partition));
        }
        loop {
            let message = tokio::select! {
                message = open.stream.next() => message?,
                () = open.connection.closed(open.generation) => return None,
            };
            open.messages.note_heard();
            match self.layout.signal(&message) {
                // While the server does not answer, another one may have replaced it, whose history counts. A frozen
                // server runs old calls when it continues.
                Some(Signal::Entries(partition, ..))
                    if !open.connection.is_confirmed(open.generation) =>
                {
                    return Some(Signal::Changed(partition));
                }
                Some(signal) => return Some(signal),
                None => {}
            }
        }
    }
}

impl Layout {
    /// The meaning of a message; `None` if it has none.
    fn signal(&self, message: &Message) -> Option<Signal> {
        let keys = self.of_name(message.channel());
        let Some(keys) = keys.filter(|keys| keys.bus.as_bytes() == message.channel()) else {
            let keys = self.of_name(message.payload())?;
            let is_user = keys.is_user(message.payload());
            return is_user.then_some(Signal::Expired(keys.partition));
        };
        if message.payload() == NEARER {
            return Some(Signal::Nearer(keys.partition));
        }
        if message.payload() == MOVING {
            return Some(Signal::Moving);
        }
        let text = std::str::from_utf8(message.payload()).ok();
        let Some((epoch, entries)) = text.and_then(codec::parse_message) else {
            warn!("ignored a message of another program on the bus channel");
            return None;
        };
        Some(Signal::Entries(keys.partition, epoch, entries))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The next reader needs a stream of its own, so the connection has to be opened again.
        let why = "the subscription was dropped".to_owned();
        self.connection.close(self.generation, why);
    }
}
