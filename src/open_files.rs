//! The system's limit of open files, which bounds how many connections a process can hold.

use tracing::{info, warn};

/// Files that are no client's connection: listeners, Redis, the runtime's own, standard streams, and
/// the connections of the metrics' own listener.
const OWN_FILES: u32 = 128;

/// What every runtime beside the main one has: its own files, and its connection to Redis, twice for the
/// moment in which one replaces the other.
const FILES_PER_RUNTIME: u32 = 8;

/// Raises the limit as far as this process may, from the 1,024 that many systems begin with, and
/// returns how many of `wanted` connections fit below it.
pub(crate) fn connections(wanted: u32, runtimes: usize) -> u32 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => fitting(wanted, runtimes, u32::try_from(limit).unwrap_or(u32::MAX)),
        Err(error) => {
            warn!(%error, "the limit of open files is unknown");
            wanted
        }
    }
}

fn fitting(wanted: u32, runtimes: usize, limit: u32) -> u32 {
    let of_runtimes = u32::try_from(runtimes).map_or(u32::MAX, |count| count * FILES_PER_RUNTIME);
    let fit = limit.saturating_sub(OWN_FILES).saturating_sub(of_runtimes);
    let fit = fit.max(1);
    if fit < wanted {
        info!(
            open_files = limit,
            connections = fit,
            "the limit of open files (ulimit -n) allows fewer connections than PRESENCE_CONNECTIONS"
        );
    }
    fit.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn own_files_have_room_beside_the_connections() {
        assert_eq!(fitting(120_000, 2, 20_000), 19_856);
        assert_eq!(fitting(100, 2, 20_000), 100);
        assert_eq!(fitting(100, 2, 10), 1);
    }
}
