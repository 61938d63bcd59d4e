//! Our service and its Redis, as in production: release build, every layer, logs at their default.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::Process;

/// The binary under test, built with the release profile.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_presence");

/// How long a server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis of its own, without persistence.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        let process = Process::start(&mut command);
        wait_for(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { process, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A number of `INFO`, such as `used_memory`.
    pub(crate) fn info(&self, section: &str, field: &str) -> f64 {
        let info = self.ask(&["INFO", section]);
        let line = info.lines().find_map(|line| line.strip_prefix(field));
        let value = line.and_then(|line| line.trim_start_matches(':').trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {field} in {info}"))
    }

    /// How often commands of a kind ran; zero before the first.
    pub(crate) fn calls_of(&self, command: &str) -> f64 {
        let stats = self.ask(&["INFO", "commandstats"]);
        let key = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&key));
        let calls = calls.and_then(|rest| rest.split(',').next());
        calls.map_or(0.0, |calls| calls.parse().expect("a number"))
    }

    /// The bytes that a key and its value take.
    pub(crate) fn memory_of(&self, key: &str) -> f64 {
        let answer = self.ask(&["MEMORY", "USAGE", key]);
        answer.trim().parse().expect("a number")
    }

    /// Refuses one command to everybody, or allows it again.
    pub(crate) fn allow(&self, command: &str, allowed: bool) {
        let sign = if allowed { '+' } else { '-' };
        let answer = self.ask(&["ACL", "SETUSER", "default", &format!("{sign}{command}")]);
        assert_eq!(answer.trim(), "OK");
    }

    fn ask(&self, command: &[&str]) -> String {
        let mut asking = Command::new("redis-cli");
        asking.args(["-p", &self.port.to_string()]).args(command);
        let answer = asking.output().expect("redis-cli comes with redis");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }
}

/// One instance of the service.
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts an instance with these settings and no other of this machine's.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = Self::command(settings);
        let (process, greeting) = Process::start_and_hear(&mut command);
        let address = greeting.split("http://").nth(1);
        let address = address.and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok());
        Self {
            process,
            address: address.expect("the first line says the address"),
        }
    }

    pub(crate) fn on(redis: &Redis) -> Self {
        Self::start(&[("REDIS_URL", &redis.url())])
    }

    pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("PRESENCE_LISTEN", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        command
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A port nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Waits until somebody accepts at `address`.
pub(crate) fn wait_for(address: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < PATIENCE, "nobody accepts at {address}");
        sleep(Duration::from_millis(5));
    }
}
