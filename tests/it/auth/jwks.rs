//! The JWK set of an identity provider: rotated and withdrawn keys, and a provider that is down, slow or malicious.

use harness::instance::{Instance, Settings};
use harness::sse::{End, Stream};
use harness::wait::eventually_true;
use serde_json::json;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Duration, Instant};

use super::jwks_server::{Conduct, JwksServer, publish};
use super::signing::Signer;
use super::{SECRET, assert_refused, claims, metric, ping};

async fn instance_of(server: &JwksServer) -> Instance {
    Instance::start(&Settings::new().with("PRESENCE_JWKS_URL", server.url())).await
}

#[tokio::test]
async fn every_type_of_public_key_is_used_and_secrets_are_ignored() {
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
async fn a_new_key_is_used_and_a_withdrawn_key_is_not() {
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
        "the call waits for the new set"
    );
    assert_eq!(ping(&client, "alice", &by_old).await.status, 200);
    let verified = metric(&client, "presence_tokens_verified_total").await;
    assert_eq!(verified, 2, "the first token stays cached");
    server.now(publish(&[&new]));
    let unknown = Signer::p256().named("2027").token(&claims("alice"));
    eventually_true("the token of the withdrawn key is invalid", async || {
        ping(&client, "alice", &unknown).await;
        ping(&client, "alice", &by_old).await.status == 401
    })
    .await;
    assert_eq!(ping(&client, "alice", &by_new).await.status, 200);
}

