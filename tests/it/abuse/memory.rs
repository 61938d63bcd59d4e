//! Clients that try to exhaust the memory limit of our manifests, which is 512 MiB.

mod crowd;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::memory_limit::MemoryLimit;
use harness::serial::run_alone;
use harness::wait::PATIENCE;

use super::http2;
use super::unread_answers::ask_and_not_read;

/// The memory limit of the instance, and the most that the instance itself may use, in MiB.
const GIVEN: u64 = 512;
const MOST: u64 = 400;

/// How long the test tries to send bytes that are not read.
const SOON: Duration = Duration::from_millis(100);

/// A kind of client that keeps all resources that it gets.
struct Attack {
    name: &'static str,
    connections: usize,
    begin: fn(SocketAddr) -> Option<TcpStream>,
}

const ATTACKS: [Attack; 7] = [
    Attack {
        name: "answers that are not read",
        connections: 1_500,
        begin: |address| {
            let request = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
            Some(ask_and_not_read(address, request))
        },
    },
    Attack {
        name: "many requests that are not read, on each connection",
        connections: 1_500,
        begin: |address| {
            let request = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
            Some(ask_and_not_read(address, &request.repeat(200)))
        },
    },
    Attack {
        name: "HTTP/2 without a window",
        connections: 150,
        begin: |address| {
            let mut connection = http2::connect(address, 0);
            let requests = (0..2_000).map(|number| http2::get(2 * number + 1, "/v1/nothing"));
            let requests: Vec<u8> = requests.flatten().collect();
            // The service may refuse the requests.
            let _ = connection.write_all(&requests);
            Some(connection)
        },
    },
    Attack {
        name: "HTTP/2 whose streams have a window of one byte",
        connections: 150,
        begin: |address| {
            let mut connection = http2::connect(address, 1);
            let requests = (0..100).map(|number| http2::get(2 * number + 1, "/openapi.json"));
            let requests: Vec<u8> = requests.flatten().collect();
            let _ = connection.write_all(&requests);
            Some(connection)
        },
    },
    Attack {
        name: "large heads on connections that are kept",
        connections: 4_000,
        begin: |address| {
            let mut connection = TcpStream::connect(address).ok()?;
            let junk = "x".repeat(15_000);
            let request =
                format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Junk: {junk}\r\n\r\n");
            connection.write_all(request.as_bytes()).ok()?;
            connection.set_read_timeout(Some(PATIENCE)).ok()?;
            connection.read_exact(&mut [0; 64]).ok()?;
            Some(connection)
        },
    },
    Attack {
        name: "large heads that are never finished",
        connections: 4_000,
        begin: |address| {
            let mut connection = TcpStream::connect(address).ok()?;
            let head = format!("GET /livez HTTP/1.1\r\nX-Junk: {}", "x".repeat(15_000));
            connection.write_all(head.as_bytes()).ok()?;
            Some(connection)
        },
    },
    Attack {
        name: "large bodies that are never finished",
        connections: 600,
        begin: |address| {
            let mut connection = TcpStream::connect(address).ok()?;
            connection.set_write_timeout(Some(SOON)).ok()?;
            let head = "POST /v1/online HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 1048576\r\n\r\n";
            let _ = connection.write_all(head.as_bytes());
            let _ = connection.write_all(&vec![b' '; 1_048_000]);
            Some(connection)
        },
    },
];

/// Checks that the instance answers, and reports its memory with the name of the scene.
async fn is_well(instance: &Instance, limit: &MemoryLimit, scene: &str) {
    let client = instance.client();
    client.ping("alice").await;
    assert_eq!(client.get("/livez").await.status, 200, "{scene}");
    let most = instance.most_resident_kib() / 1_024;
    let now = instance.resident_kib() / 1_024;
    let group = limit.used_mib();
    eprintln!("{scene}: {now} MiB, at most {most} MiB so far; with the kernel's {group:?}");
    assert!(most <= MOST, "{scene}: {most} MiB");
}

async fn no_client_exhausts(limit: MemoryLimit) {
    run_alone();
    let instance = Instance::start_within(&Settings::new(), &limit).await;
    let address = instance.address();
    for attack in ATTACKS {
        let begun = tokio::task::spawn_blocking(move || {
            let begun = (0..attack.connections).map(|_| (attack.begin)(address));
            begun.flatten().collect::<Vec<TcpStream>>()
        });
        let held = begun.await.expect("no panic");
        is_well(&instance, &limit, attack.name).await;
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_exhausts_the_memory() {
    no_client_exhausts(MemoryLimit::mib(GIVEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_exhausts_the_address_space() {
    let limit = MemoryLimit::address_space_mib(GIVEN);
    no_client_exhausts(limit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_fit_into_the_memory_limit() {
    run_alone();
    let limit = MemoryLimit::mib(GIVEN);
    let instance = Instance::start_within(&Settings::new(), &limit).await;
    let mut crowd = crowd::Crowd::around(instance.address()).await;
    let scene = format!("{} idle clients", crowd.clients());
    is_well(&instance, &limit, &scene).await;
    crowd.is_still_served().await;
    is_well(&instance, &limit, "all of them ping").await;
}
