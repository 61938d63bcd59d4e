//! How much memory this process was given, and which part of it each use may take.
//!
//! The kernel ends a process that takes more than its container was given. So everything that a client can make
//! this process keep has a bound, and the bounds add up to what was given:
//!
//! | part | for |
//! | --- | --- |
//! | 5/16 | connections, idle ones and streams: [`MemoryBudget::connections`] |
//! | 3/16 | HTTP/1 connections with a request: [`MemoryBudget::conversations`] |
//! | 1/32 | HTTP/1 requests that have arrived in part: [`MemoryBudget::incomplete_requests`] |
//! | 1/32 | HTTP/2 connections: [`MemoryBudget::http2_connections`] |
//! | 3/32 | requests of HTTP/2, large bodies and large answers: [`MemoryBudget::bulk`] |
//! | 1/32 | what readers of streams have yet to take from this process's buffers: [`MemoryBudget::unsent`] |
//! | 1/32 | events that wait in the queues of streams: [`MemoryBudget::queues`] |
//! | 1/32 | snapshots that are being read: [`MemoryBudget::snapshots`] |
//! | 1/32 | the users that streams are about: [`MemoryBudget::watched_users`] |
//! | 1/16 | recent events, kept for streams that resume: [`MemoryBudget::recent_events`] |
//! | 1/16 | tokens that were verified: [`MemoryBudget::tokens`] |
//! | 3/32 | everything else |

#[cfg(target_os = "linux")]
mod linux;

use tracing::info;

/// What counts as given where nothing is known about the machine.
const UNKNOWN: u64 = 4 << 30;

/// Less than this is not a useful limit: the process itself takes about 20 MiB.
const LEAST: u64 = 64 << 20;

/// What one connection takes: up to 2 KiB of this process while it is idle, about 3 KiB while it is a stream; and as
/// much of the kernel, which counts as the container's.
const CONNECTION_BYTES: u64 = 6 << 10;
const CONNECTION_BYTES_OF_PROCESS: u64 = 3 << 10;

/// What an HTTP/1 connection with a request takes at most: a request of 16 KiB, hyper's copy of it, an answer's part
/// of as much, and hyper's state.
pub const CONVERSATION_BYTES: u64 = 56 << 10;

/// What an HTTP/2 connection takes beside its requests: the buffers and tables of h2.
const HTTP2_CONNECTION_BYTES: u64 = 32 << 10;

/// What one user takes that a stream is about.
const WATCHED_USER_BYTES: u64 = 150;

/// The memory that this process was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    bytes: u64,
    connections: u64,
}

impl MemoryBudget {
    /// Everything is divided from so many bytes, the kernel's among them.
    pub fn of(bytes: u64) -> Self {
        Self::with_connections_of(bytes, CONNECTION_BYTES)
    }

    fn with_connections_of(bytes: u64, connection_bytes: u64) -> Self {
        let bytes = bytes.max(LEAST);
        Self {
            bytes,
            connections: bytes / 16 * 5 / connection_bytes,
        }
    }

    /// The least of what the machine has, the container's limits allow, and the process's own limits allow.
    pub fn detect() -> Self {
        let outside = Self::of(machine_and_container().unwrap_or(UNKNOWN));
        let Some(bytes) = of_the_process() else {
            return outside;
        };
        let own = Self::with_connections_of(bytes, CONNECTION_BYTES_OF_PROCESS);
        Self {
            bytes: own.bytes.min(outside.bytes),
            connections: own.connections.min(outside.connections),
        }
    }

    /// How many of `wanted` connections may be open at once.
    pub fn connections(self, wanted: u32) -> u32 {
        let fit = u32::try_from(self.connections).unwrap_or(u32::MAX);
        if fit < wanted {
            info!(
                memory_mib = self.bytes >> 20,
                connections = fit,
                "the memory that was given allows fewer connections than PRESENCE_CONNECTIONS"
            );
        }
        fit.min(wanted)
    }

    /// How many HTTP/1 connections may be in the middle of a request at once.
    pub fn conversations(self) -> usize {
        size(self.bytes / 16 * 3 / CONVERSATION_BYTES)
    }

    /// Bytes of HTTP/1 requests that have arrived in part.
    pub fn incomplete_requests(self) -> usize {
        size(self.bytes / 32)
    }

    /// How many HTTP/2 connections there may be at once.
    pub fn http2_connections(self) -> usize {
        size(self.bytes / 32 / HTTP2_CONNECTION_BYTES)
    }

    /// Bytes for requests of HTTP/2, large bodies and large answers.
    pub fn bulk(self) -> usize {
        size(self.bytes / 32 * 3)
    }

    /// Bytes that were taken from the queues of streams and cannot be sent yet.
    pub fn unsent(self) -> usize {
        size(self.bytes / 32)
    }

    /// Bytes of the queues of all streams.
    pub fn queues(self) -> usize {
        size(self.bytes / 32)
    }

    /// Bytes of snapshots that are being read.
    pub fn snapshots(self) -> usize {
        size(self.bytes / 32)
    }

    /// How many users all streams may be about.
    pub fn watched_users(self) -> usize {
        size(self.bytes / 32 / WATCHED_USER_BYTES)
    }

    /// Bytes of recent events, kept for streams that resume.
    pub fn recent_events(self) -> usize {
        size(self.bytes / 16)
    }

    /// Bytes of verified tokens.
    pub fn tokens(self) -> usize {
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

/// The limits of address space and data (`ulimit -v`, `ulimit -d`). Half of the address space counts: the rest is
/// the program, stacks, and what the allocator reserves in large pieces.
fn of_the_process() -> Option<u64> {
    let soft = |resource: rlimit::Resource| {
        let soft = resource.get().ok().map(|(soft, _)| soft);
        soft.filter(|soft| *soft != rlimit::INFINITY)
    };
    let address_space = soft(rlimit::Resource::AS).map(|bytes| bytes / 2);
    [address_space, soft(rlimit::Resource::DATA)]
        .into_iter()
        .flatten()
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_no_more_than_was_given() {
        for mib in [64, 128, 512, 2_048, 65_536] {
            let given = MemoryBudget::of(mib << 20);
            let connections = u64::from(given.connections(u32::MAX)) * CONNECTION_BYTES;
            let conversations = given.conversations() as u64 * CONVERSATION_BYTES;
            let http2 = given.http2_connections() as u64 * HTTP2_CONNECTION_BYTES;
            let of_streams = given.unsent() + given.queues() + given.snapshots();
            let rest = given.bulk()
                + given.incomplete_requests()
                + of_streams
                + given.recent_events()
                + given.tokens();
            let watched = given.watched_users() as u64 * WATCHED_USER_BYTES;
            let rest = rest as u64 + watched + http2;
            assert!(connections + conversations + rest <= (mib << 20) / 32 * 29);
        }
    }

    #[test]
    fn half_a_gibibyte_is_enough_for_20_000_connections() {
        let given = MemoryBudget::of(512 << 20);
        assert_eq!(given.connections(120_000), 27_306);
        assert_eq!(given.connections(1_000), 1_000);
    }

    #[test]
    fn this_process_was_given_something() {
        assert!(MemoryBudget::detect().bytes >= LEAST);
    }
}
