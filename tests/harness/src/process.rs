//! A child process that ends with its test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::serial::run_beside_others;
use crate::wait::{PATIENCE, eventually};

/// Bytes of the end of a log that a failing test shows.
const SHOWN_OF_A_LOG: usize = 6_000;

/// Clock ticks per second in `/proc/<id>/stat` on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A running child process. Dropping it kills the process and, in a failing test, shows the log.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    log_reader: JoinHandle<()>,
    lines: UnboundedReceiver<String>,
}

/// A signal other than SIGKILL.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Terminate,
    Interrupt,
    Stop,
    Continue,
}

impl Process {
    /// Starts `command` and keeps its standard output and error.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        run_beside_others();
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let log_reader = keep_log(child.stderr.take().expect("stderr is piped"), &log);
        let lines = forward_lines(child.stdout.take().expect("stdout is piped"));
        Self {
            name: name.to_owned(),
            child,
            log,
            log_reader,
            lines,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        match timeout(PATIENCE, self.lines.recv()).await {
            Ok(line) => line,
            Err(_) => panic!("{} printed no line; its log:\n{}", self.name, self.log()),
        }
    }

    /// The lines of standard output that have arrived and were not read yet.
    pub fn lines_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// The standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").clone()
    }

    /// Sends a signal to the process. A process that is stopped stands still when this returns.
    pub fn send(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "-TERM",
            Signal::Interrupt => "-INT",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let id = self.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        let sent = sent.is_ok_and(|status| status.success());
        assert!(sent, "{signal:?} did not reach {}", self.name);
        if let Signal::Stop = signal {
            self.wait_until_stopped();
        }
    }

    /// Waits until all threads of a process that got SIGSTOP stand still. The others run on until the one that takes the
    /// signal gets a processor.
    fn wait_until_stopped(&self) {
        let began = Instant::now();
        while !self.is_stopped() {
            assert!(began.elapsed() < PATIENCE, "{} does not stop", self.name);
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Whether no thread runs. Without `/proc`, that is not known, and taken for granted.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else {
            return true;
        };
        threads.flatten().all(|thread| {
            // A thread that has ended has no file any more.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            fields_after_name(&stat).is_none_or(|state| state.starts_with(['T', 'Z']))
        })
    }

    /// Kills the process with SIGKILL and waits for its end. Does nothing if the process has ended.
    pub fn kill(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The processor time so far, in user space and in the kernel.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("a process");
        // The times are the fields 14 and 15.
        let fields = fields_after_name(&stat).expect("a name");
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut ticks = || times.next().and_then(Result::ok).expect("a time");
        let ticks = ticks() + ticks();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Resident memory without the pages of files, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    /// Peak of the resident memory so far, in KiB.
    pub fn most_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let words = line.and_then(|line| line.split_whitespace().next());
        words.and_then(|kib| kib.parse().ok()).expect("a size")
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until the process has ended by itself and its log is complete.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, async || {
            let ended = self.child.try_wait().expect("a child of ours");
            ended.filter(|_| self.log_reader.is_finished())
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let mut from = log.len().saturating_sub(SHOWN_OF_A_LOG);
            while !log.is_char_boundary(from) {
                from += 1;
            }
            eprintln!("--- log of {}\n{}", self.name, &log[from..]);
        }
    }
}

/// The fields of `/proc/<id>/stat` from the state on. The name before it is in parentheses and may contain anything.
fn fields_after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, fields)| fields)
}

fn keep_log(stderr: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no reader panicked");
            log.push_str(&line);
            log.push('\n');
        }
    })
}

fn forward_lines(stdout: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The receiver is gone after the test. The pipe is still read, so that the process never blocks on a write.
            let _ = sender.send(line);
        }
    });
    lines
}
