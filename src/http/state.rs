//! What every handler may use.

use std::sync::Arc;

use super::admission::Admission;
use super::bulk::Batch;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::events::StreamService;
use crate::presence::PresenceService;
use crate::telemetry::Metrics;

/// What every handler may use.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The calls about one user.
    pub presence: Arc<PresenceService>,
    /// The calls about many.
    pub(crate) batch: Batch,
    /// The streams.
    pub streams: Arc<StreamService>,
    /// Whose turn it is to open one.
    pub(crate) admission: Arc<Admission>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The settings.
    pub config: Arc<Config>,
    /// Who may come in.
    pub(crate) authenticator: Arc<Authenticator>,
}
