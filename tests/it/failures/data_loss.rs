//! Redis is flushed, or restarts without its data.

use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::sse::Stream;

fn settings() -> Settings {
    Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")
}

#[tokio::test]
async fn every_stream_is_reset_when_redis_is_flushed() {
    let deployment = Deployment::on_one_server(3, settings()).await;
    let clients = deployment.clients();
    clients[0].connect("alice").await;
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
        streams.push(Stream::open(client, "?userIds=bob").await);
        let mut with_snapshot = Stream::open(client, "?snapshot=true").await;
        assert_eq!(with_snapshot.snapshot().await, ["alice"]);
        streams.push(with_snapshot);
    }
    let old = streams[0].last_id();
    deployment.redis().flush_all().await;
    for stream in &mut streams {
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset");
        assert_eq!(reset.json()["reason"], "data-lost");
    }
    for stream in streams.iter_mut().skip(2).step_by(3) {
        assert_eq!(stream.snapshot().await, Vec::<String>::new());
    }
    assert!(clients[1].ping("bob").await.became_online);
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), "online bob");
    }
    let mut resumed = Stream::resume(&clients[2], "", &old).await;
    assert_eq!(resumed.next().await.name, "presence.reset");
}

/// Redis is killed and starts again at its address without data, which equals a flush.
#[tokio::test]
async fn every_stream_is_reset_when_redis_restarts_empty() {
    let mut deployment = Deployment::on_one_server(2, settings()).await;
    deployment.client().connect("alice").await;
    let mut streams = Vec::new();
    for client in deployment.clients() {
        streams.push(Stream::open(&client, "").await);
        let mut with_snapshot = Stream::open(&client, "?snapshot=true").await;
        assert_eq!(with_snapshot.snapshot().await, ["alice"]);
        streams.push(with_snapshot);
    }
    deployment.redis_mut().start_again().await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.name, "presence.reset");
    }
    for stream in streams.iter_mut().skip(1).step_by(2) {
        assert_eq!(stream.snapshot().await, Vec::<String>::new());
    }
    assert!(deployment.client().connect("alice").await.became_online);
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), "online alice");
    }
}
