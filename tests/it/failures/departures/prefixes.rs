//! Deployments on one Redis whose prefixes look like keys of each other.

use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::sse::{Stream, briefs};

/// User ids whose keys would be keys of another deployment if names could collide.
const NAMES: [&str; 6] = [
    "deadlines",
    "events",
    "epoch",
    "held",
    "user:bob",
    "conns:bob",
];

#[tokio::test]
async fn no_user_id_collides_with_a_key_of_another_deployment() {
    let deployment =
        Deployment::on_one_server(1, Settings::new().with("PRESENCE_KEY_PREFIX", "a:")).await;
    let mut others = Vec::new();
    for prefix in [
        "a:user:",
        "a:conns:",
        "a:closed:",
        "a:seen:",
        "a:user:user:",
    ] {
        let settings = deployment.settings().clone();
        let settings = settings.with("PRESENCE_KEY_PREFIX", prefix);
        others.push(Instance::start(&settings).await);
    }
    let client = deployment.client();
    for name in NAMES {
        client.connect(name).await;
        client.connect_as(name, "phone").await;
        client.disconnect(name).await;
    }
    for other in &others {
        let other = other.client();
        let mut stream = Stream::open(&other, "").await;
        assert!(other.connect("bob").await.became_online);
        assert!(!other.connect_as("bob", "phone").await.became_online);
        assert_eq!(other.everyone().await, ["bob"]);
        assert!(other.disconnect_all("bob").await.became_offline);
        let told = briefs(&stream.changes(2).await);
        assert_eq!(told, ["online bob", "offline bob"]);
    }
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(client.everyone().await, names);
}
