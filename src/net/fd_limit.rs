//! The system's limit of open files, which bounds how many connections a process can hold.

use thiserror::Error;
use tracing::{info, warn};

/// Files that are no client's connection: listeners, Redis, the runtime's own, standard streams, and
/// the connections of the metrics' own listener.
const OWN_FILES: u32 = 128;

/// What every runtime beside the main one has: its own files, and its connection to Redis, twice for the
/// moment in which one replaces the other.
const FILES_PER_RUNTIME: u32 = 8;

/// The least of [`OWN_FILES`] with which a process can start.
const LEAST_OWN_FILES: u32 = 24;

/// The limit is too low to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the limit of open files (ulimit -n) is {limit}, and at least {least} are needed")]
pub struct TooFewFiles {
    /// The limit, raised as far as it may be.
    pub limit: u32,
    /// What is needed.
    pub least: u32,
}

/// Raises the limit as far as this process may, from the 1,024 that many systems begin with, and
/// returns how many of `wanted` connections fit below it.
pub(crate) fn connections(wanted: u32, runtimes: usize) -> Result<u32, TooFewFiles> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => fitting(wanted, runtimes, u32::try_from(limit).unwrap_or(u32::MAX)),
        Err(error) => {
            warn!(%error, "the limit of open files is unknown");
            Ok(wanted)
        }
    }
}

fn fitting(wanted: u32, runtimes: usize, limit: u32) -> Result<u32, TooFewFiles> {
    let of_runtimes = u32::try_from(runtimes).map_or(u32::MAX, |count| count * FILES_PER_RUNTIME);
    let least = of_runtimes.saturating_add(LEAST_OWN_FILES);
    if limit < least {
        return Err(TooFewFiles { limit, least });
    }
    let fit = limit.saturating_sub(OWN_FILES).saturating_sub(of_runtimes);
    let fit = fit.max(1);
    if fit < wanted {
        info!(
            open_files = limit,
            connections = fit,
            "the limit of open files (ulimit -n) allows fewer connections than PRESENCE_CONNECTIONS"
        );
    }
    Ok(fit.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::{TooFewFiles, fitting};

    #[test]
    fn own_files_have_room_beside_the_connections() {
        assert_eq!(fitting(120_000, 2, 20_000), Ok(19_856));
        assert_eq!(fitting(100, 2, 20_000), Ok(100));
        assert_eq!(fitting(100, 2, 40), Ok(1));
        let too_few = TooFewFiles {
            limit: 39,
            least: 40,
        };
        assert_eq!(fitting(100, 2, 39), Err(too_few));
    }
}
