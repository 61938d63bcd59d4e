//! What a server pushes over a connection with RESP3.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

/// How many messages may wait for the reader, and how many bytes.
const MOST_MESSAGES: usize = 4_096;
const MOST_BYTES: usize = 16 << 20;

/// A message of a channel.
pub(in crate::store::redis) struct Push {
    pub(super) channel: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// The messages that wait for the one reader, in order.
pub(in crate::store::redis) struct Pushes {
    waiting: mpsc::Receiver<Push>,
    bytes: Arc<AtomicUsize>,
}

/// Takes what the connection receives. The connection cannot wait for the reader, so this ends the messages when too
/// many wait. The reader then reads the history instead.
pub(super) struct Receiving {
    /// `None` after the end of the messages.
    reader: Mutex<Option<mpsc::Sender<Push>>>,
    bytes: Arc<AtomicUsize>,
}

/// Both ends of the messages of a connection.
pub(super) fn pushes() -> (Receiving, Pushes) {
    let (reader, waiting) = mpsc::channel(MOST_MESSAGES);
    let bytes = Arc::default();
    let receiving = Receiving {
        reader: Mutex::new(Some(reader)),
        bytes: Arc::clone(&bytes),
    };
    (receiving, Pushes { waiting, bytes })
}

impl Push {
    fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

impl Pushes {
    /// The next message; `None` when messages may be missing, and when the connection is closed.
    pub(super) async fn next(&mut self) -> Option<Push> {
        let push = self.waiting.recv().await?;
        self.bytes.fetch_sub(push.bytes(), Ordering::Relaxed);
        Some(push)
    }
}

impl Receiving {
    /// Takes one push of the server.
    pub(super) fn take(&self, push: PushInfo) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => self.pass_on(push.data),
            // The server ends a subscription to a shard channel when the slot has moved to another node.
            PushKind::SUnsubscribe | PushKind::Unsubscribe | PushKind::Disconnection => self.end(),
            _ => {}
        }
    }

    fn pass_on(&self, data: Vec<Value>) {
        let mut values = data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (values.next(), values.next())
        else {
            return;
        };
        let push = Push { channel, payload };
        let bytes = push.bytes();
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let reader = self.reader.lock();
        let is_full = waiting + bytes > MOST_BYTES
            || reader
                .as_ref()
                .is_none_or(|reader| reader.try_send(push).is_err());
        drop(reader);
        if is_full {
            self.end();
        }
    }

    fn end(&self) {
        self.reader.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: PushKind, payload: &[u8]) -> PushInfo {
        let data = [b"presence:{1bz}:bus", payload];
        let data = data.map(|text| Value::BulkString(text.to_vec()));
        PushInfo {
            kind,
            data: data.into(),
        }
    }

    async fn payloads(pushes: &mut Pushes) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let Some(push) = pushes.next().await {
            payloads.push(push.payload);
        }
        payloads
    }

    #[tokio::test]
    async fn messages_arrive_in_order_until_the_server_ends_a_subscription() {
        let (receiving, mut pushes) = pushes();
        receiving.take(message(PushKind::SSubscribe, b""));
        receiving.take(message(PushKind::SMessage, b"one"));
        receiving.take(message(PushKind::Message, b"two"));
        receiving.take(message(PushKind::SUnsubscribe, b""));
        receiving.take(message(PushKind::SMessage, b"three"));
        assert_eq!(payloads(&mut pushes).await, [b"one", b"two"]);
    }

    #[tokio::test]
    async fn the_messages_end_when_too_many_wait() {
        let (receiving, mut pushes) = pushes();
        for _ in 0..=MOST_MESSAGES {
            receiving.take(message(PushKind::SMessage, b"one"));
        }
        assert_eq!(payloads(&mut pushes).await.len(), MOST_MESSAGES);
    }

    #[tokio::test]
    async fn the_messages_end_when_too_many_bytes_wait() {
        let (receiving, mut pushes) = pushes();
        let large = vec![0; 1 << 20];
        for _ in 0..2 {
            receiving.take(message(PushKind::SMessage, &large));
        }
        for _ in 0..MOST_BYTES >> 20 {
            assert!(pushes.next().await.is_some());
            receiving.take(message(PushKind::SMessage, &large));
        }
        for _ in 0..MOST_BYTES >> 20 {
            receiving.take(message(PushKind::SMessage, &large));
        }
        assert!(payloads(&mut pushes).await.len() < MOST_BYTES >> 20);
    }
}
