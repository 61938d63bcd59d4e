//! Thousands of clients in a process of their own, because each takes an open file.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::process::Process;
use crate::wait::PATIENCE;

/// How many there are, where the limit of open files allows it; and what else needs open files.
const CLIENTS: u64 = 20_000;
const OTHER_FILES: u64 = 500;

/// How many connect before they ping.
const AT_ONCE: u64 = 500;

/// Whom the clients of this process call.
const ADDRESS: &str = "CROWD_ADDRESS";

const REQUEST: &[u8] = b"POST /v1/users/one-of-the-crowd/ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// How long they are silent before they ping again.
const SILENCE: Duration = Duration::from_secs(4);

/// The clients, each with an open connection on which it pinged once.
pub(super) struct Crowd {
    clients: u64,
    process: Process,
}

impl Crowd {
    /// Waits until all have pinged.
    pub(super) async fn around(address: SocketAddr) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "--ignored", "--nocapture"]);
        command.arg("hostile::memory::crowd::this_process_is_the_crowd");
        command.env(ADDRESS, address.to_string());
        let mut process = Process::spawn("the crowd", &mut command);
        let clients = hear("clients", &mut process).await;
        Self { clients, process }
    }

    pub(super) fn clients(&self) -> u64 {
        self.clients
    }

    /// Waits until each of them has pinged again on its connection.
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

/// Pings on each connection, all at once; how many were answered.
fn ping(connections: &mut [TcpStream]) -> usize {
    for connection in connections.iter_mut() {
        connection.write_all(REQUEST).expect("it reads");
    }
    let mut answer = [0; 1_024];
    let answered = connections.iter_mut().map(|one| one.read(&mut answer));
    answered.filter(|read| matches!(read, Ok(1..))).count()
}

#[test]
#[ignore = "it is no test, but what the process of a crowd does"]
fn this_process_is_the_crowd() {
    let Ok(address) = env::var(ADDRESS) else {
        return;
    };
    let address: SocketAddr = address.parse().expect("an address");
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    let count = CLIENTS.min(limit - OTHER_FILES);
    let connect = |_| {
        let connection = TcpStream::connect(address).expect("it accepts");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time");
        connection
    };
    let mut connections: Vec<TcpStream> = Vec::new();
    while (connections.len() as u64) < count {
        let before = connections.len();
        let more = AT_ONCE.min(count - before as u64);
        connections.extend((0..more).map(connect));
        // A client that says nothing at first is cut off after some seconds.
        assert_eq!(ping(&mut connections[before..]) as u64, more);
        println!("\n{} so far", connections.len());
    }
    println!("\n{count} clients");
    sleep(SILENCE);
    println!("\n{} served", ping(&mut connections));
}
