//! Invalid claims: the error names the claim and the reason.

use harness::instance::Instance;
use serde_json::{Value, json};

use super::{
    assert_refused, claims, instance_with_credentials, now, ping, strict_instance, token, with,
    without,
};

const YEAR: u64 = 365 * 86_400;

async fn refused(instance: &Instance, claims: &Value) -> (String, String) {
    let answer = ping(&instance.client(), "alice", &token(claims)).await;
    let problem = assert_refused(&answer, 401, &claims.to_string());
    let text = |member: &str| problem[member].as_str().expect("a text").to_owned();
    let challenge = answer.header("www-authenticate");
    let detail = text("detail");
    // RFC 6750, section 3, allows neither of the two characters.
    assert!(!detail.contains(['"', '\\']), "{detail}");
    let description = format!("error_description=\"{detail}\"");
    assert!(challenge.ends_with(&description), "{challenge}");
    (text("type"), detail)
}

#[tokio::test]
async fn an_error_names_the_claim() {
    let (instance, good) = strict_instance().await;
    let good = with(good, "aud", json!("presence"));
    assert_eq!(
        ping(&instance.client(), "alice", &token(&good))
            .await
            .status,
        200
    );
    let milliseconds = (now() + 300) * 1_000;
    for (name, value, why) in [
        ("sub", json!(42), "string"),
        ("sub", json!(["alice"]), "string"),
        ("sub", json!(""), "1 to 128"),
        ("exp", json!(milliseconds), "milliseconds"),
        ("exp", json!(now() + 2 * YEAR), "year"),
        ("exp", json!(1e18), "year"),
        ("exp", json!((now() + 300).to_string()), "number"),
        ("exp", json!("2026-11-24T08:00:00Z"), "number"),
        ("nbf", json!(milliseconds), "milliseconds"),
        ("nbf", json!(now() + 3_600), "not valid yet"),
        ("nbf", json!("0"), "number"),
        ("watch", json!(5), "list"),
        ("watch", json!("everyone"), "asterisk"),
        ("watch", json!({"bob": true}), "list"),
        ("watch", json!(["bob", 5]), "list"),
        ("watch", json!(true), "list"),
        ("groups", json!(5), "list"),
        ("groups", json!("mine"), "own"),
        ("groups", json!(["team", 5]), "list"),
        ("groups", json!({"own": true}), "list"),
        ("join", json!("own"), "asterisk"),
        ("join", json!([5]), "list"),
        ("iss", json!("https://evil.example.com"), "issuer"),
        ("iss", json!(5), "string"),
        ("aud", json!("another"), "audience"),
        ("aud", json!(5), "string"),
    ] {
        let (kind, detail) = refused(&instance, &with(good.clone(), name, value)).await;
        assert!(kind.ends_with(":bad-credential"), "{kind}");
        let names_claim = detail.starts_with(&format!("{name}: "));
        assert!(names_claim && detail.contains(why), "{name}: {detail}");
    }
    for name in ["sub", "exp", "iss", "aud"] {
        let (_, detail) = refused(&instance, &without(good.clone(), name)).await;
        assert!(detail.starts_with(&format!("{name}: ")), "{name}: {detail}");
    }
}

/// If the service ignored a misspelt claim, the user of the token could see fewer users, without any error.
#[tokio::test]
async fn a_misspelt_claim_is_named() {
    let instance = instance_with_credentials().await;
    for (name, meant) in [
        ("Watch", "watch"),
        ("WATCH", "watch"),
        ("wacth", "watch"),
        ("watchs", "watch"),
        ("wach", "watch"),
        ("Nbf", "nbf"),
        ("AUD", "aud"),
        ("group", "groups"),
        ("Groups", "groups"),
        ("joins", "join"),
    ] {
        let claims = with(claims("alice"), name, json!(["bob"]));
        let (kind, detail) = refused(&instance, &claims).await;
        assert!(kind.ends_with(":bad-credential"), "{kind}");
        assert!(
            detail.starts_with(&format!("{meant}: ")),
            "{name}: {detail}"
        );
    }
    // The service ignores all other claims.
    for name in [
        "batch", "match", "use", "email", "iat", "jti", "azp", "scope", "",
    ] {
        let claims = with(claims("alice"), name, json!(["bob"]));
        let answer = ping(&instance.client(), "alice", &token(&claims)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
}

#[tokio::test]
async fn claims_are_an_object() {
    let instance = instance_with_credentials().await;
    let list = json!(["alice", now() + 300, null, null, null, null]);
    refused(&instance, &list).await;
    refused(&instance, &json!("alice")).await;
}

#[tokio::test]
async fn a_token_may_live_for_a_year() {
    let instance = instance_with_credentials().await;
    for exp in [now() + 60, now() + YEAR, now() + YEAR + 86_400] {
        let token = token(&with(claims("alice"), "exp", json!(exp)));
        let answer = ping(&instance.client(), "alice", &token).await;
        assert_eq!(answer.status, 200, "{exp}: {}", answer.body);
    }
}

/// A client reacts to an expired token with a fresh token, and to any other invalid token with an error message.
#[tokio::test]
async fn an_expired_token_has_a_type_of_its_own() {
    let instance = instance_with_credentials().await;
    for exp in [json!(now() - 1), json!(0), json!(-5)] {
        let (kind, _) = refused(&instance, &with(claims("alice"), "exp", exp)).await;
        assert_eq!(kind, "urn:presence:problem:token-expired");
    }
    let answer = ping(&instance.client(), "alice", "forged").await;
    let problem = assert_refused(&answer, 401, "forged");
    assert_eq!(problem["type"], "urn:presence:problem:bad-credential");
}
