//! Child processes, what they cost, and their end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// Clock ticks in a second, by which Linux counts a process's time in `/proc/<id>/stat`.
const TICKS_PER_SECOND: u64 = 100;

/// The lines that a child logged so far.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A running child; killed by its id when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` and throws its output away.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command)
    }

    /// Starts `command` and waits for its first line of output.
    pub(crate) fn start_and_hear(command: &mut Command) -> (Self, String) {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Self::spawn(command);
        let output = process.0.stdout.take().expect("it is piped");
        let mut line = String::new();
        let heard = BufReader::new(output).read_line(&mut line);
        assert!(heard.is_ok_and(|count| count > 0), "{command:?} ended");
        (process, line)
    }

    /// The same; what it logs is kept.
    pub(crate) fn start_and_log(command: &mut Command) -> (Self, String, Log) {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::spawn(command);
        let log = Log::default();
        let (errors, kept) = (
            process.0.stderr.take().expect("it is piped"),
            Arc::clone(&log),
        );
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.lock().push(line);
            }
        });
        let output = process.0.stdout.take().expect("it is piped");
        let mut line = String::new();
        let heard = BufReader::new(output).read_line(&mut line);
        assert!(heard.is_ok_and(|count| count > 0), "{command:?} ended");
        (process, line, log)
    }

    fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
    }

    /// The time it has spent on a processor so far, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        // The name, in parentheses, may hold anything; 13 fields follow it before the times.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut ticks = || times.next().and_then(Result::ok).expect("a time");
        let ticks = ticks() + ticks();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }

    /// The memory it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        size.and_then(|kib| kib.parse().ok()).expect("a size")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Microseconds of `cost` for each of `count` operations.
pub(crate) fn micros_each(cost: Duration, count: u64) -> f64 {
    cost.as_secs_f64() * 1e6 / count as f64
}
