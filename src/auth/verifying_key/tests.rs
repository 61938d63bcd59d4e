//! Properties of tokens and published keys that hold for every input.

use std::sync::Arc;

use super::super::token::{Watch, unix_now};
use super::*;
use crate::config::AuthConfig;
use crate::model::UserId;
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn rules() -> ClaimRules {
    ClaimRules::new(&AuthConfig::default())
}

fn key() -> Arc<VerifyingKey> {
    let key = VerifyingKey::from_secret(&Secret::from(SECRET), &rules());
    Arc::new(key.expect("long enough"))
}

fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
}

/// A claim of any type, mostly of the right type.
fn claim(good: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    let bad = select(vec![
        json!(null),
        json!(true),
        json!([1]),
        json!({"a": "b"}),
        json!(""),
    ]);
    prop_oneof![6 => good.prop_map(Some), 1 => bad.prop_map(Some), 1 => Just(None)]
}

fn exp() -> impl Strategy<Value = Value> {
    let far = i64::try_from(unix_now()).expect("a date") + 1_000;
    prop_oneof![
        (far..far + 30_000_000).prop_map(Value::from),
        // More than a year ahead, as milliseconds are.
        (far + 32_000_000..i64::MAX).prop_map(Value::from),
        (-far..far - 2_000).prop_map(Value::from),
        (-1e30_f64..1e30).prop_map(Value::from),
        // Within the tolerance that only `nbf` has.
        (far - 1_050..far - 1_002).prop_map(Value::from),
    ]
}

/// Whether the claims are valid, by a second implementation of the rules.
fn expected(sub: &Option<Value>, exp: &Option<Value>, watch: &Option<Value>) -> bool {
    let sub = sub.as_ref().and_then(Value::as_str);
    let exp = exp.as_ref().and_then(Value::as_f64);
    let watch = match watch {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text == "*",
        Some(Value::Array(list)) => list.iter().all(Value::is_string),
        Some(_) => false,
    };
    sub.is_some_and(|sub| UserId::new(sub).is_ok())
        && exp.is_some_and(|exp| exp > unix_now() as f64 && exp < unix_now() as f64 + 31_700_000.0)
        && watch
}

/// Whether the key did not sign the token. The answer to a forger says nothing more.
fn is_not_signed(token: &str) -> bool {
    key().verify(token).is_none()
}

proptest! {
    #[test]
    fn claims_are_accepted_if_sub_exp_and_watch_are_valid(
        sub in claim("[a-z]{1,8}|\\PC{0,40}|[a-z]{126,130}|[\0-a]{1,2}".prop_map(Value::from)),
        exp in claim(exp()),
        watch in claim(prop_oneof![
            vec("[a-z]{1,3}|[\0-a]{0,1}", 0..5).prop_map(Value::from),
            select(vec!["*", "**", "alice"]).prop_map(Value::from),
        ]),
    ) {
        let mut claims = json!({});
        for (name, value) in [("sub", &sub), ("exp", &exp), ("watch", &watch)] {
            if let Some(value) = value {
                claims[name] = value.clone();
            }
        }
        let verified = key().verify(&signed(&claims)).expect("a valid signature");
        prop_assert_eq!(verified.is_ok(), expected(&sub, &exp, &watch), "{}", claims);
        if let Ok(token) = verified {
            prop_assert_eq!(Some(token.user.as_str()), claims["sub"].as_str());
            let everyone = matches!(token.watch, Watch::Everyone);
            prop_assert_eq!(everyone, claims["watch"] == "*");
            for id in claims["watch"].as_array().into_iter().flatten() {
                let id = UserId::new(id.as_str().unwrap_or(""));
                prop_assert!(id.is_err() || id.is_ok_and(|id| token.watch.includes(&id)));
            }
        }
    }

    #[test]
    fn a_change_anywhere_in_a_token_invalidates_its_signature(
        at: Index,
        end: Index,
        with in "[A-Za-z0-9_.=-]{0,3}|\\PC{0,2}",
    ) {
        let good = signed(&json!({"sub": "alice", "exp": unix_now() + 1_000}));
        prop_assert!(key().verify(&good).is_some_and(|token| token.is_ok()));
        let (from, to) = (at.index(good.len()), end.index(good.len() + 1));
        let changed = format!("{}{with}{}", &good[..from], &good[from.max(to)..]);
        prop_assume!(changed != good);
        prop_assert!(is_not_signed(&changed));
    }

    #[test]
    fn arbitrary_text_is_not_a_token(text in "\\PC{0,40}|[A-Za-z0-9_-]{0,20}(\\.[A-Za-z0-9_-]{0,20}){0,4}") {
        prop_assert!(is_not_signed(&text));
    }

    #[test]
    fn a_published_key_is_used_if_it_is_strong_and_for_signatures(
        (kind, algorithm, sizes) in select(vec![
            (json!({"kty": "RSA", "e": "AQAB"}), "RS256", [255, 256]),
            (json!({"kty": "EC", "crv": "P-256"}), "ES256", [31, 32]),
            (json!({"kty": "EC", "crv": "P-384"}), "unsupported", [48, 48]),
            (json!({"kty": "OKP", "crv": "Ed25519"}), "EdDSA", [31, 32]),
            (json!({"kty": "oct"}), "unsupported", [32, 32]),
        ]),
        large: bool,
        usage in option::of(select(vec!["sig", "enc", "other"])),
        named in option::of(select(vec!["RS256", "ES256", "EdDSA", "HS256", "RS512", "other"])),
        kid in option::of("\\PC{0,9}"),
    ) {
        let number = URL_SAFE_NO_PAD.encode(vec![0x81; sizes[usize::from(large)]]);
        let mut jwk = kind;
        for name in ["n", "x", "y", "k"] {
            jwk[name] = json!(number);
        }
        for (name, value) in [("use", usage), ("alg", named), ("kid", kid.as_deref())] {
            if let Some(value) = value {
                jwk[name] = json!(value);
            }
        }
        let good = algorithm != "unsupported"
            && large
            && usage.is_none_or(|usage| usage == "sig")
            && named.is_none_or(|named| named == algorithm);
        let key = VerifyingKey::from_jwk(&jwk, &rules());
        prop_assert_eq!(key.is_some(), good, "{}", jwk);
        if let Some(key) = key {
            prop_assert_eq!(format!("{:?}", key.algorithm), algorithm);
            prop_assert_eq!(&key.kid, &kid);
            let verified = Arc::new(key).verify(&signed(&json!({"sub": "alice", "exp": unix_now() + 1_000})));
            prop_assert!(verified.is_none());
        }
    }
}
