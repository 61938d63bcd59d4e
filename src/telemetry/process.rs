//! The metrics of the process, with the names that all Prometheus clients use.

use std::fmt;
use std::fs;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Reads the metrics of the process at each request for them. A metric that the system does not report is absent.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    /// Seconds since the Unix epoch.
    started: f64,
}

/// The values of `/proc/self/stat`; see `proc(5)`.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl ProcessMetrics {
    /// The metrics of a process that starts now.
    pub(super) fn new() -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: started.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Usage {
    fn parse(stat: &str) -> Option<Self> {
        // The name of the program is in parentheses and may contain spaces and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first field after the name has the number 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// The number of open files of this process. Since version 6.2, Linux reports it as the size of the folder.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count() as u64),
        count => Some(count),
    }
}

/// Encodes a gauge, if its value is known.
fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<Unit>),
    help: &str,
    value: Option<u64>,
) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = ConstGauge::new(self.started);
        let help = "Start of the process since the Unix epoch.";
        let unit = Some(&Unit::Seconds);
        let kind = started.metric_type();
        started.encode(encoder.encode_descriptor("process_start_time", help, unit, kind)?)?;
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let usage = stat.and_then(|stat| Usage::parse(&stat));
        if let Some(usage) = &usage {
            let seconds = usage.cpu_ticks as f64 / clock_ticks_per_second() as f64;
            let cpu = ConstCounter::new(seconds);
            let help = "CPU time of the process.";
            cpu.encode(encoder.encode_descriptor("process_cpu", help, unit, cpu.metric_type())?)?;
        }
        gauge(
            &mut encoder,
            ("process_resident_memory", Some(Unit::Bytes)),
            "Resident memory of the process.",
            usage
                .as_ref()
                .map(|usage| usage.resident_pages * page_size() as u64),
        )?;
        gauge(
            &mut encoder,
            ("process_virtual_memory", Some(Unit::Bytes)),
            "Address space of the process.",
            usage.as_ref().map(|usage| usage.virtual_bytes),
        )?;
        gauge(
            &mut encoder,
            ("process_open_fds", None),
            "Open files of the process, including sockets.",
            open_files(),
        )?;
        gauge(
            &mut encoder,
            ("process_max_fds", None),
            "The most open files of the process.",
            getrlimit(Resource::Nofile).current,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_read_after_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 7000 123456 789 18446744073709551615";
        let usage = Usage {
            cpu_ticks: 300,
            virtual_bytes: 123_456,
            resident_pages: 789,
        };
        assert_eq!(Usage::parse(stat), Some(usage));
        assert_eq!(Usage::parse("42 (short) S 1"), None);
        assert_eq!(Usage::parse(""), None);
    }
}
