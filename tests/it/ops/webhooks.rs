//! Webhooks: signed, in order for each user, at least once, by one sender at a time.

mod failed_deliveries;
mod groups;
pub(crate) mod receiver;
mod sweeps;

use std::process::Command;

use harness::client::Client;
use harness::deployment::{Deployment, Store};
use harness::instance::{Instance, Settings};
use harness::process::Signal;
use harness::wait::eventually_true;

use crate::clients::libraries::installed;

use self::receiver::{Conduct, Received, Receiver, SECRET};

const NEW_SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl5kl0Tvnv";

const VERIFY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/verify.py");

fn settings(receiver: &Receiver) -> Settings {
    receiver.registered_in(Settings::new())
}

/// The key of the receiver, which is in the first partition.
fn delivery_key(deployment: &Deployment) -> String {
    let names = deployment.names();
    let key = names.all("webhook:crm").into_iter().next();
    key.expect("a partition")
}

/// Waits until an instance delivers: a new receiver begins with the events after the start.
async fn is_registered(client: &Client) {
    eventually_true("the receiver has a position", async || {
        client
            .get("/metrics")
            .await
            .body
            .contains("presence_webhook_backlog_seconds")
    })
    .await;
}

async fn each_store(test: impl AsyncFn(Deployment, Receiver)) {
    for store in [Store::Embedded, Store::Redis] {
        let receiver = Receiver::start(Conduct::Answer(204)).await;
        let deployment = Deployment::with(store, settings(&receiver)).await;
        is_registered(&deployment.client()).await;
        test(deployment, receiver).await;
    }
}

#[tokio::test]
async fn events_arrive_in_order_and_only_once() {
    each_store(async |deployment, receiver| {
        let client = deployment.client();
        let mut expected = Vec::new();
        for round in 0..40 {
            let user = format!("user {}", round % 7);
            client.connect(&user).await;
            client.disconnect(&user).await;
            expected.extend([
                format!("user.online {user}"),
                format!("user.offline {user}"),
            ]);
        }
        let accepted = receiver.accepted(expected.len()).await;
        assert_eq!(accepted.len(), expected.len());
        for user in 0..7 {
            let of_user = |events: &[String]| {
                let user = format!(" user {user}");
                let events = events.iter().filter(|event| event.ends_with(&user));
                events.cloned().collect::<Vec<_>>()
            };
            assert_eq!(of_user(&accepted), of_user(&expected));
        }
        let received = receiver.received();
        assert!(received.len() < 20, "{} webhooks", received.len());
        assert!(received.iter().all(|each| each.events().len() <= 100));
        let mut ids: Vec<_> = received.iter().map(Received::id).collect();
        ids.dedup();
        assert_eq!(ids.len(), received.len());
    })
    .await;
}

#[tokio::test]
async fn the_items_are_the_messages_of_a_stream() {
    each_store(async |deployment, receiver| {
        let client = deployment.client();
        let mut stream = harness::sse::Stream::open(&client, "").await;
        client.connect("alice").await;
        client.disconnect("alice").await;
        receiver.accepted(2).await;
        let bodies = receiver.received();
        let bodies = bodies.iter().map(|each| serde_json::from_str(&each.body));
        let bodies: Vec<serde_json::Value> = bodies.map(|body| body.expect("JSON")).collect();
        let items = bodies
            .iter()
            .flat_map(|body| body["data"]["events"].as_array());
        for (item, event) in items.flatten().zip(stream.changes(2).await) {
            assert_eq!(item["event"], *event.name);
            assert_eq!(item["data"], event.json());
            assert_eq!(item["id"], *event.id);
        }
    })
    .await;
}

