//! The memory of this process, and the share of each use.
//!
//! The kernel kills a process that exceeds the memory of its container. Therefore every use of memory that clients can
//! cause has a bound. The bounds add up to the available memory:
//!
//! | share | use |
//! | --- | --- |
//! | 5/16 | idle connections and streams: [`MemoryBudget::connections`] |
//! | 3/16 | HTTP/1 connections with an active request: [`MemoryBudget::http1_requests`] |
//! | 1/32 | HTTP/1 requests without a permit: [`MemoryBudget::unserved_requests`] |
//! | 1/32 | HTTP/2 connections: [`MemoryBudget::http2_connections`] |
//! | 3/32 | HTTP/2 requests, large request bodies and large responses: [`MemoryBudget::large_messages`] |
//! | 1/32 | send buffers of streams: [`MemoryBudget::unsent`] |
//! | 1/32 | event queues of streams: [`MemoryBudget::queues`] |
//! | 1/32 | snapshots while they are read: [`MemoryBudget::snapshots`] |
//! | 1/32 | the users and groups of streams, and the members of watched groups: [`MemoryBudget::watched_users`] |
//! | 1/16 | recent events, for streams that resume: [`MemoryBudget::recent_events`] |
//! | 1/16 | verified tokens: [`MemoryBudget::tokens`] |
//! | 3/32 | everything else |

#[cfg(target_os = "linux")]
mod linux;

use rustix::process::{Resource, getrlimit};
use tracing::info;

/// The available memory if the system does not tell it, in bytes.
const DEFAULT_BYTES: u64 = 4 << 30;

/// The least available memory, in bytes. The process itself uses about 20 MiB.
const MIN_BYTES: u64 = 64 << 20;

/// The memory of one connection in this process and in the kernel, which counts as memory of the container. In bytes.
const CONNECTION_BYTES: u64 = 6 << 10;

/// The memory of one connection in this process: up to 2 KiB for an idle connection, about 3 KiB for a stream. In
/// bytes.
const CONNECTION_PROCESS_BYTES: u64 = 3 << 10;

/// The most memory of an HTTP/1 connection with an active request, in bytes: a request of 16 KiB, the copy that hyper
/// makes, a part of the response of the same size, and the state of hyper.
const HTTP1_REQUEST_BYTES: u64 = 56 << 10;

/// The memory of an HTTP/2 connection without its requests, in bytes: the buffers and tables of h2.
const HTTP2_CONNECTION_BYTES: u64 = 32 << 10;

/// The memory of one user in the list of a stream, or of one member of a watched group, in bytes.
const WATCHED_USER_BYTES: u64 = 150;

/// The available memory of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryBudget {
    bytes: u64,
    connections: u64,
}

impl MemoryBudget {
    /// Divides `bytes` of memory, which include the memory of the kernel. The least budget is 64 MiB.
    pub(crate) fn of(bytes: u64) -> Self {
        Self::with_connections_of(bytes, CONNECTION_BYTES)
    }

    fn with_connections_of(bytes: u64, connection_bytes: u64) -> Self {
        let bytes = bytes.max(MIN_BYTES);
        Self {
            bytes,
            connections: bytes / 16 * 5 / connection_bytes,
        }
    }

    /// Divides the available memory: the least of the memory of the machine, the limits of the container, and the
    /// limits of the process.
    pub(crate) fn detect() -> Self {
        let outer = Self::of(machine_and_container().unwrap_or(DEFAULT_BYTES));
        let Some(bytes) = process_limit() else {
            return outer;
        };
        let own = Self::with_connections_of(bytes, CONNECTION_PROCESS_BYTES);
        Self {
            bytes: own.bytes.min(outer.bytes),
            connections: own.connections.min(outer.connections),
        }
    }

