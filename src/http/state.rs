//! The state of the handlers.

use std::sync::Arc;

use super::admission::Admission;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::events::StreamService;
use crate::presence::PresenceService;
use crate::registration::Registration;
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

/// The parts of the service that handlers and extractors use.
#[derive(Clone, Debug)]
pub(crate) struct AppState {
    /// The calls about users.
    pub(crate) presence: Arc<PresenceService>,
    /// The streams of events.
    pub(crate) streams: Arc<StreamService>,
    /// The receivers of webhooks.
    pub(crate) webhooks: Arc<Webhooks>,
    /// What this instance reports about itself.
    pub(crate) registration: Arc<Registration>,
    /// The pacing of stream openings.
    pub(crate) admission: Arc<Admission>,
    /// The metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// Finds the caller of a request.
    pub(crate) authenticator: Arc<Authenticator>,
}
