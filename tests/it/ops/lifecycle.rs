//! Start, settings, drain and end of an instance.

use std::net::TcpListener;
use std::time::Duration;

use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::{Instance, Settings, workers};
use harness::process::Signal;
use harness::redis_server::free_port;
use harness::serial::run_alone;
use harness::sse::{End, Stream};
use harness::wait::eventually_true;
#[cfg(target_os = "linux")]
use rustix::thread::CpuSet;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// All variables of the contract.
const VARIABLES: [&str; 23] = [
    "PRESENCE_KEEP_ALIVE",
    "PRESENCE_LISTEN",
    "PORT",
    "REDIS_URL",
    "PRESENCE_TTL",
    "PRESENCE_PING_INTERVAL",
    "PRESENCE_SWEEP_INTERVAL",
    "PRESENCE_HISTORY",
    "PRESENCE_LAST_SEEN",
    "PRESENCE_USER_CONNECTIONS",
    "PRESENCE_GROUP_MEMBERS",
    "PRESENCE_HISTORY_BYTES",
    "PRESENCE_KEY_PREFIX",
    "PRESENCE_PARTITIONS",
    "REDIS_URL_NEXT",
    "PRESENCE_KEY_PREFIX_NEXT",
    "PRESENCE_PARTITIONS_NEXT",
    "PRESENCE_KEYSPACE_EVENTS",
    "PRESENCE_LOOKUP_LIMIT",
    "PRESENCE_STREAM_MAX_AGE",
    "PRESENCE_DRAIN",
    "PRESENCE_DOCS",
    "PRESENCE_DASHBOARD",
];

/// With a core for each worker, no two workers share one. Other threads run on any core.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn each_worker_runs_on_a_core_of_its_own() {
    let all = rustix::thread::sched_getaffinity(None).expect("a thread");
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core))
        .collect();
    let mut expected = vec![all.clone(); workers()];
    if all.len() == workers() {
        expected = all.iter().map(|core| vec![*core]).collect();
    }
    let instance = Instance::start(&Settings::new()).await;
    let are = async |expected: &[Vec<usize>]| {
        eventually_true("the threads are where they belong", async || {
            let mut cores = instance.cores_of_workers();
            cores.sort_unstable();
            cores == expected
        })
        .await;
    };
    are(&expected).await;
    // The main runtime makes snapshots, on threads that may use any core.
    let mut stream = Stream::open(&instance.client(), "?snapshot=true").await;
    stream.snapshot().await;
    are(&expected).await;
}

