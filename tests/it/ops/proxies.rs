//! Real proxies with the files of `infra/` in front of two instances.

mod front;

use std::time::Duration;

use harness::client::{media_type, query_of, send, try_send};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::process::Signal;
use harness::sse::{EventSource, Habits, Heard, Memory, Stream, briefs};
use harness::wait::eventually_true;
use reqwest::Method;
use tokio::time::{sleep, timeout};

pub(crate) use front::{Front, Kind};

/// The ids of a page in a query of about 12 KB.
const MANY: usize = 300;

/// Some of ten streams get no byte for longer than this time.
const SHORTER_THAN_SILENCE: Duration = Duration::from_secs(6);

/// The settings of an instance behind a proxy. Every client of the proxy may call.
pub(crate) fn settings() -> Settings {
    Settings::new()
        .with("PRESENCE_ALLOW_ANONYMOUS", "true")
        .with("PRESENCE_DRAIN", "2s")
}

async fn events_pass_at_once_and_streams_resume(kind: Kind) {
    let mut deployment = Deployment::of(2, settings()).await;
    let mut front = Front::start(kind, &deployment).await;
    let client = front.client();
    let mut stream = Stream::open(&client, "?snapshot=true&access_token=secret").await;
    assert!(stream.snapshot().await.is_empty());
    for _ in 0..20 {
        assert!(client.connect("alice").await.became_online);
        assert_eq!(stream.next().await.brief(), "online alice");
        client.disconnect("alice").await;
        assert_eq!(stream.next().await.brief(), "offline alice");
    }
    let cursor = stream.last_id();
    deployment.instances[0].kill();
    eventually_true("a call finds the other instance", async || {
        let connected = try_send(client.of_user("bob", "connect")).await;
        connected.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let mut resumed = Stream::resume(&client, "?snapshot=true", &cursor).await;
    assert_eq!(resumed.next().await.brief(), "online bob");
    drop(stream);
    // A stream that finds no instance is in the log too, and the error of the proxy contains no token.
    deployment.instances[1].kill();
    let failed = Stream::request(&client, "?access_token=secret");
    try_send(failed).await.expect("the proxy itself answers");
    eventually_true("the stream is in the log", async || {
        front.log().contains("/v1/events")
    })
    .await;
    let log = front.log();
    assert!(!log.contains("secret"), "{log}");
}

/// Instances are drained and killed in turn.
async fn calls_and_streams_recover_from_restarts(kind: Kind) {
    let mut deployment = Deployment::of(2, settings()).await;
    let front = Front::start(kind, &deployment).await;
    let client = front.client();
    let habits = Habits {
        query: "?snapshot=true".to_owned(),
        memory: Memory::Cursor,
        rest: Duration::ZERO,
    };
    let readers =
        [0, 1, 2].map(|_| EventSource::start(std::slice::from_ref(&client), 0, habits.clone()));
    let mut expected = Vec::new();
    for (round, signal) in [None, Some(Signal::Terminate)].into_iter().enumerate() {
        for instance in 0..2 {
            for reader in &readers {
                // Without a cursor, it would begin again with a snapshot.
                let has_cursor = async || reader.has_heard("presence.ready");
                eventually_true("a reader has a cursor", has_cursor).await;
            }
            match signal {
                Some(signal) => {
                    deployment.instances[instance].send(signal);
                    deployment.instances[instance].exit().await;
                }
                None => deployment.instances[instance].kill(),
            }
            for step in ["dead", "back"] {
                let user = format!("{step}-{round}-{instance}");
                // A call that failed may have been carried out.
                eventually_true("a call is answered", async || {
                    let connected = try_send(client.of_user(&user, "connect")).await;
                    connected.is_ok_and(|answer| answer.status == 200)
                })
                .await;
                expected.push(format!("online {user}"));
                for reader in &readers {
                    eventually_true(&user, async || reader.is_up_to(&user)).await;
                }
                if step == "dead" {
                    deployment.replace(instance).await;
                }
            }
        }
    }
    for reader in &readers {
        let heard = reader
            .log()
            .into_iter()
            .filter_map(|entry| match entry.what {
                Heard::Event(event) if event.is_change() => Some(event),
                _ => None,
            });
        let heard: Vec<_> = heard.collect();
        assert_eq!(
            briefs(&heard),
            expected,
            "nothing is lost and nothing doubled"
        );
    }
}

/// A stream whose client has closed it does not count any more, although nothing is sent on it that would fail.
async fn a_stream_that_its_reader_closed_ends_at_the_instance(kind: Kind) {
    let deployment = Deployment::of(2, settings()).await;
    let front = Front::start(kind, &deployment).await;
    let open = async || {
        let mut open = 0;
        for instance in deployment.clients() {
            let streams = instance.metric("presence_streams").await;
            open += streams.expect("a number");
        }
        open
    };
    let mut readers = Vec::new();
    for _ in 0..10 {
        readers.push(Stream::open(&front.client(), "?userIds=nobody").await);
    }
    assert_eq!(open().await, 10);
    drop(readers);
    let gone = eventually_true("the streams end", async || open().await == 0);
    let gone = timeout(SHORTER_THAN_SILENCE, gone).await;
    assert!(gone.is_ok(), "{} are still open", open().await);
}

/// Instances that are not ready give the reason and `Retry-After`, also to a proxy that checks the readiness.
async fn calls_and_streams_report_that_the_store_is_unreachable(kind: Kind) {
    let mut deployment = Deployment::on_one_server(2, settings()).await;
    let front = Front::start(kind, &deployment).await;
    let client = front.client();
    client.connect("alice").await;
    deployment.redis_mut().kill();
    eventually_true("a call is refused by the service", async || {
        let pinged = send(client.of_user("alice", "ping")).await;
        let refused = pinged.status == 503 && !pinged.header("retry-after").is_empty();
        refused && pinged.body.contains("urn:presence:problem:")
    })
    .await;
    // By now the proxy has checked the readiness too.
    sleep(Duration::from_secs(3)).await;
    let body = send(client.of_connection("alice", "ping", "phone")).await;
    assert_eq!(body.status, 503, "{body:?}");
    assert!(body.body.contains("urn:presence:problem:"), "{body:?}");
    let stream = Stream::request(&client, "?snapshot=true").header("Accept", "text/event-stream");
    let stream = send(stream).await;
    assert_eq!(stream.status, 200, "{stream:?}");
    assert_eq!(media_type(&stream.headers), "text/event-stream");
    assert!(stream.body.contains("event: presence.end\n"), "{stream:?}");

    deployment.redis_mut().start_again().await;
    eventually_true("a call succeeds again", async || {
        send(client.of_user("alice", "connect")).await.status == 200
    })
    .await;
}

async fn requests_that_the_service_must_judge_reach_it(kind: Kind) {
    let deployment = Deployment::of(2, settings()).await;
    let client = Front::start(kind, &deployment).await;
    let (_front, client) = (&client, client.client());
    let ids: Vec<String> = (0..MANY).map(|id| format!("{id:036}")).collect();
    let query = query_of(&[("userIds", &ids.join(","))]);
    let mut stream = Stream::open(&client, &query).await;
    client.connect(&ids[MANY - 1]).await;
    assert_eq!(stream.changes(1).await[0].user(), ids[MANY - 1]);

    let body = format!("{{\"userIds\":[\"{}\"]}}", "x".repeat(1_500_000));
    let lookup = client.request(Method::POST, "/v1/online").body(body);
    let lookup = send(lookup.header("Content-Type", "application/json")).await;
    assert_eq!(lookup.status, 413);
    assert!(
        lookup.body.contains("urn:presence:problem:"),
        "{}",
        lookup.body
    );

    // The metrics are open to loopback, where the proxy is, and must not pass the proxy.
    assert_eq!(client.get("/metrics").await.status, 404);
}

/// Makes a test of each body, an `async fn(Kind)`, for each proxy without TLS.
macro_rules! behind_each_proxy {
    ($($name:ident),+ $(,)?) => {
        behind_each_proxy!(@ nginx Nginx $($name)+);
        behind_each_proxy!(@ haproxy Haproxy $($name)+);
        behind_each_proxy!(@ caddy Caddy $($name)+);
    };
    (@ $module:ident $kind:ident $($name:ident)+) => {
        mod $module {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Kind::$kind).await;
            })+
        }
    };
}

behind_each_proxy!(
    events_pass_at_once_and_streams_resume,
    calls_and_streams_recover_from_restarts,
    calls_and_streams_report_that_the_store_is_unreachable,
    a_stream_that_its_reader_closed_ends_at_the_instance,
    requests_that_the_service_must_judge_reach_it,
);
