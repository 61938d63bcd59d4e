//! Keys that an identity provider publishes: rotated, withdrawn, and when it is down, slow or lying.

use serde_json::json;
use tokio::time::{Duration, Instant};

use super::jwks_server::{Conduct, JwksServer, publish};
use super::signing::Signer;
use super::{SECRET, assert_refused, claims, metric, ping};
use crate::instance::{Instance, Settings};
use crate::wait::eventually_true;

async fn instance_of(server: &JwksServer) -> Instance {
    Instance::start(&Settings::new().with("PRESENCE_JWKS_URL", server.url())).await
}

#[tokio::test]
async fn every_kind_of_key_is_used_and_no_secret() {
    let (rsa, p256, ed) = (
        Signer::rsa().named("r"),
        Signer::p256().named("p"),
        Signer::ed25519().named("e"),
    );
    let secret = Signer::secret(SECRET.as_bytes()).named("s");
    let server = JwksServer::start(publish(&[&rsa, &p256, &ed, &secret])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    for signer in [&rsa, &p256, &ed] {
        let answer = ping(&client, "alice", &signer.token(&claims("alice"))).await;
        assert_eq!(
            answer.status,
            200,
            "{}: {}",
            signer.algorithm(),
            answer.body
        );
    }
    let good = claims("alice");
    let nameless = rsa.token_with(&json!({"alg": "RS256"}), &good);
    assert_eq!(ping(&client, "alice", &nameless).await.status, 200);
    for (what, forgery) in [
        ("a published secret", secret.token(&good)),
        (
            "the name of another key",
            rsa.token_with(&json!({"alg": "RS256", "kid": "p"}), &good),
        ),
        (
            "the algorithm of another",
            rsa.token_with(&json!({"alg": "ES256", "kid": "p"}), &good),
        ),
        (
            "a key under our name",
            Signer::rsa().named("r").token(&good),
        ),
        (
            "a path",
            rsa.token_with(&json!({"alg": "RS256", "kid": "../r"}), &good),
        ),
        (
            "a number",
            rsa.token_with(&json!({"alg": "RS256", "kid": 1}), &good),
        ),
    ] {
        assert_refused(&ping(&client, "alice", &forgery).await, 401, what);
    }
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_old_one_forgotten() {
    let (old, new) = (Signer::p256().named("2025"), Signer::p256().named("2026"));
    let server = JwksServer::start(publish(&[&old])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    let (by_old, by_new) = (old.token(&claims("alice")), new.token(&claims("alice")));
    assert_eq!(ping(&client, "alice", &by_old).await.status, 200);
    server.now(publish(&[&old, &new]));
    assert_eq!(
        ping(&client, "alice", &by_new).await.status,
        200,
        "it waits for the new set"
    );
    assert_eq!(ping(&client, "alice", &by_old).await.status, 200);
    let verified = metric(&client, "presence_tokens_verified_total").await;
    assert_eq!(verified, 2, "the old one stayed known");
    server.now(publish(&[&new]));
    let unknown = Signer::p256().named("2027").token(&claims("alice"));
    eventually_true("the withdrawn key's token is forgotten", async || {
        ping(&client, "alice", &unknown).await;
        ping(&client, "alice", &by_old).await.status == 401
    })
    .await;
    assert_eq!(ping(&client, "alice", &by_new).await.status, 200);
}

#[tokio::test]
async fn made_up_key_ids_do_not_reach_the_provider() {
    let signer = Signer::ed25519().named("real");
    let server = JwksServer::start(publish(&[&signer])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    assert_eq!(
        ping(&client, "alice", &signer.token(&claims("alice")))
            .await
            .status,
        200
    );
    let began = Instant::now();
    for each in 0..100 {
        let forgery = Signer::ed25519().named(&format!("made-up-{each}"));
        let answer = ping(&client, "alice", &forgery.token(&claims("alice"))).await;
        assert_refused(&answer, 401, "made up");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(server.requests() <= 5, "{} requests", server.requests());
}

#[tokio::test]
async fn the_last_good_set_stays_in_force() {
    let (signer, stranger) = (Signer::rsa().named("a"), Signer::rsa().named("b"));
    let secret = Signer::secret(SECRET.as_bytes()).named("b");
    let server = JwksServer::start(publish(&[&signer])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    assert_eq!(
        ping(&client, "u", &signer.token(&claims("u"))).await.status,
        200
    );
    let text = |text: &str| Conduct::Answer(200, text.to_owned());
    let set_of = |jwk| Conduct::Publish(json!({"keys": [jwk]}));
    let mut weak = signer.jwk();
    weak["n"] = json!("AQAB");
    let mut for_encryption = stranger.jwk();
    for_encryption["use"] = json!("enc");
    for (index, conduct) in [
        Conduct::Cut,
        Conduct::Answer(500, "{}".to_owned()),
        Conduct::Answer(302, "{}".to_owned()),
        text("<html>welcome to the hotel</html>"),
        text("{\"keys\":{}}"),
        text("{\"keys\":[]}"),
        text("{\"keys\":[1,null,{}]}"),
        Conduct::Flood,
        set_of(secret.jwk()),
        set_of(weak),
        set_of(for_encryption),
        Conduct::Hang,
    ]
    .into_iter()
    .enumerate()
    {
        server.now(conduct);
        let before = server.requests();
        let began = Instant::now();
        let answer = ping(&client, "u", &stranger.token(&claims("u"))).await;
        assert_refused(&answer, 401, "unknown");
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        // One that was never seen, so that it has to be verified.
        let fresh = signer.token(&claims(&format!("user-{index}")));
        let answer = ping(&client, &format!("user-{index}"), &fresh).await;
        assert_eq!(answer.status, 200, "{index}: {}", answer.body);
        if index < 3 {
            eventually_true("it is asked again", async || server.requests() > before).await;
        }
    }
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_is_found_later() {
    let signer = Signer::rsa().named("a");
    let server = JwksServer::start(Conduct::Cut).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    assert_eq!(client.get("/livez").await.status, 200);
    let token = signer.token(&claims("alice"));
    let answer = ping(&client, "alice", &token).await;
    assert_refused(&answer, 503, "nobody can tell");
    assert!(!answer.header("retry-after").is_empty());
    server.now(publish(&[&signer]));
    eventually_true("the keys are found", async || {
        ping(&client, "alice", &token).await.status == 200
    })
    .await;
}