    /// All memory, in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.bytes
    }

    /// The most open connections, at most `wanted`.
    pub(crate) fn connections(self, wanted: u32) -> u32 {
        let fit = u32::try_from(self.connections).unwrap_or(u32::MAX);
        if fit < wanted {
            info!(
                memory_mib = self.bytes >> 20,
                connections = fit,
                "the available memory allows fewer connections than PRESENCE_CONNECTIONS"
            );
        }
        fit.min(wanted)
    }

    /// The most HTTP/1 connections with an active request.
    pub(crate) fn http1_requests(self) -> usize {
        size(self.bytes / 16 * 3 / HTTP1_REQUEST_BYTES)
    }

    /// The most bytes of HTTP/1 requests without a permit: those that have arrived in part, and those that wait for a
    /// permit.
    pub(crate) fn unserved_requests(self) -> usize {
        size(self.bytes / 32)
    }

    /// The most HTTP/2 connections.
    pub(crate) fn http2_connections(self) -> usize {
        size(self.bytes / 32 / HTTP2_CONNECTION_BYTES)
    }

    /// The most bytes of HTTP/2 requests, large request bodies and large responses.
    pub(crate) fn large_messages(self) -> usize {
        size(self.bytes / 32 * 3)
    }

    /// The most bytes in the send buffers of all streams.
    pub(crate) fn unsent(self) -> usize {
        size(self.bytes / 32)
    }

    /// The most bytes in the event queues of all streams.
    pub(crate) fn queues(self) -> usize {
        size(self.bytes / 32)
    }

    /// The most bytes of snapshots while they are read.
    pub(crate) fn snapshots(self) -> usize {
        size(self.bytes / 32)
    }

    /// The most users and groups in the lists of all streams, and members of watched groups.
    pub(crate) fn watched_users(self) -> usize {
        size(self.bytes / 32 / WATCHED_USER_BYTES)
    }

    /// The most bytes of recent events, for streams that resume.
    pub(crate) fn recent_events(self) -> usize {
        size(self.bytes / 16)
    }

    /// The most bytes of verified tokens.
    pub(crate) fn tokens(self) -> usize {
        size(self.bytes / 16)
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(target_os = "linux")]
fn machine_and_container() -> Option<u64> {
    linux::limit()
}

#[cfg(not(target_os = "linux"))]
fn machine_and_container() -> Option<u64> {
    None
}

/// The limits of address space and data (`ulimit -v`, `ulimit -d`). Half of the address space counts: the other half is
/// for the program, the stacks and the reserves of the allocator.
fn process_limit() -> Option<u64> {
    let address_space = getrlimit(Resource::As).current.map(|bytes| bytes / 2);
    let data = getrlimit(Resource::Data).current;
    address_space.into_iter().chain(data).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_at_most_the_available_memory() {
        for mib in [64, 128, 512, 2_048, 65_536] {
            let budget = MemoryBudget::of(mib << 20);
            let connections = u64::from(budget.connections(u32::MAX)) * CONNECTION_BYTES;
            let http1_requests = budget.http1_requests() as u64 * HTTP1_REQUEST_BYTES;
            let http2 = budget.http2_connections() as u64 * HTTP2_CONNECTION_BYTES;
            let of_streams = budget.unsent() + budget.queues() + budget.snapshots();
            let rest = budget.large_messages()
                + budget.unserved_requests()
                + of_streams
                + budget.recent_events()
                + budget.tokens();
            let watched = budget.watched_users() as u64 * WATCHED_USER_BYTES;
            let rest = rest as u64 + watched + http2;
            assert!(connections + http1_requests + rest <= (mib << 20) / 32 * 29);
        }
    }

    #[test]
    fn half_a_gibibyte_allows_27_306_connections() {
        let budget = MemoryBudget::of(512 << 20);
        assert_eq!(budget.connections(120_000), 27_306);
        assert_eq!(budget.connections(1_000), 1_000);
    }

    #[test]
    fn the_available_memory_of_this_process_is_known() {
        assert!(MemoryBudget::detect().bytes >= MIN_BYTES);
    }
}
