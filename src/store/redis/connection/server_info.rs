//! What a server reports about itself, and whether the service can use the server.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, ServerErrorKind};
use tracing::{info, warn};

use super::errors::{breaks_the_connection, is_unknown_command, store_error};
use crate::store::error::StoreError;

/// Why a server is too old.
const TOO_OLD: &str =
    "the server has no PEXPIRETIME; Redis 7.0 or newer is needed (KeyDB and Redis 6 do not work)";

/// The only eviction policy that never removes a key of the service.
const NO_EVICTION: &str = "noeviction";

/// Fields of `INFO`. `None` means that the server does not report the field, which is no reason to refuse the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerInfo {
    version: Option<String>,
    role: Option<String>,
    loading: bool,
    eviction: Option<String>,
    run_id: Option<String>,
    mode: Option<String>,
}

impl ServerInfo {
    /// Reads `INFO`. A server that refuses the command gives empty fields.
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> Result<Self, StoreError> {
        let info = redis::cmd("INFO");
        match info.query_async::<String>(connection).await {
            Ok(info) => Ok(Self::read(&info)),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Ok(Self::default())
            }
            Err(error) => Err(store_error(error)),
        }
    }

    fn read(info: &str) -> Self {
        let mut server_info = Self::default();
        for (field, value) in info.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim_end();
            match field {
                // Valkey reports here the version of Redis that it is compatible with.
                "redis_version" => server_info.version = Some(value.to_owned()),
                "role" => server_info.role = Some(value.to_owned()),
                "loading" => server_info.loading = value == "1",
                "maxmemory_policy" => server_info.eviction = Some(value.to_owned()),
                // The second name is the one of Valkey.
                "redis_mode" | "server_mode" => server_info.mode = Some(value.to_owned()),
                "run_id" => server_info.run_id = Some(value.to_owned()),
                _ => {}
            }
        }
        server_info
    }

    /// Fails while the server loads its data or is a replica.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let why = match &self.role {
            _ if self.loading => "it is loading its data",
            Some(role) if role == "slave" => "it is a replica",
            _ => return Ok(()),
        };
        Err(StoreError::Unreachable(why.to_owned()))
    }

    /// Whether the server is a node of a cluster.
    pub(super) fn is_cluster_node(&self) -> bool {
        self.mode.as_deref() == Some("cluster")
    }

    /// The run id of a node of a cluster.
    pub(super) fn run_in_cluster(&self) -> Option<Arc<str>> {
        let run = self.run_id.as_deref().filter(|_| self.is_cluster_node());
        run.map(Arc::from)
    }

    /// Logs that the server was reached, with the address of a node of a cluster. Warns of its configuration once for
    /// each run of a server.
    pub(super) fn log(&self, before: &Self, node: Option<String>) {
        let version = self.version.as_deref().unwrap_or("unknown");
        info!(version, node, "redis reached");
        if before.run_id == self.run_id && self.run_id.is_some() {
            return;
        }
        if let Some(policy) = self.eviction.as_deref().filter(|each| *each != NO_EVICTION) {
            warn!(
                policy,
                "redis may evict keys of online users; set maxmemory-policy to noeviction"
            );
        }
    }
}

/// Fails if the server lacks a command that every supported server has. `key` need not exist.
pub(super) async fn check_commands(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<(), StoreError> {
    let mut probe = redis::cmd("PEXPIRETIME");
    probe.arg(key);
    match probe.query_async::<i64>(connection).await {
        Err(error) if is_unknown_command(&error) => Err(StoreError::Unfit(TOO_OLD.to_owned())),
        Err(error) if breaks_the_connection(&error) => Err(store_error(error)),
        // The slot of the key may be on another server, or the right to the command may be missing.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The server reports other fields too, in any order.
        #[test]
        fn the_needed_fields_are_found_among_others(
            version in "[0-9]{1,3}(\\.[0-9]{1,3}){0,2}",
            replica: bool,
            loading: bool,
            others in "(([a-z]{1,2}(:[ -~]{0,8})?|# [A-Za-z]{1,8}|)\r?\n){0,6}",
        ) {
            let role = if replica { "slave" } else { "master" };
            let loads = u8::from(loading);
            let info = format!(
                "{others}redis_version:{version}\r\n{others}loading:{loads}\r\nrole:{role}\r\n{others}"
            );
            let server_info = ServerInfo::read(&info);
            prop_assert_eq!(server_info.check().is_ok(), !replica && !loading);
            prop_assert_eq!(server_info.version, Some(version));
        }

        /// A server that does not report a field is accepted.
        #[test]
        fn only_a_replica_and_a_loading_server_are_refused(
            info in "\\PC{0,40}|((role|loading|run_id|maxmemory_policy|redis_version):(slave|master|0|1|\\PC{0,4}) ?\\r?\\n){0,6}",
        ) {
            let last = |field: &str| {
                let mut fields = info.lines().rev().filter_map(|line| line.strip_prefix(field));
                fields.next().map(str::trim_end)
            };
            let refused = last("role:") == Some("slave") || last("loading:") == Some("1");
            prop_assert_eq!(ServerInfo::read(&info).check().is_err(), refused);
        }
    }

    #[test]
    fn a_node_of_a_cluster_is_recognized() {
        for mode in ["redis_mode", "server_mode"] {
            let info = format!("{mode}:cluster\r\nrun_id:abc\r\n");
            let server_info = ServerInfo::read(&info);
            assert_eq!(server_info.run_in_cluster().as_deref(), Some("abc"));
        }
        let alone = ServerInfo::read("redis_mode:standalone\r\nrun_id:abc\r\n");
        assert_eq!(alone.run_in_cluster(), None);
    }

    #[test]
    fn a_loaded_primary_is_accepted() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Replication\r\nrole:master\r\nloading:0\r\n";
        let server_info = ServerInfo::read(info);
        assert_eq!(server_info.version.as_deref(), Some("7.0.15"));
        assert!(server_info.check().is_ok());
        assert!(ServerInfo::default().check().is_ok());
    }
}
