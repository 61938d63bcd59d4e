//! Valid calls that the state of the user refuses (409).

use harness::client::send;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Stream, briefs};

use super::problem;

/// A ping that was sent before its connection was closed and arrives later.
async fn a_ping_after_the_disconnect_changes_nothing(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for user in ["alice", "bob"] {
        client.connect(user).await;
    }
    client.connect_as("alice", "phone").await;
    client.disconnect("alice").await;
    client.disconnect_all("bob").await;
    for (user, connection) in [("alice", "1"), ("bob", "1"), ("bob", "never-open")] {
        for _ in 0..2 {
            let ping = client.of_connection(user, "ping", connection);
            let refused = problem(&send(ping).await, 409);
            assert_eq!(refused.kind, "urn:presence:problem:connection-closed");
        }
    }
    assert_eq!(client.user("alice").await.connection_ids(), ["phone"]);
    assert!(!client.user("bob").await.online);
    assert!(!client.connect("alice").await.became_online);
    assert!(client.connect("bob").await.became_online);
    for user in ["alice", "bob"] {
        assert!(!client.ping(user).await.became_online);
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(
        briefs(&events),
        ["online alice", "online bob", "offline bob", "online bob"]
    );
}

async fn a_disconnect_of_an_unknown_connection_does_not_refuse_its_pings(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.disconnect("alice").await;
    assert!(client.ping("alice").await.became_online);
    client.disconnect_as("alice", "phone").await;
    assert!(!client.ping_as("alice", "phone").await.became_online);
}

async fn one_connection_more_than_allowed_is_refused(store: Store) {
    let settings = Settings::new().with("PRESENCE_USER_CONNECTIONS", "3");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    for connection in ["1", "a", "b"] {
        client.connect_as("alice", connection).await;
    }
    for verb in ["connect", "ping"] {
        let more = client.of_connection("alice", verb, "c");
        let refused = problem(&send(more).await, 409);
        assert_eq!(refused.kind, "urn:presence:problem:too-many-connections");
        assert!(refused.detail.contains('3'), "{refused:?}");
    }
    for connection in ["1", "a", "b"] {
        client.ping_as("alice", connection).await;
        client.connect_as("alice", connection).await;
    }
    assert_eq!(client.user("alice").await.connections.len(), 3);
    client.disconnect_as("alice", "a").await;
    client.ping_as("alice", "c").await;
    assert_eq!(client.user("alice").await.connection_ids(), ["1", "b", "c"]);
}

async fn a_conflict_does_not_count_as_a_failure_of_the_store(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    problem(&send(client.of_user("alice", "ping")).await, 409);
    let metrics = client.get("/metrics").await.body;
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("presence_store_errors_total") && !line.ends_with(" 0"));
    assert_eq!(failed, None);
}

over_each_protocol!(
    a_ping_after_the_disconnect_changes_nothing,
    a_disconnect_of_an_unknown_connection_does_not_refuse_its_pings,
    one_connection_more_than_allowed_is_refused,
    a_conflict_does_not_count_as_a_failure_of_the_store,
);
