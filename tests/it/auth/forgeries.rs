//! Forged tokens. Each forgery differs in one detail from a valid token.

use std::fs;
use std::path::PathBuf;
use std::process;

use harness::client::send;
use harness::instance::{Instance, Settings};
use serde_json::{Value, json};

use super::signing::{Signer, signed_part};
use super::{
    API_KEYS, SECRET, assert_refused, claims, now, ping, strict_instance, token, with, without,
};

/// A PEM file that is deleted after its test.
struct PemFile(PathBuf);

impl PemFile {
    fn new(name: &str, pem: &str) -> Self {
        let path = std::env::temp_dir().join(format!("presence-{}-{name}.pem", process::id()));
        fs::write(&path, pem).expect("a temporary file");
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings::new().with("PRESENCE_JWT_PUBLIC_KEY", &self.0.to_string_lossy())
    }
}

impl Drop for PemFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn assert_each_refused(instance: &Instance, forgeries: &[(&str, String)]) {
    let client = instance.client();
    for (what, forgery) in forgeries {
        let answer = ping(&client, "alice", forgery).await;
        assert_refused(&answer, 401, what);
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{what}: {challenge}"
        );
        let signature = forgery.rsplit('.').next().unwrap_or("");
        let shown = signature.len() > 8 && answer.body.contains(signature);
        assert!(
            !shown,
            "{what}: the answer repeats the token: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn every_form_of_valid_claims_is_accepted() {
    let (instance, good) = strict_instance().await;
    let change = |name: &str, value: Value| token(&with(good.clone(), name, value));
    for (what, token) in [
        ("plain", token(&good)),
        ("one audience", change("aud", json!("presence"))),
        ("valid since now", change("nbf", json!(now()))),
        (
            "the issuer's clock is ahead",
            change("nbf", json!(now() + 20)),
        ),
        ("a fraction", change("exp", json!(now() as f64 + 100.5))),
        ("a year away", change("exp", json!(now() + 365 * 86_400))),
        ("a watch list", change("watch", json!(["bob"]))),
        ("a foreign claim", change("scope", json!("presence.write"))),
    ] {
        let answer = ping(&instance.client(), "alice", &token).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_valid_signature_does_not_excuse_invalid_claims() {
    let (instance, good) = strict_instance().await;
    let change = |name: &str, value: Value| token(&with(good.clone(), name, value));
    let remove = |name: &str| token(&without(good.clone(), name));
    let long_id = "a".repeat(129);
    assert_each_refused(
        &instance,
        &[
            ("expired", change("exp", json!(now() - 100))),
            ("just expired", change("exp", json!(now() - 1))),
            ("expired in 1970", change("exp", json!(0))),
            ("expired before 1970", change("exp", json!(-5))),
            (
                "exp is a text",
                change("exp", json!((now() + 300).to_string())),
            ),
            ("exp is null", change("exp", Value::Null)),
            ("exp is a list", change("exp", json!([now() + 300]))),
            ("exp is far away", change("exp", json!(1e18))),
            ("no exp", remove("exp")),
            ("not yet valid", change("nbf", json!(now() + 120))),
            ("nbf is a text", change("nbf", json!("0"))),
            ("no sub", remove("sub")),
            ("sub is a number", change("sub", json!(1))),
            ("sub is a list", change("sub", json!(["alice"]))),
            ("sub is an object", change("sub", json!({"id": "alice"}))),
            ("sub is null", change("sub", Value::Null)),
            ("sub is empty", change("sub", json!(""))),
            ("sub is too long", change("sub", json!(long_id))),
            ("sub has a line break", change("sub", json!("alice\n"))),
            (
                "another issuer",
                change("iss", json!("https://evil.example.com")),
            ),
            (
                "the issuer with a slash",
                change("iss", json!("https://id.example.com/")),
            ),
            ("no issuer", remove("iss")),
            ("another audience", change("aud", json!("presence2"))),
            ("other audiences", change("aud", json!(["a", "b"]))),
            ("no audiences", change("aud", json!([]))),
            ("no audience", remove("aud")),
            ("watch is a text", change("watch", json!("everyone"))),
            ("watch is a number", change("watch", json!(1))),
            ("watch lists numbers", change("watch", json!([1]))),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_header_of_a_token_cannot_select_the_verification() {
    let instance = super::instance_with_credentials().await;
    let good = claims("alice");
    let secret = Signer::secret(SECRET.as_bytes());
    let stranger = Signer::rsa();
    let unsigned = |alg: Value| format!("{}.", signed_part(&json!({"alg": alg}), &good));
    let header = |header: Value| secret.token_with(&header, &good);
    let signed = token(&good);
    let (body, _) = signed.rsplit_once('.').expect("three parts");
    let (_, signature) = signed.rsplit_once('.').expect("three parts");
    let changed = signed_part(&json!({"alg": "HS256"}), &claims("bob"));
    let jwk = json!({"alg": "RS256", "jwk": stranger.jwk()});
    assert_each_refused(
        &instance,
        &[
            ("alg none", unsigned(json!("none"))),
            ("alg None", unsigned(json!("None"))),
            ("alg NONE", unsigned(json!("NONE"))),
            ("alg empty", unsigned(json!(""))),
            ("alg null", unsigned(Value::Null)),
            ("alg HS256, unsigned", unsigned(json!("HS256"))),
            ("alg none, signed", header(json!({"alg": "none"}))),
            ("alg is a list", header(json!({"alg": ["HS256"]}))),
            ("no alg", header(json!({"typ": "JWT"}))),
            ("alg HS384", header(json!({"alg": "HS384"}))),
            ("alg HS512", header(json!({"alg": "HS512"}))),
            ("alg in small letters", header(json!({"alg": "hs256"}))),
            ("alg RS256", header(json!({"alg": "RS256"}))),
            (
                "a critical extension",
                header(json!({"alg": "HS256", "crit": ["b64"], "b64": false})),
            ),
            (
                "another secret",
                Signer::secret(b"another secret of thirty-two bytes").token(&good),
            ),
            ("an empty secret", Signer::secret(b"").token(&good)),
            ("its own key in jwk", stranger.token_with(&jwk, &good)),
            (
                "its own key at jku",
                stranger.token_with(
                    &json!({"alg": "RS256", "jku": "http://127.0.0.1:1/keys"}),
                    &good,
                ),
            ),
            ("another's signature", format!("{changed}.{signature}")),
            ("half a signature", format!("{body}.{}", &signature[..20])),
            ("no signature", body.to_owned()),
            ("an empty signature", format!("{body}.")),
            ("four parts", format!("{signed}.{signature}")),
            ("padding", format!("{signed}=")),
        ],
    )
    .await;
}

#[tokio::test]
async fn references_in_a_header_are_ignored() {
    let instance = super::instance_with_credentials().await;
    let secret = Signer::secret(SECRET.as_bytes());
    let header = |header: Value| secret.token_with(&header, &claims("alice"));
    for ignored in [
        json!({"alg": "HS256", "kid": "../../../../dev/null"}),
        json!({"alg": "HS256", "kid": "' OR 1=1 --"}),
        json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys", "x5u": "file:///etc/passwd"}),
    ] {
        let answer = ping(&instance.client(), "alice", &header(ignored.clone())).await;
        assert_eq!(answer.status, 200, "{ignored}: {}", answer.body);
    }
}

#[tokio::test]
async fn malformed_tokens_are_refused() {
    let instance = super::instance_with_credentials().await;
    let huge = token(&with(
        claims("alice"),
        "watch",
        json!(["w".repeat(100), "x".repeat(8_000)]),
    ));
    assert!(
        huge.len() > 8_192,
        "the token is valid except for its length"
    );
    assert_each_refused(
        &instance,
        &[
            ("empty", String::new()),
            ("a word", "token".to_owned()),
            ("dots", "..".to_owned()),
            ("more dots", ".".repeat(5_000)),
            ("no JSON", "bm90.anNvbg.YQ".to_owned()),
            ("no base64", "!!!.???.***".to_owned()),
            ("deep JSON", format!("{}.e30.", "W1tb".repeat(1_500))),
            ("half a key", "read-key-".to_owned()),
            ("all keys", API_KEYS.to_owned()),
            ("the name of a key", "board".to_owned()),
            ("the secret itself", SECRET.to_owned()),
            ("huge", huge),
            ("huge garbage", "x".repeat(15_000)),
        ],
    )
    .await;
    let client = instance.client();
    for (what, value) in [
        ("basic", "Basic YWxpY2U6c2VjcmV0"),
        ("no scheme", "read-key-0123456789"),
        ("another scheme", "Token read-key-0123456789"),
    ] {
        let request = client
            .of_user("alice", "ping")
            .header("Authorization", value);
        let answer = send(request).await;
        assert_refused(&answer, 401, what);
        assert!(
            !answer.header("www-authenticate").contains("error"),
            "{what}"
        );
    }
    let good = format!("Bearer {}", token(&claims("alice")));
    let twice = client
        .of_user("alice", "ping")
        .header("Authorization", &good);
    let answer = send(twice.header("Authorization", &good)).await;
    assert_refused(&answer, 401, "twice");
}

/// A verifier that trusts the `alg` of the token would use the public key as an HMAC secret.
#[tokio::test]
async fn a_public_key_is_not_used_as_a_secret() {
    for (name, signer) in [
        ("rsa", Signer::rsa()),
        ("p256", Signer::p256()),
        ("ed25519", Signer::ed25519()),
    ] {
        let pem = signer.public_pem();
        let file = PemFile::new(name, &pem);
        let instance = Instance::start(&file.settings()).await;
        let good = claims("alice");
        let answer = ping(&instance.client(), "alice", &signer.token(&good)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        let mut forgeries = vec![
            (
                "the PEM as a secret",
                Signer::secret(pem.as_bytes()).token(&good),
            ),
            (
                "the PEM, trimmed",
                Signer::secret(pem.trim_end().as_bytes()).token(&good),
            ),
            ("another RSA key", Signer::rsa().token(&good)),
            ("another P-256 key", Signer::p256().token(&good)),
            ("another Ed25519 key", Signer::ed25519().token(&good)),
        ];
        for alg in [
            "none", "HS256", "RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA",
        ] {
            if alg != signer.algorithm() {
                let header = json!({"alg": alg});
                forgeries.push((alg, signer.token_with(&header, &good)));
            }
        }
        if name == "rsa" {
            forgeries.push(("PSS", signer.pss_token(&good)));
        }
        assert_each_refused(&instance, &forgeries).await;
    }
}

#[tokio::test]
async fn an_invalid_public_key_stops_the_start() {
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let nothing = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for (name, pem) in [
        ("private", private),
        ("nothing", nothing),
        ("text", "a key"),
        ("empty", ""),
    ] {
        let file = PemFile::new(name, pem);
        let ended = Instance::run_to_its_end(&file.settings(), &[]).await;
        assert_eq!(ended.status.code(), Some(2), "{name}");
        assert!(
            ended.log.contains("PRESENCE_JWT_PUBLIC_KEY"),
            "{}",
            ended.log
        );
        assert!(ended.output.is_empty());
    }
}
