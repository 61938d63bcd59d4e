//! One running `presence` process.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, Protocol};
use crate::memory_limit::MemoryLimit;
use crate::names::{Names, partitions_of_tests};
use crate::process::{Process, Signal};
use crate::redis_server::RedisServer;
use crate::wait::PATIENCE;

/// The environment of an instance. Settings in the environment of the test are removed.
#[derive(Clone, Debug)]
pub struct Settings {
    variables: BTreeMap<&'static str, String>,
    /// The protocol of the clients of the instance.
    protocol: Protocol,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// The default settings, on a free port.
    pub fn new() -> Self {
        let nothing = Self {
            variables: BTreeMap::new(),
            protocol: Protocol::default(),
        };
        nothing.with("PRESENCE_LISTEN", "127.0.0.1:0")
    }

    /// Users expire two seconds after their last ping.
    ///
    /// The ping interval is short too, because departures after an outage are held for one ping interval.
    pub fn mortal() -> Self {
        Self::new()
            .with("PRESENCE_TTL", "2s")
            .with("PRESENCE_PING_INTERVAL", "500ms")
    }

    /// The settings with one variable set.
    pub fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.insert(variable, value.to_owned());
        self
    }

    /// Clients of the instance speak `protocol`.
    pub fn over(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The settings without one variable.
    pub fn without(mut self, variable: &'static str) -> Self {
        self.variables.remove(variable);
        self
    }

    /// The prefix of all keys, without the default.
    pub(crate) fn prefix(&self) -> &str {
        let prefix = self.variables.get("PRESENCE_KEY_PREFIX");
        prefix.map_or("", String::as_str)
    }

    /// The names of the keys of instances with these settings.
    pub fn names(&self) -> Names {
        let names = Names::default();
        let partitions = self.variables.get("PRESENCE_PARTITIONS");
        let partitions = partitions.and_then(|set| set.parse().ok());
        let prefix = self.variables.get("PRESENCE_KEY_PREFIX");
        names.with(prefix.map(String::as_str), partitions)
    }

    /// The command that runs the binary with these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("PRESENCE_")
                || ["REDIS_URL", "PORT", "RUST_LOG"].contains(&&*shown)
            {
                command.env_remove(&name);
            }
        }
        if self.variables.contains_key("REDIS_URL") && partitions_of_tests() > 1 {
            command.env("PRESENCE_PARTITIONS", partitions_of_tests().to_string());
        }
        command.envs(&self.variables).args(arguments);
        command
    }
}

/// The executable of the service. Cargo puts it into the folder of the profile, above this executable, and builds it
/// before tests and benchmarks. `CARGO_BIN_EXE_presence` exists only for targets of the package of the service.
pub fn binary() -> PathBuf {
    let ours = env::current_exe().expect("a running executable");
    let name = format!("presence{}", env::consts::EXE_SUFFIX);
    let candidates = ours.ancestors().skip(1).map(|folder| folder.join(&name));
    let binary = { candidates }.find(|candidate| candidate.is_file());
    binary.unwrap_or_else(|| panic!("no {name} above {}", ours.display()))
}

/// The cores that a thread may run on, from its `/proc` status, which lists numbers and ranges.
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

/// The number of worker threads of an instance.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

/// The number of runtimes of an instance without the main one: one for each worker, and one for bulk calls.
pub fn runtimes() -> usize {
    workers() + 1
}

/// A running instance. Dropping it kills the process.
pub struct Instance {
    process: Process,
    greeting: String,
    client: Client,
}

/// The result of a process that ended by itself.
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub log: String,
}

impl Instance {
    /// Starts an instance and waits for the line that reports its address.
    pub async fn start(settings: &Settings) -> Self {
        Self::start_by(settings.command(&[]), settings.protocol).await
    }

    /// Starts an instance with the default settings on `redis`.
    pub async fn on(redis: &RedisServer) -> Self {
        Self::start(&Settings::new().with("REDIS_URL", &redis.url())).await
    }

    /// Starts an instance with limited memory.
    pub async fn start_within(settings: &Settings, limit: &MemoryLimit) -> Self {
        let command = limit.around(&settings.command(&[]));
        Self::start_by(command, settings.protocol).await
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
    pub async fn run_to_its_end(settings: &Settings, arguments: &[&str]) -> Ended {
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

    /// A client of the instance.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The process of the instance.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// Resident memory without the pages of files, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.process.anonymous_kib()
    }

    /// Peak of the resident memory so far, in KiB.
    pub fn most_resident_kib(&self) -> u64 {
        self.process.most_resident_kib()
    }

    /// The cores that each worker thread may run on.
    pub fn cores_of_workers(&self) -> Vec<Vec<usize>> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let threads = threads.expect("a running process").flatten();
        let statuses = threads.map(|thread| std::fs::read_to_string(thread.path().join("status")));
        // A status that cannot be read belongs to a thread that has ended.
        let of_workers = statuses
            .flatten()
            .filter(|status| status.starts_with("Name:\tworker-"));
        of_workers.map(|status| allowed_cores(&status)).collect()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The first line of the standard output, which reports the address.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.client.base())
    }

    /// The address of the instance.
    pub fn address(&self) -> SocketAddr {
        let base = self.client.base();
        let address = base.strip_prefix("http://").expect("an http address");
        address.parse().expect("an address and a port")
    }

    /// A new connection on which `bytes` are sent.
    pub async fn told(&self, bytes: &[u8]) -> TcpStream {
        let connected = TcpStream::connect(self.address()).await;
        let mut connection = connected.expect("a connection");
        connection.write_all(bytes).await.expect("a write");
        connection
    }

    /// Everything that the instance sends after `bytes` on a new connection, until it closes the connection.
    pub async fn answer_to(&self, bytes: &[u8]) -> String {
        let mut connection = self.told(bytes).await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, connection.read_to_end(&mut answer)).await;
        read.expect("an end").expect("a clean end");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal to the process.
    pub fn send(&self, signal: Signal) {
        self.process.send(signal);
    }

    /// Waits until the process has ended by itself.
    pub async fn exit(&mut self) -> ExitStatus {
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
