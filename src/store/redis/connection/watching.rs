//! What others ask about a connection, and wait for.

use std::sync::Arc;

use super::SupervisedConnection;
use super::server::Server;
use super::state::{State, Up};
use crate::store::error::StoreError;

impl SupervisedConnection {
    /// The server of this connection and the generation to which that applies.
    pub(super) fn server(&self) -> Result<(Server, u64), StoreError> {
        match &*self.state.borrow() {
            State::Up(up) => Ok((up.server.clone(), up.generation)),
            State::Down { why, .. } => Err(why.clone()),
        }
    }

    /// Whether the socket is to the server to which the main connection is open now.
    pub(super) fn follows_main(&self, up: &Up) -> bool {
        let main = self.role.main();
        main.is_none_or(|main| main.state.borrow().generation() == Some(up.main_generation))
    }

    /// Whether the socket of `generation` is open, to the server to which the main connection is open now.
    pub(in crate::store::redis) fn is_confirmed(&self, generation: u64) -> bool {
        match &*self.state.borrow() {
            State::Up(up) => up.generation == generation && self.follows_main(up),
            State::Down { .. } => false,
        }
    }

    /// The run id of the server if that is a master of a cluster and the connection is up.
    pub(in crate::store::redis) fn run(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Up(up) => up.run.clone(),
            State::Down { .. } => None,
        }
    }

    /// Why the server does not fit the settings, if that is why the connection is down.
    pub(in crate::store::redis) fn unfit(&self) -> Option<StoreError> {
        match &*self.state.borrow() {
            State::Down {
                why: why @ StoreError::Unfit(_),
                ..
            } => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether the connection is up.
    pub(in crate::store::redis) fn is_up(&self) -> bool {
        self.state.borrow().is_up()
    }

    /// Resolves when the connection is up.
    pub(in crate::store::redis) async fn opened(&self) {
        // An error means that the sender is gone, but the sender is a field.
        let _ = self.state.subscribe().wait_for(State::is_up).await;
    }

    /// Resolves when the connection is down.
    pub(in crate::store::redis) async fn lost_now(&self) {
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| !state.is_up())
            .await;
    }

    /// Resolves when the socket of `generation` was closed.
    pub(in crate::store::redis) async fn closed(&self, generation: u64) {
        let is_closed = |state: &State| state.generation() != Some(generation);
        let _ = self.state.subscribe().wait_for(is_closed).await;
    }
}
