//! One running `presence` process.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Client, Protocol};
use crate::memory_limit::MemoryLimit;
use crate::process::{Process, Signal};

/// The environment of an instance: the contract's variables, and none of this machine's.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    variables: BTreeMap<&'static str, String>,
    /// What the clients of the instance speak.
    protocol: Protocol,
}

impl Settings {
    /// The defaults of the contract, on a free port.
    pub(crate) fn new() -> Self {
        let nothing = Self {
            variables: BTreeMap::new(),
            protocol: Protocol::default(),
        };
        nothing.with("PRESENCE_LISTEN", "127.0.0.1:0")
    }

    /// Users leave two seconds after their last ping.
    ///
    /// The ping interval shrinks with the TTL, since expiries wait for one after an outage.
    pub(crate) fn mortal() -> Self {
        Self::new()
            .with("PRESENCE_TTL", "2s")
            .with("PRESENCE_PING_INTERVAL", "500ms")
    }

    pub(crate) fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.insert(variable, value.to_owned());
        self
    }

    /// Clients of the instance speak this protocol.
    pub(crate) fn over(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    pub(crate) fn without(mut self, variable: &'static str) -> Self {
        self.variables.remove(variable);
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_presence"));
        for (name, _) in env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("PRESENCE_") || shown == "REDIS_URL" || shown == "PORT" {
                command.env_remove(&name);
            }
        }
        command.envs(&self.variables).args(arguments);
        command
    }
}

/// On which cores a thread may run, from its status: numbers and ranges of them.
fn allowed_cores(status: &str) -> Vec<usize> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.expect("a list").trim().split(',');
    let ends = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
    let number = |text: &str| text.parse::<usize>().expect("a number");
    ends.flat_map(|(first, last)| number(first)..=number(last))
        .collect()
}

/// How many threads of an instance serve connections.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

/// How many runtimes an instance has beside the main one: of the workers, and of the calls about many users.
pub(crate) fn runtimes() -> usize {
    workers() + 1
}

pub(crate) struct Instance {
    process: Process,
    greeting: String,
    client: Client,
}

/// What a process that ended by itself left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) log: String,
}

impl Instance {
    /// Starts an instance and waits for the line that says it accepts.
    pub(crate) async fn start(settings: &Settings) -> Self {
        Self::start_by(settings.command(&[]), settings.protocol).await
    }

    /// As [`Instance::start`], with so much memory and no more.
    pub(crate) async fn start_within(settings: &Settings, limit: &MemoryLimit) -> Self {
        Self::start_by(limit.around(&settings.command(&[])), settings.protocol).await
    }

    async fn start_by(mut command: Command, protocol: Protocol) -> Self {
        let mut process = Process::spawn("presence", &mut command);
        let Some(greeting) = process.line().await else {
            panic!("presence ended without accepting:\n{}", process.log());
        };
        let url = url_in(&greeting).replace("//0.0.0.0", "//127.0.0.1");
        Self {
            process,
            greeting,
            client: Client::over(protocol, &url),
        }
    }

    /// Runs the binary with `arguments` until it ends by itself.
    pub(crate) async fn run_to_its_end(settings: &Settings, arguments: &[&str]) -> Ended {
        let mut process = Process::spawn("presence", &mut settings.command(arguments));
        let mut output = String::new();
        while let Some(line) = process.line().await {
            output.push_str(&line);
            output.push('\n');
        }
        let status = process.exit().await;
        let log = process.log();
        Ended {
            status,
            output,
            log,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The memory it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let words = line.and_then(|line| line.split_whitespace().next());
        words.and_then(|kib| kib.parse().ok()).expect("a size")
    }

    /// The most memory it has held so far, in KiB.
    pub(crate) fn most_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The cores on which each thread of the runtimes of its workers may run.
    pub(crate) fn cores_of_workers(&self) -> Vec<Vec<usize>> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let threads = threads.expect("a running process").flatten();
        let statuses = threads.map(|thread| std::fs::read_to_string(thread.path().join("status")));
        // One that cannot be read has ended meanwhile.
        let of_workers = statuses
            .flatten()
            .filter(|status| status.starts_with("Name:\tworker-"));
        of_workers.map(|status| allowed_cores(&status)).collect()
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The line it printed once it accepted.
    pub(crate) fn greeting(&self) -> &str {
        &self.greeting
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let base = self.client.base();
        let address = base.strip_prefix("http://").expect("an http address");
        address.parse().expect("an address and a port")
    }

    /// A connection of its own, on which `bytes` were sent.
    pub(crate) async fn told(&self, bytes: &[u8]) -> TcpStream {
        let connected = TcpStream::connect(self.address()).await;
        let mut connection = connected.expect("it accepts");
        connection.write_all(bytes).await.expect("it reads");
        connection
    }

    /// SIGKILL: the process dies between any two instructions.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn send(&self, signal: Signal) {
        self.process.send(signal);
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        self.process.exit().await
    }
}

fn url_in(greeting: &str) -> &str {
    let from = greeting.find("http://").unwrap_or_else(|| {
        panic!("no address in the first line of output: {greeting}");
    });
    let rest = &greeting[from..];
    rest.split_whitespace().next().unwrap_or(rest)
}
