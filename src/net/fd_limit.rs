//! The limit of open files, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tracing::{info, warn};

/// Files that are not client connections: listeners, Redis, the runtime, the standard streams, and the connections of
/// the metrics listener.
const OWN_FILES: u32 = 128;

/// Files of each runtime except the main runtime: its own files and its connection to Redis, which counts twice because
/// a replacement opens before the old connection closes.
const FILES_PER_RUNTIME: u32 = 8;

/// The part of [`OWN_FILES`] that a start needs.
const MIN_OWN_FILES: u32 = 24;

/// The limit of open files is too low to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the limit of open files (ulimit -n) is {limit}, and at least {least} are needed")]
pub struct TooFewFiles {
    /// The limit, after it was raised as far as possible.
    pub limit: u32,
    /// The least limit that allows a start.
    pub least: u32,
}

/// Raises the limit to its hard limit, and returns the number of connections that fit below it, at most `wanted`. Many
/// systems start processes with a limit of 1,024.
pub(crate) fn connections(wanted: u32, runtimes: usize) -> Result<u32, TooFewFiles> {
    fitting(wanted, runtimes, raised_limit())
}

/// The limit after it was raised. `u32::MAX` stands for no limit.
fn raised_limit() -> u32 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files");
            current
        }
    };
    limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

fn fitting(wanted: u32, runtimes: usize, limit: u32) -> Result<u32, TooFewFiles> {
    let of_runtimes = u32::try_from(runtimes).map_or(u32::MAX, |count| count * FILES_PER_RUNTIME);
    let least = of_runtimes.saturating_add(MIN_OWN_FILES);
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
    fn own_files_are_reserved_before_connections() {
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
