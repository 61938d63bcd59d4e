//! How much memory this process was given, and which part of it each use may take.
//!
//! The kernel ends a process that takes more than its container was given. So everything that a client can make
//! this process keep has a bound, and the bounds add up to what was given:
//!
//! | part | for |
//! | --- | --- |
//! | 1/4 | connections, idle ones and streams: [`MemoryBudget::connections`] |
//! | 1/4 | HTTP/1 connections with a request: [`MemoryBudget::conversations`] |
//! | 1/8 | HTTP/2 connections, large bodies and large answers: [`MemoryBudget::bulk`] |
//! | 1/16 | what readers of streams have yet to take from this process's buffers: [`MemoryBudget::unsent`] |
//! | 1/16 | events that wait in the queues of streams: [`MemoryBudget::queues`] |
//! | 1/16 | recent events, kept for streams that resume: [`MemoryBudget::recent_events`] |
//! | 1/16 | tokens that were verified: [`MemoryBudget::tokens`] |
//! | 1/8 | everything else |

#[cfg(target_os = "linux")]
mod linux;

use tracing::info;

/// What counts as given where nothing is known about the machine.
const UNKNOWN: u64 = 4 << 30;

/// Less than this is not a useful limit: the process itself takes about 20 MiB.
const LEAST: u64 = 64 << 20;

/// What one connection takes: about 1 KiB of this process while it is idle, about 3 KiB while it is a stream, and
/// the kernel's share, which counts as the container's.
const CONNECTION_BYTES: u64 = 6 << 10;

/// The most that an HTTP/1 connection with a request takes: a head of 16 KiB, an answer's part of as much, twice
/// that where buffers grow, and hyper's state.
pub const CONVERSATION_BYTES: u64 = 64 << 10;

/// The memory that this process was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    bytes: u64,
}

impl MemoryBudget {
    /// Everything is divided from so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self {
            bytes: bytes.max(LEAST),
        }
    }

    /// The least of what the machine has, the container's limits allow, and the process's own limits allow.
    pub fn detect() -> Self {
        let limits = [machine_and_container(), of_the_process()];
        let least = limits.into_iter().flatten().min();
        Self::of(least.unwrap_or(UNKNOWN))
    }

    /// How many of `wanted` connections may be open at once.
    pub fn connections(self, wanted: u32) -> u32 {
        let fit = u32::try_from(self.bytes / 4 / CONNECTION_BYTES).unwrap_or(u32::MAX);
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
        size(self.bytes / 4 / CONVERSATION_BYTES)
    }

    /// Bytes for HTTP/2 connections, large bodies and large answers.
    pub fn bulk(self) -> usize {
        size(self.bytes / 8)
    }

    /// Bytes that were taken from the queues of streams and cannot be sent yet.
    pub fn unsent(self) -> usize {
        size(self.bytes / 16)
    }

    /// Bytes of the queues of all streams.
    pub fn queues(self) -> usize {
        size(self.bytes / 16)
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

/// The limits of address space and data (`ulimit -v`, `ulimit -d`). Half of the address space counts: stacks and
/// the allocator's reserves take their part of it before they take memory.
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
            let rest = given.bulk() + given.unsent() + given.queues();
            let rest = (rest + given.recent_events() + given.tokens()) as u64;
            assert!(connections + conversations + rest <= (mib << 20) / 8 * 7);
        }
    }

    #[test]
    fn half_a_gibibyte_is_enough_for_20_000_connections() {
        let given = MemoryBudget::of(512 << 20);
        assert_eq!(given.connections(120_000), 21_845);
        assert_eq!(given.connections(1_000), 1_000);
    }

    #[test]
    fn this_process_was_given_something() {
        assert!(MemoryBudget::detect().bytes >= LEAST);
    }
}