#[tokio::test]
async fn the_help_lists_every_setting() {
    let ended = Instance::run_to_its_end(&Settings::new(), &["--help"]).await;
    assert!(ended.status.success());
    for variable in VARIABLES {
        assert!(
            ended.output.contains(variable),
            "{variable}:\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn a_bad_value_stops_the_start_with_the_name_of_its_variable() {
    for (variable, value) in [
        ("PRESENCE_LISTEN", "everywhere"),
        ("PORT", "70000"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("PRESENCE_TTL", "soon"),
        ("PRESENCE_TTL", "0s"),
        ("PRESENCE_PING_INTERVAL", "25"),
        ("PRESENCE_SWEEP_INTERVAL", "1h"),
        ("PRESENCE_HISTORY", "-1s"),
        ("PRESENCE_LAST_SEEN", "ever"),
        ("PRESENCE_USER_CONNECTIONS", "0"),
        ("PRESENCE_GROUP_MEMBERS", "0"),
        ("PRESENCE_HISTORY_BYTES", "256"),
        ("PRESENCE_KEY_PREFIX", ""),
        ("PRESENCE_KEY_PREFIX", "{a}:"),
        ("PRESENCE_PARTITIONS", "17"),
        ("PRESENCE_PARTITIONS", "16"),
        ("REDIS_URL_NEXT", "redis://127.0.0.1"),
        ("PRESENCE_KEY_PREFIX_NEXT", "{a}:"),
        ("PRESENCE_PARTITIONS_NEXT", "17"),
        ("PRESENCE_KEYSPACE_EVENTS", "maybe"),
        ("PRESENCE_LOOKUP_LIMIT", "0"),
        ("PRESENCE_STREAM_MAX_AGE", "0s"),
        ("PRESENCE_DRAIN", "1y"),
        ("PRESENCE_DOCS", "maybe"),
        ("PRESENCE_DASHBOARD", "maybe"),
    ] {
        let settings = Settings::new().with(variable, value);
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(ended.status.code(), Some(2), "{variable}={value}");
        assert!(
            ended.log.contains(variable),
            "{variable}={value}: {}",
            ended.log
        );
        assert!(
            ended.output.is_empty(),
            "the instance started: {}",
            ended.output
        );
    }
}

#[tokio::test]
async fn a_bad_redis_url_is_reported_without_its_password() {
    let settings = Settings::new().with("REDIS_URL", "redis://:s3cret@host:notaport");
    let ended = Instance::run_to_its_end(&settings, &[]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.log.contains("REDIS_URL"), "{}", ended.log);
    assert!(!ended.log.contains("s3cret"), "{}", ended.log);
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let settings = Settings::new().with("PRESENCE_LISTEN", &address);
    let ended = Instance::run_to_its_end(&settings, &[]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains(&address), "{}", ended.log);
}

#[tokio::test]
async fn the_variable_port_listens_on_every_address() {
    let port = free_port().to_string();
    let settings = Settings::new().without("PRESENCE_LISTEN");
    let settings = settings.with("PORT", &port);
    let settings = settings.with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let instance = Instance::start(&settings).await;
    let greeting = instance.greeting();
    assert!(
        greeting.contains(&format!("http://0.0.0.0:{port}")),
        "{greeting}"
    );
    assert_eq!(instance.client().get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_default_is_loopback_and_the_embedded_store() {
    let instance = Instance::start(&Settings::new()).await;
    let greeting = instance.greeting();
    assert!(greeting.contains("embedded"), "{greeting}");
    let help = Instance::run_to_its_end(&Settings::new(), &["--help"]).await;
    assert!(help.output.contains("127.0.0.1:8080"));
}

async fn a_signal_ends_every_stream_within_the_drain_time(store: Store) {
    run_alone();
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let settings = Settings::new().with("PRESENCE_DRAIN", "2s");
        let mut deployment = Deployment::with(store, settings).await;
        let client = deployment.client();
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(Stream::open(&client, "").await);
        }
        let began = Instant::now();
        deployment.instances[0].send(signal);
        let ends = LocalSet::new().run_until(ends_of(streams)).await;
        let status = deployment.instances[0].exit().await;
        assert_eq!(status.code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        let (first, last) = (ends.iter().min(), ends.iter().max());
        let spread = *last.expect("twenty") - *first.expect("twenty");
        assert!(
            spread > Duration::from_millis(300),
            "spread over {spread:?}"
        );
    }
}

/// The end of each stream. Panics if a stream does not end cleanly.
async fn ends_of(streams: Vec<Stream>) -> Vec<Instant> {
    let mut waiting = JoinSet::new();
    for stream in streams {
        waiting.spawn_local(async move {
            let end = stream.end(Duration::from_secs(10)).await;
            assert!(matches!(end, Some(End::Clean)), "{end:?}");
            Instant::now()
        });
    }
    waiting.join_all().await
}

async fn a_stream_ends_cleanly_at_its_age_and_resumes(store: Store) {
    let settings = Settings::new().with("PRESENCE_STREAM_MAX_AGE", "1s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let stream = Stream::open(&client, "").await;
    let end = stream.end(Duration::from_secs(5)).await;
    assert!(matches!(end, Some(End::Clean)), "{end:?}");
    client.connect("alice").await;
    let mut resumed = Stream::resume(&client, "", &stream.last_id()).await;
    assert_eq!(resumed.next().await.brief(), "online alice");
}

on_both_stores!(
    a_signal_ends_every_stream_within_the_drain_time,
    a_stream_ends_cleanly_at_its_age_and_resumes,
);