/// The library of the specification checks the signatures of the old and of the new secret.
#[tokio::test]
async fn a_library_of_standard_webhooks_accepts_the_signatures() {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let secrets = format!("crm:{SECRET},crm:{NEW_SECRET}");
    let settings = settings(&receiver).with("PRESENCE_WEBHOOK_SECRETS", &secrets);
    let deployment = Deployment::with(Store::Embedded, settings).await;
    is_registered(&deployment.client()).await;
    deployment.client().connect("名前✅").await;
    let received = receiver.attempts(1).await;
    let webhook = serde_json::to_string(&received[0]).expect("JSON");
    let python = installed("clients-python/bin/python");
    for secret in [SECRET, NEW_SECRET] {
        let checked = Command::new(&python)
            .args([VERIFY, secret, &webhook])
            .output();
        let checked = checked.expect("Python");
        assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let checked = Command::new(&python)
        .args([VERIFY, other, &webhook])
        .output();
    assert!(!checked.expect("Python").status.success());
}

/// Two instances share a receiver. The one that sends is drained or killed.
#[tokio::test]
async fn another_instance_goes_on_with_the_same_batch() {
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let mut deployment = Deployment::of(2, settings(&receiver)).await;
    is_registered(&deployment.client()).await;
    let client = deployment.clients().remove(1);
    client.connect("alice").await;
    let first = receiver.attempts(1).await.remove(0);
    deployment.instances[0].send(Signal::Terminate);
    deployment.instances[0].exit().await;
    receiver.now(Conduct::Answer(204));
    assert_eq!(receiver.accepted(1).await, ["user.online alice"]);
    let last = receiver.received().pop().expect("a webhook");
    assert_eq!((last.id(), &last.body), (first.id(), &first.body));
    deployment.add_instance().await;
    deployment.instances[1].kill();
    let client = deployment.clients().remove(2);
    client.connect("bob").await;
    assert_eq!(
        receiver.accepted(2).await,
        ["user.online alice", "user.online bob"]
    );
}

#[tokio::test]
async fn after_a_loss_of_data_the_next_batch_begins_with_a_reset() {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let deployment = Deployment::on_one_server(1, settings(&receiver)).await;
    is_registered(&deployment.client()).await;
    let client = deployment.client();
    client.connect("alice").await;
    receiver.accepted(1).await;
    deployment.redis().flush_all().await;
    client.connect("bob").await;
    let events = receiver.accepted(3).await;
    assert_eq!(
        events,
        [
            "user.online alice",
            "presence.reset data-lost",
            "user.online bob"
        ]
    );
}

#[tokio::test]
async fn a_receiver_behind_the_history_gets_a_reset() {
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let deployment = Deployment::on_one_server(1, settings(&receiver)).await;
    is_registered(&deployment.client()).await;
    let client = deployment.client();
    // In one partition, so that they share a history.
    let users = deployment.names().neighbours("alice", 3);
    client.connect(&users[0]).await;
    receiver.attempts(1).await;
    client.connect(&users[1]).await;
    client.connect(&users[2]).await;
    // As after a long time: the events of two users are gone, one event is newer.
    let history = deployment.names().key("events", "alice");
    let trim = ["XTRIM", &history, "MAXLEN", "1"];
    deployment.redis().command::<i64>(&trim).await;
    receiver.now(Conduct::Answer(204));
    let events = receiver.accepted(2).await;
    let newest = format!("user.online {}", users[2]);
    assert_eq!(events, ["presence.reset history-gone", &*newest]);
}

#[tokio::test]
async fn nothing_shows_a_secret_or_a_url() {
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let settings = settings(&receiver).with("RUST_LOG", "presence=trace");
    let deployment = Deployment::on_one_server(1, settings).await;
    is_registered(&deployment.client()).await;
    deployment.client().connect("alice").await;
    receiver.attempts(1).await;
    let metrics = deployment.client().get("/metrics").await.body;
    let stored: Vec<String> = deployment
        .redis()
        .command(&["HGETALL", &delivery_key(&deployment)])
        .await;
    for text in [deployment.instances[0].log(), metrics, stored.join("\n")] {
        for secret in [&SECRET["whsec_".len()..], "not-for-the-log"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_bad_setting_stops_the_start_and_names_the_cause() {
    for (receivers, secrets, cause) in [
        (
            "crm:ftp://crm.example",
            "",
            "PRESENCE_WEBHOOKS: entry 1: the URL must begin with https://",
        ),
        (
            "crm:http://crm.example",
            "",
            "PRESENCE_WEBHOOK_PLAIN_HTTP=true",
        ),
        (
            "crm:https://crm.example",
            "crm:secret",
            "PRESENCE_WEBHOOK_SECRETS: entry 1: a secret must begin with whsec_",
        ),
        (
            "a:https://a.example,a:https://b.example",
            "",
            "the name \"a\" is repeated",
        ),
    ] {
        let settings = Settings::new().with("PRESENCE_WEBHOOKS", receivers);
        let settings = match secrets {
            "" => settings,
            secrets => settings.with("PRESENCE_WEBHOOK_SECRETS", secrets),
        };
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert!(
            !ended.status.success() && ended.log.contains(cause),
            "{}",
            ended.log
        );
    }
}
