//! A real `redis-server` on a port of its own, which the test may stop, empty, kill and restart.

mod clock;

use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use self::clock::Clock;
use crate::process::{Process, Signal};
use crate::wait::{eventually, eventually_true};

/// Tries to find a port that nobody takes between our looking and Redis's binding.
const TRIES: usize = 10;

/// Names another server to run than `redis-server`, such as a `valkey-server`.
const SERVER_VARIABLE: &str = "PRESENCE_TEST_REDIS_SERVER";

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

    /// Starts a server with `arguments`, which it keeps when it is started again, and a directory of its own for what
    /// it writes.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_by(arguments, None).await
    }

    /// Starts a server without persistence whose clock can be stepped, and which can be debugged.
    pub async fn start_with_clock() -> Self {
        let clock = Arc::new(Clock::new());
        let debug = ["--enable-debug-command", "local"];
        let arguments = ["--save", "", "--appendonly", "no"]
            .into_iter()
            .chain(debug);
        Self::start_by(&arguments.collect::<Vec<_>>(), Some(clock)).await
    }

    async fn start_by(arguments: &[&str], clock: Option<Arc<Clock>>) -> Self {
        for _ in 0..TRIES {
            let server = Self::on_port(free_port(), arguments, scratch(), clock.clone());
            if let Some(server) = server.await {
                return server;
            }
        }
        panic!("redis-server found no free port in {TRIES} tries");
    }

    /// Sets the clock of a server that was started with one: so far ahead of the true time.
    pub fn set_clock_ahead(&self, ms: i64) {
        let clock = self.clock.as_ref().expect("a server with a clock");
        clock.set_ahead(ms);
    }

    /// The process of the server.
    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL: every connection breaks, all data is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts a server again at the address of the killed one: an empty one, unless it persists.
    pub async fn start_again(&mut self) {
        self.process.kill();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let (directory, clock) = (Arc::clone(&self.directory), self.clock.clone());
        let again = Self::on_port(self.port, &arguments, directory, clock).await;
        *self = again.expect("the port of the killed server is still free");
    }

    /// SIGSTOP: connections stay open and nothing answers any more.
    pub fn freeze(&self) {
        self.process.send(Signal::Stop);
    }

    /// SIGCONT, after [`RedisServer::freeze`].
    pub fn thaw(&self) {
        self.process.send(Signal::Continue);
    }

    pub async fn flush_all(&self) {
        self.command::<()>(&["FLUSHALL"]).await;
    }

    /// Runs one command, given word by word, and returns its answer.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = self.try_command(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?} failed: {error}"))
    }

    /// Runs one command where somebody else may stop the server or cut its connections meanwhile.
    pub async fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Waits until this replica has everything its primary has.
    pub async fn has_caught_up(&self) {
        eventually_true("the replica has everything", async || {
            let info: String = self.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
    }

    /// How often each command has been called, from `INFO commandstats`; 0 for one never called.
    pub async fn calls_of(&self, command: &str) -> u64 {
        let stats: String = self.command(&["INFO", "commandstats"]).await;
        let key = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&key));
        let calls = calls.and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number of calls"))
    }

    /// A number in a section of `INFO`, such as `used_memory` in `memory`.
    pub async fn info(&self, section: &str, field: &str) -> u64 {
        let info: String = self.command(&["INFO", section]).await;
        let prefix = format!("{field}:");
        let value = info.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {field} in {info}"))
    }

    /// The memory that a key and its value take, in bytes.
    pub async fn memory_of(&self, key: &str) -> u64 {
        self.command(&["MEMORY", "USAGE", key]).await
    }

    /// Refuses a command to every client, or allows it again.
    pub async fn allow(&self, command: &str, allowed: bool) {
        let sign = if allowed { '+' } else { '-' };
        let rule = format!("{sign}{command}");
        self.command::<()>(&["ACL", "SETUSER", "default", &rule])
            .await;
    }

    /// A connection that stays, for commands that a later connection could not send.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        client.get_multiplexed_async_connection().await
    }

    /// `None` where another process holds the port.
    async fn on_port(
        port: u16,
        arguments: &[&str],
        directory: Arc<TempDir>,
        clock: Option<Arc<Clock>>,
    ) -> Option<Self> {
        let mut command = Command::new(server_binary());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(directory.path());
        command.args(arguments);
        if let Some(clock) = &clock {
            clock.give_to(&mut command);
        }
        let process = Process::spawn("redis-server", &mut command);
        let mut server = Self {
            process,
            port,
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
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

    /// The process id of whoever answers at our port.
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

fn scratch() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a directory for temporary files"))
}

/// The server to run, in whatever role.
pub fn server_binary() -> OsString {
    env::var_os(SERVER_VARIABLE).unwrap_or_else(|| "redis-server".into())
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
