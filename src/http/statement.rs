//! What a connection states with each connect and ping.

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Error;
use super::extract::{Listed, WholeNumber, stated_groups};
use super::openapi::GroupIdText;
use crate::auth::Caller;
use crate::config::PresenceConfig;
use crate::model::{ConnectionId, GroupId, Stated, millis};

/// The shortest TTL that a connection may ask for, in milliseconds.
const SHORTEST_TTL_MS: u64 = 1_000;

/// The connection of the call, and what it states. Each call states everything: a field that is left out has its
/// default. Without a body, it is the unnamed connection of the user.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"connectionId": "phone-1"}))]
pub(super) struct ConnectBody {
    /// The id of the connection, for example of a device or tab: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ : @ -`.
    /// Default: the unnamed connection, `"1"`.
    #[schema(pattern = "^[A-Za-z0-9._~:@-]{1,64}$", example = "phone-1")]
    connection_id: Option<String>,
    /// How long the connection lives after this call, in milliseconds: 1,000 to the maximum of the service
    /// (`PRESENCE_TTL_MAX`, 10 minutes by default). Default: as the service is configured.
    #[schema(value_type = Option<u64>, minimum = 1_000, maximum = 600_000, example = 150_000)]
    ttl_ms: Option<WholeNumber>,
    /// Whether the user is away at this connection. A user is away while every live connection is away. Default: false.
    #[schema(example = false)]
    away: Option<bool>,
    /// Up to 10 groups of which the user is a member by this connection, until a call of the connection omits the group
    /// or the connection ends. A token needs the claim `join`. Default: none.
    #[schema(value_type = Option<Vec<GroupIdText>>, max_items = 10, example = json!(["doc-42"]))]
    groups: Option<Vec<Listed<GroupId>>>,
}

/// What a connect or ping states.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) connection: ConnectionId,
    pub(super) stated: Stated,
    /// The `away` of the request.
    pub(super) away: Option<bool>,
    /// The `groups` of the request.
    pub(super) groups: Option<Vec<GroupId>>,
}

impl Statement {
    /// Reads a body. Fails if `caller` may not join one of the groups.
    pub(super) fn read(
        body: ConnectBody,
        config: &PresenceConfig,
        caller: &Caller,
    ) -> Result<Self, Error> {
        let connection = connection_id(body.connection_id)?;
        let bounds = (SHORTEST_TTL_MS, millis(config.longest_ttl()));
        let ttl = body.ttl_ms.map(|ttl| ttl.millis_within(bounds)).transpose();
        let ttl = ttl.map_err(|(least, most)| Error::InvalidTtl { least, most })?;
        let groups = body.groups.map(stated_groups).transpose()?;
        let mut sorted = groups.clone().unwrap_or_default();
        caller.authorize_join(&sorted)?;
        sorted.sort_unstable();
        sorted.dedup();
        let stated = Stated {
            ttl: ttl.filter(|ttl| *ttl != config.ttl),
            away: body.away.unwrap_or(false),
            groups: sorted.into(),
        };
        Ok(Self {
            connection,
            stated,
            away: body.away,
            groups,
        })
    }
}

/// The connection id of a body. Default: the unnamed connection.
pub(super) fn connection_id(text: Option<String>) -> Result<ConnectionId, Error> {
    match text {
        Some(text) => Ok(ConnectionId::new(&text)?),
        None => Ok(ConnectionId::unnamed()),
    }
}
