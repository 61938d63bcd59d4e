//! A real `redis-server` on its own port, which a test may stop, flush, kill and restart.

mod clock;

use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use self::clock::Clock;
use crate::process::{Process, Signal};
use crate::wait::{PATIENCE, eventually, eventually_true};

/// Attempts to start on a free port. Another process may take the port before Redis binds it.
const TRIES: usize = 10;

/// The environment variable with another server to run, such as `valkey-server`.
const SERVER_VARIABLE: &str = "PRESENCE_TEST_REDIS_SERVER";

/// A running Redis server. Dropping it kills the process.
pub struct RedisServer {
    process: Process,
    port: u16,
    arguments: Vec<String>,
    directory: Arc<TempDir>,
    clock: Option<Arc<Clock>>,
}

impl RedisServer {
    /// Starts a server without persistence and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts a server that loses nothing when it is killed. By default, Redis postpones a write to its file while the
    /// disk is busy.
    pub async fn start_durable() -> Self {
        let durable = [
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        Self::start_with(&durable).await
    }

    /// Starts a server with `arguments` and a directory of its own. A restart uses both again.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_by(|| owned(arguments), None).await
    }

    /// Starts a node of a cluster, which knows no other node yet, with `arguments` and a directory of its own.
    pub(crate) async fn start_in_cluster(arguments: &[&str]) -> Self {
        let own = || {
            // The default is the port of the server plus 10,000, which may be none or not free.
            let bus = free_port().to_string();
            owned(
                &[
                    arguments,
                    &["--cluster-enabled", "yes", "--cluster-port", &bus],
                ]
                .concat(),
            )
        };
        Self::start_by(own, None).await
    }

    /// Starts a server without persistence, with an adjustable clock and the `DEBUG` command.
    pub async fn start_with_clock() -> Self {
        let clock = Arc::new(Clock::new());
        let quiet = ["--save", "", "--appendonly", "no"];
        let arguments = owned(&[&quiet[..], &["--enable-debug-command", "local"]].concat());
        Self::start_by(|| arguments.clone(), Some(clock)).await
    }

    /// Tries with new `arguments` each time.
    async fn start_by(arguments: impl Fn() -> Vec<String>, clock: Option<Arc<Clock>>) -> Self {
        for _ in 0..TRIES {
            let server = Self::on_port(free_port(), arguments(), scratch(), clock.clone());
            if let Some(server) = server.await {
                return server;
            }
        }
        panic!("redis-server found no free port in {TRIES} tries");
    }

    /// Sets the clock of a server from [`RedisServer::start_with_clock`] to `ms` milliseconds ahead of the true time.
    pub fn set_clock_ahead(&self, ms: i64) {
        let clock = self.clock.as_ref().expect("a server with a clock");
        clock.set_ahead(ms);
    }

    /// The process of the server.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The value for `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for the other nodes of the cluster of the server.
    pub(crate) fn bus_port(&self) -> String {
        let mut pairs = self.arguments.windows(2);
        let bus = pairs.find(|pair| pair[0] == "--cluster-port");
        bus.expect("a node of a cluster")[1].clone()
    }

    /// Kills the server with SIGKILL: all connections break, and data that is not persisted is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether the process has ended.
    pub(crate) fn is_killed(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Restarts the server at its address. The server is empty unless it persists.
    pub async fn start_again(&mut self) {
        self.process.kill();
        let (directory, clock) = (Arc::clone(&self.directory), self.clock.clone());
        let again = Self::on_port(self.port, self.arguments.clone(), directory, clock).await;
        *self = again.expect("the port of the killed server is still free");
    }

    /// Stops the process with SIGSTOP: connections stay open and get no answer.
    pub fn freeze(&self) {
        self.process.send(Signal::Stop);
    }

    /// Continues the process with SIGCONT after [`RedisServer::freeze`].
    pub fn thaw(&self) {
        self.process.send(Signal::Continue);
    }

    /// Deletes all data.
    pub async fn flush_all(&self) {
        self.command::<()>(&["FLUSHALL"]).await;
    }

    /// Runs one command and returns its reply. Panics if the command fails.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = self.try_command(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?} failed: {error}"))
    }

