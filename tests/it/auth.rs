//! Who may do what: forged, foreign and good credentials, and what each of the good ones opens.

mod claims;
mod exposure;
mod forgeries;
mod jwks;
mod jwks_server;
mod jwks_tls;
mod log;
mod open_mode;
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

/// A secret of the least length that is accepted.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Two API keys, one for each scope.
const API_KEYS: &str =
    "board:presence.read:read-key-0123456789,backend:presence.write:write-key-0123456789";
const READ_KEY: &str = "read-key-0123456789";
const WRITE_KEY: &str = "write-key-0123456789";

/// An instance that takes HS256 tokens and API keys.
async fn closed_instance() -> Instance {
    Instance::start(&closed()).await
}

fn closed() -> Settings {
    Settings::new()
        .with("PRESENCE_JWT_SECRET", SECRET)
        .with("PRESENCE_API_KEYS", API_KEYS)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}

/// The claims of a token that is good for `user`, for some minutes.
fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + 300})
}

/// `claims` with one of them set.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// `claims` without one of them.
fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

/// A good HS256 token.
fn token(claims: &Value) -> String {
    Signer::secret(SECRET.as_bytes()).token(claims)
}

/// A call with a bearer credential.
async fn call(client: &Client, method: Method, path: &str, credential: &str) -> Answer {
    send(client.request(method, path).bearer_auth(credential)).await
}

async fn ping(client: &Client, user: &str, credential: &str) -> Answer {
    send(client.of_user(user, "ping").bearer_auth(credential)).await
}

/// A refusal is a problem document, and a 401 says what to bring.
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

/// The value of a metric that has no labels; `line` may also name labels.
async fn metric(client: &Client, line: &str) -> u64 {
    let text = client.get("/metrics").await.body;
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}
