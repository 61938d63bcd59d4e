//! The time from the start of the process to the first answered ping, and the memory of an idle process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::instance::{Instance, Settings, binary};
use harness::process::Process;
use harness::redis_server::{RedisServer, free_port};
use tokio::time::sleep;

use crate::measure::calls::post;
use crate::measure::report::{Figure, Row};

const ROUNDS: usize = 11;

/// The time between two attempts to reach the process.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// After this time the start is complete.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) async fn run() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let embedded: Figure = (0..ROUNDS)
        .map(|_| first_ping_ms(Settings::new()))
        .collect();
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let on_redis: Figure = (0..ROUNDS)
        .map(|_| first_ping_ms(settings.clone()))
        .collect();
    let size = std::fs::metadata(binary()).expect("the binary").len() as f64 / 1e6;
    let idle = Instance::on(&redis).await;
    sleep(SETTLED).await;
    let claim = "start";
    vec![
        Row::new(claim, "ms to the first ping, embedded", embedded).at_most(25.0),
        Row::new(claim, "ms to the first ping, Redis", on_redis).at_most(40.0),
        Row::new(claim, "binary, MB", size).at_most(20.0),
        Row::new(claim, "idle memory, MB", mb(idle.resident_kib()))
            .at_most(22.0)
            .aim(16.0),
        Row::new(
            claim,
            "idle memory without the pages of files, MB",
            mb(idle.anonymous_kib()),
        )
        .at_most(8.0),
    ]
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1_024.0 / 1e6
}

fn first_ping_ms(settings: Settings) -> f64 {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let settings = settings.with("PRESENCE_LISTEN", &address.to_string());
    let mut command = settings.command(&[]);
    let began = Instant::now();
    let _process = Process::spawn("presence", &mut command);
    while !pings(address) {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the process does not start"
        );
        std::thread::sleep(LOOK_AGAIN);
    }
    began.elapsed().as_secs_f64() * 1e3
}

fn pings(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect(address) else {
        return false;
    };
    let mut answer = [0; 64];
    let answered = connection
        .write_all(&post("/v1/users/first/ping"))
        .and_then(|()| connection.read(&mut answer));
    answered.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}