/// Otherwise a stream with a stolen key would continue until its token expires.
#[tokio::test]
async fn only_the_streams_of_a_withdrawn_key_end() {
    let (old, new) = (Signer::p256().named("old"), Signer::p256().named("new"));
    let server = JwksServer::start(publish(&[&old, &new])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    let open = async |signer: &Signer| {
        let request = Stream::request(&client, "?userIds=alice");
        Stream::send(request.bearer_auth(signer.token(&claims("alice")))).await
    };
    let (of_old, mut of_new) = (open(&old).await, open(&new).await);
    server.now(publish(&[&new]));
    let unknown = Signer::p256().named("unknown").token(&claims("alice"));
    eventually_true("the key is withdrawn", async || {
        ping(&client, "alice", &unknown).await;
        ping(&client, "alice", &old.token(&claims("alice")))
            .await
            .status
            == 401
    })
    .await;
    let end = of_old.end(Duration::from_secs(5)).await;
    assert_eq!(end, Some(End::Clean));
    let alive = ping(&client, "alice", &new.token(&claims("alice"))).await;
    assert_eq!(alive.status, 200);
    assert_eq!(of_new.next().await.brief(), "online alice");
}

/// Each tried key costs a verification, and anyone can make tokens without a key id.
#[tokio::test]
async fn a_token_without_a_key_id_is_verified_with_at_most_four_keys() {
    let names = ["a", "b", "c", "d", "e"];
    let keys = names.map(|name| Signer::ed25519().named(name));
    let few: Vec<_> = keys.iter().take(4).collect();
    let server = JwksServer::start(publish(&few)).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    let nameless = |key: &Signer| key.token_with(&json!({"alg": "EdDSA"}), &claims("alice"));
    for key in &few {
        assert_eq!(ping(&client, "alice", &nameless(key)).await.status, 200);
    }
    let all: Vec<_> = keys.iter().collect();
    let server = JwksServer::start(publish(&all)).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    for key in &all {
        let named = ping(&client, "alice", &key.token(&claims("alice"))).await;
        assert_eq!(named.status, 200, "{}", named.body);
        let refused = ping(&client, "alice", &nameless(key)).await;
        let problem = assert_refused(&refused, 401, "of five keys");
        let detail = problem["detail"].as_str();
        assert!(
            detail.is_some_and(|detail| detail.contains("kid")),
            "{problem}"
        );
    }
}

/// A refusal is remembered for ten seconds, but only for the same set of keys.
#[tokio::test]
async fn a_refused_token_is_accepted_once_its_key_is_published() {
    let (known, late) = (Signer::ed25519(), Signer::ed25519());
    let server = JwksServer::start(publish(&[&known])).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    let token = late.token(&claims("alice"));
    for _ in 0..3 {
        assert_refused(&ping(&client, "alice", &token).await, 401, "an unknown key");
    }
    server.now(publish(&[&known, &late]));
    let unknown = Signer::ed25519().named("unknown").token(&claims("alice"));
    eventually_true("the new key is used", async || {
        ping(&client, "alice", &unknown).await;
        ping(&client, "alice", &token).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn unknown_key_ids_cause_few_fetches() {
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
        assert_refused(&answer, 401, "an unknown key id");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(server.requests() <= 5, "{} requests", server.requests());
}

/// The failures of a provider that has published a valid set before.
fn misconduct(own: &Signer, stranger: &Signer) -> Vec<(&'static str, Conduct)> {
    let text = |text: &str| Conduct::Answer(200, text.to_owned());
    let set_of = |jwk| Conduct::Publish(json!({"keys": [jwk]}));
    let secret = Signer::secret(SECRET.as_bytes()).named("stranger");
    let mut weak = own.jwk();
    weak["n"] = json!("AQAB");
    let mut for_encryption = stranger.jwk();
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = stranger.jwk();
    other_algorithm["alg"] = json!("PS256");
    vec![
        ("it is down", Conduct::Cut),
        ("it hangs", Conduct::Hang),
        ("it never ends", Conduct::Flood),
        (
            "an error with keys",
            Conduct::Answer(500, json!({"keys": [stranger.jwk()]}).to_string()),
        ),
        (
            "a redirect",
            Conduct::Answer(302, json!({"keys": [stranger.jwk()]}).to_string()),
        ),
        ("a web page", text("<html>welcome to the hotel</html>")),
        ("no list", text("{\"keys\":{}}")),
        ("no keys", text("{\"keys\":[]}")),
        ("no key among them", text("{\"keys\":[1,null,{}]}")),
        ("a secret", set_of(secret.jwk())),
        ("a weak key", set_of(weak)),
        ("a key for encryption", set_of(for_encryption)),
        ("a key for another algorithm", set_of(other_algorithm)),
    ]
}

#[tokio::test]
async fn the_last_good_set_stays_in_force() {
    let (own, stranger) = (Signer::rsa().named("own"), Signer::rsa().named("stranger"));
    let here = LocalSet::new();
    let mut cases = JoinSet::new();
    for (what, conduct) in misconduct(&own, &stranger) {
        let good = publish(&[&own]);
        let tokens = ["alice", "bob"].map(|user| own.token(&claims(user)));
        let unknown = stranger.token(&claims("alice"));
        cases.spawn_local_on(
            async move {
                let server = JwksServer::start(good).await;
                let instance = instance_of(&server).await;
                let client = instance.client();
                assert_eq!(ping(&client, "alice", &tokens[0]).await.status, 200);
                server.now(conduct);
                let began = Instant::now();
                assert_refused(&ping(&client, "alice", &unknown).await, 401, what);
                assert!(
                    began.elapsed() < Duration::from_secs(3),
                    "{what}: {:?}",
                    began.elapsed()
                );
                eventually_true("the set is fetched again", async || server.requests() > 1).await;
                // The first token is cached; the second token must be verified.
                for (user, token) in ["alice", "bob"].into_iter().zip(&tokens) {
                    let answer = ping(&client, user, token).await;
                    assert_eq!(answer.status, 200, "{what}: {}", answer.body);
                }
                assert_refused(&ping(&client, "alice", &unknown).await, 401, what);
            },
            &here,
        );
    }
    here.run_until(cases.join_all()).await;
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_is_used_later() {
    let signer = Signer::rsa().named("a");
    let server = JwksServer::start(Conduct::Cut).await;
    let instance = instance_of(&server).await;
    let client = instance.client();
    assert_eq!(client.get("/livez").await.status, 200);
    let token = signer.token(&claims("alice"));
    let answer = ping(&client, "alice", &token).await;
    assert_refused(&answer, 503, "no keys yet");
    assert!(!answer.header("retry-after").is_empty());
    server.now(publish(&[&signer]));
    eventually_true("the keys are fetched", async || {
        ping(&client, "alice", &token).await.status == 200
    })
    .await;
}
