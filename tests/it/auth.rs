//! Authentication and permissions: valid, forged and foreign credentials, and what each caller may do.

mod claims;
mod exposure;
mod forgeries;
mod groups;
mod joining;
mod jwks;
mod jwks_server;
pub(crate) mod jwks_tls;
mod log;
mod open_mode;
mod own_groups_crowd;
mod permissions;
mod rate_limit;
mod signing;
mod streams;

use std::time::{SystemTime, UNIX_EPOCH};

use harness::client::{Answer, Client, media_type, send};
use harness::instance::{Instance, Settings};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) use signing::Signer;

/// A secret of the least accepted length.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Two API keys, one per scope.
const API_KEYS: &str =
    "board:presence.read:read-key-0123456789,backend:presence.write:write-key-0123456789";
const READ_KEY: &str = "read-key-0123456789";
const WRITE_KEY: &str = "write-key-0123456789";

/// An instance that accepts HS256 tokens and API keys.
async fn instance_with_credentials() -> Instance {
    Instance::start(&settings_with_credentials()).await
}

fn settings_with_credentials() -> Settings {
    Settings::new()
        .with("PRESENCE_JWT_SECRET", SECRET)
        .with("PRESENCE_API_KEYS", API_KEYS)
}

/// An instance that accepts one issuer and one audience, and the claims of a valid token with several audiences.
async fn strict_instance() -> (Instance, Value) {
    let settings = Settings::new()
        .with("PRESENCE_JWT_SECRET", SECRET)
        .with("PRESENCE_JWT_ISSUER", "https://id.example.com")
        .with("PRESENCE_JWT_AUDIENCE", "presence");
    let instance = Instance::start(&settings).await;
    let good = with(claims("alice"), "iss", json!("https://id.example.com"));
    let good = with(good, "aud", json!(["other", "presence"]));
    (instance, good)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}

/// The claims of a token of `user` that is valid for five minutes.
fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + 300})
}

/// `claims` with one claim set.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// `claims` without one claim.
fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

/// A valid HS256 token.
fn token(claims: &Value) -> String {
    Signer::secret(SECRET.as_bytes()).token(claims)
}

/// Makes a call with a bearer credential.
async fn call(client: &Client, method: Method, path: &str, credential: &str) -> Answer {
    send(client.request(method, path).bearer_auth(credential)).await
}

async fn ping(client: &Client, user: &str, credential: &str) -> Answer {
    send(client.of_user(user, "ping").bearer_auth(credential)).await
}

/// Asserts that the answer is a problem document with this status, and that a 401 has a challenge.
fn assert_refused(answer: &Answer, status: u16, what: &str) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.body);
    assert_eq!(media_type(&answer.headers), "application/problem+json");
    let challenge = answer.header("www-authenticate");
    assert_eq!(
        status == 401,
        challenge.starts_with("Bearer") && !challenge.contains("scope")
    );
    let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(problem["status"], status);
    assert!(
        problem["type"]
            .as_str()
            .is_some_and(|kind| kind != "about:blank")
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty())
    );
    problem
}

/// The value of a metric; 0 if it is absent.
async fn metric(client: &Client, name: &str) -> u64 {
    client.metric(name).await.unwrap_or(0)
}
