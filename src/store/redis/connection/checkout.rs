//! A socket for one command, and whether the command can have reached the server.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value};
use tokio::sync::watch;

use super::errors::{breaks_the_connection, store_error};
use super::socket::{PROBE_INTERVAL, Socket};
use super::state::{State, close};
use super::watched_stream::Watch;
use crate::store::error::StoreError;
use crate::store::redis::arguments::fit;

/// How long a call waits for the reply to a probe of its connection. A connection whose peer forgot it while this
/// process was frozen stays silent, and the call has time left for another one.
const PROBE_TIMEOUT: Duration = Duration::from_millis(600);

/// A socket for one command.
pub(in crate::store::redis) struct Checkout<'a> {
    pub(in crate::store::redis) socket: MultiplexedConnection,
    watch: Arc<Watch>,
    /// How often bytes were given to the kernel before the command.
    writes: u64,
    generation: u64,
    state: &'a watch::Sender<State>,
}

impl<'a> Checkout<'a> {
    /// A checkout of the socket of a connection in `state` that has this generation.
    pub(super) fn new(
        state: &'a watch::Sender<State>,
        generation: u64,
        (socket, watch): (&MultiplexedConnection, &Arc<Watch>),
    ) -> Self {
        Self {
            socket: socket.clone(),
            watch: Arc::clone(watch),
            writes: watch.writes(),
            generation,
            state,
        }
    }
}

impl Checkout<'_> {
    /// Sends commands in one round trip and returns the reply to each.
    pub(in crate::store::redis) async fn send(
        &mut self,
        commands: &Pipeline,
        replies: usize,
    ) -> RedisResult<Vec<Value>> {
        debug_assert!(fit(commands), "some services refuse so long a command");
        self.socket.send_packed_commands(commands, 0, replies).await
    }

    /// Whether a command of this checkout can have reached the server.
    pub(in crate::store::redis) fn has_sent(&self) -> bool {
        self.watch.writes() != self.writes
    }

    /// Whether the server was heard a moment ago, or answers a probe. Closes the connection otherwise.
    pub(in crate::store::redis) async fn answers(&mut self) -> bool {
        if self.watch.silence() < PROBE_INTERVAL {
            return true;
        }
        let mut socket = Socket::Commands(self.socket.clone(), Arc::clone(&self.watch));
        match socket.probe(PROBE_TIMEOUT).await {
            Ok(()) => {
                self.writes = self.watch.writes();
                true
            }
            Err(why) => {
                close(self.state, self.generation, StoreError::Unreachable(why));
                false
            }
        }
    }

    /// The meaning of the error of a command, after which the connection may have to be replaced.
    pub(in crate::store::redis) fn failed(&self, error: RedisError) -> StoreError {
        if breaks_the_connection(&error) {
            let why = StoreError::Unreachable(error.to_string());
            close(self.state, self.generation, why);
        }
        store_error(error)
    }
}
