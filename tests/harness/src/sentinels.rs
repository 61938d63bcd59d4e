//! Real Redis sentinels for a primary and its replica.

use std::process::Command;

use redis::{FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use crate::process::{Process, Signal};
use crate::redis_server::{RedisServer, free_port, server_binary};
use crate::wait::eventually_true;

/// The name of the primary in the sentinels.
const PRIMARY: &str = "main";

/// The number of sentinels. A failover needs the agreement of two.
const SENTINELS: usize = 3;

/// Two sentinels that start an election at the same moment vote for themselves. They try again after twice this time.
const FAILOVER_TIMEOUT_MS: u32 = 2_000;

/// Running sentinels. Dropping them kills the processes.
pub struct Sentinels {
    processes: Vec<Process>,
    ports: Vec<u16>,
    /// The directories of the configuration files, which the sentinels rewrite.
    _directories: Vec<TempDir>,
}

impl Sentinels {
    /// Starts sentinels for `primary` and waits until they know each other and the replica.
    pub async fn of(primary: &RedisServer) -> Self {
        let mut sentinels = Self {
            processes: Vec::new(),
            ports: Vec::new(),
            _directories: Vec::new(),
        };
        for _ in 0..SENTINELS {
            sentinels.add(primary.port());
        }
        for port in sentinels.ports.clone() {
            eventually_true("a sentinel knows the others and the replica", async || {
                let Ok(known) = sentinels.knowledge(port).await else {
                    return false;
                };
                let says = |field: &str, value: &str| {
                    known
                        .windows(2)
                        .any(|pair| pair[0] == field && pair[1] == value)
                };
                says("num-other-sentinels", "2") && says("num-slaves", "1")
            })
            .await;
        }
        sentinels
    }

    fn add(&mut self, primary: u16) {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let port = free_port();
        let config = format!(
            "port {port}\nbind 127.0.0.1\n\
             sentinel monitor {PRIMARY} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {PRIMARY} 1000\n\
             sentinel failover-timeout {PRIMARY} {FAILOVER_TIMEOUT_MS}\n"
        );
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, config).expect("a file of our own");
        let mut command = Command::new(server_binary());
        command.arg(&file).arg("--sentinel");
        self.processes
            .push(Process::spawn("sentinel", &mut command));
        self.ports.push(port);
        self._directories.push(directory);
    }

    /// The value for `REDIS_URL`.
    pub fn url(&self) -> String {
        let hosts = self.ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let hosts: Vec<String> = hosts.collect();
        format!("redis+sentinel://{}/{PRIMARY}", hosts.join(","))
    }

    /// Stops the first sentinel with SIGSTOP: it accepts connections and does not answer.
    pub fn freeze_one(&self) {
        self.processes[0].send(Signal::Stop);
    }

    /// Starts a failover at the last sentinel while the primary works.
    pub async fn fail_over(&self) {
        let port = *self.ports.last().expect("three");
        let done = ask::<()>(port, &["FAILOVER", PRIMARY]).await;
        done.expect("a failover can begin");
    }

    async fn knowledge(&self, port: u16) -> RedisResult<Vec<String>> {
        ask(port, &["MASTER", PRIMARY]).await
    }
}

async fn ask<T: FromRedisValue>(port: u16, words: &[&str]) -> RedisResult<T> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = cmd("SENTINEL");
    command.arg(words);
    command.query_async(&mut connection).await
}