    /// Runs one command on a server that may be down.
    pub async fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// The sum of the replies to `command` for each of `keys`, with `more` after the key.
    pub async fn sum(&self, command: &str, keys: &[String], more: &[&str]) -> u64 {
        let mut each = redis::pipe();
        for key in keys {
            each.cmd(command).arg(key).arg(more);
        }
        let mut connection = self.connection().await.expect("a running server");
        let replies: RedisResult<Vec<u64>> = each.query_async(&mut connection).await;
        let replies = replies.unwrap_or_else(|error| panic!("{command} failed: {error}"));
        replies.iter().sum()
    }

    /// Waits until this replica is in sync with its primary.
    pub async fn has_caught_up(&self) {
        eventually_true("the replica has everything", async || {
            let info: String = self.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
    }

    /// Waits until this replica has everything that was written before at `primary`.
    pub async fn has_everything_of(&self, primary: &Self) {
        let offset = "master_repl_offset";
        let written = primary.info("replication", offset).await;
        eventually_true("the replica has everything", async || {
            self.info("replication", offset).await >= written
        })
        .await;
    }

    /// The number of calls of `command` so far, from `INFO commandstats`.
    pub async fn calls_of(&self, command: &str) -> u64 {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let key = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&key));
        let calls = calls.and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number of calls"))
    }

    /// An integer field of a section of `INFO`, such as `used_memory` in `memory`.
    pub async fn info(&self, section: &str, field: &str) -> u64 {
        let info: String = self.command(&["INFO", section]).await;
        let prefix = format!("{field}:");
        let value = info.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {field} in {info}"))
    }

    /// The memory of a key and its value, in bytes.
    pub async fn memory_of(&self, key: &str) -> u64 {
        self.command(&["MEMORY", "USAGE", key]).await
    }

    /// The memory of some keys and of their whole values, in bytes.
    pub async fn memory_of_all(&self, keys: &[String]) -> u64 {
        let mut bytes = 0;
        for key in keys {
            let usage = ["MEMORY", "USAGE", key, "SAMPLES", "0"];
            bytes += self.command::<Option<u64>>(&usage).await.unwrap_or(0);
        }
        bytes
    }

    /// Denies `command` to all clients, or allows it again.
    pub async fn allow(&self, command: &str, allowed: bool) {
        let sign = if allowed { '+' } else { '-' };
        let rule = format!("{sign}{command}");
        self.command::<()>(&["ACL", "SETUSER", "default", &rule])
            .await;
    }

    /// A connection that the test keeps, for commands after which new connections fail.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
    }

    /// Starts a server on `port`; `None` if another process has the port.
    async fn on_port(
        port: u16,
        arguments: Vec<String>,
        directory: Arc<TempDir>,
        clock: Option<Arc<Clock>>,
    ) -> Option<Self> {
        let mut command = Command::new(server_binary());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(directory.path());
        command.args(&arguments);
        if let Some(clock) = &clock {
            clock.give_to(&mut command);
        }
        let process = Process::spawn("redis-server", &mut command);
        let mut server = Self {
            process,
            port,
            arguments,
            directory,
            clock,
        };
        let up = eventually("redis-server answers or ends", async || {
            if server.process.has_ended() {
                return Some(false);
            }
            (server.answering_process().await? == server.process.id()).then_some(true)
        });
        up.await.then_some(server)
    }

    /// The process id of the server that answers at this port.
    async fn answering_process(&self) -> Option<u32> {
        let mut connection = self.connection().await.ok()?;
        let info = cmd("INFO").arg("server").query_async(&mut connection).await;
        let info: String = info.ok()?;
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:"));
        id?.trim().parse().ok()
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

fn scratch() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a directory for temporary files"))
}

/// The executable of the server, also for sentinels.
pub fn server_binary() -> OsString {
    env::var_os(SERVER_VARIABLE).unwrap_or_else(|| "redis-server".into())
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
