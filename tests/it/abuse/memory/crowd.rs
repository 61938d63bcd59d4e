//! Thousands of clients in another process, because each one needs an open file.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use harness::process::Process;

/// Clients that each have an open connection, on which they pinged once.
pub(super) struct Crowd {
    clients: u64,
    process: Process,
}

impl Crowd {
    /// Waits until all clients have pinged.
    pub(super) async fn around(address: SocketAddr) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let mut command = Command::new("python3");
        command.arg(tests.join("abuse/memory/crowd.py"));
        command.arg(address.ip().to_string());
        command.arg(address.port().to_string());
        let mut process = Process::spawn("the crowd", &mut command);
        let clients = hear("clients", &mut process).await;
        Self { clients, process }
    }

    pub(super) fn clients(&self) -> u64 {
        self.clients
    }

    /// Waits until all clients have pinged again on their connections.
    pub(super) async fn is_still_served(&mut self) {
        assert_eq!(hear("served", &mut self.process).await, self.clients);
    }
}

async fn hear(word: &str, process: &mut Process) -> u64 {
    loop {
        let line = process.line().await.expect("the crowd goes on");
        if let Some((number, said)) = line.split_once(' ')
            && said == word
        {
            return number.parse().expect("a number");
        }
    }
}
