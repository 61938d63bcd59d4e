//! How often a user may call.

use reqwest::Method;
use serde_json::json;

use super::{
    READ_KEY, WRITE_KEY, assert_refused, call, claims, closed, closed_instance, metric, ping,
    token, with,
};
use crate::instance::{Instance, Settings};
use crate::wait::eventually_true;

#[tokio::test]
async fn a_user_who_calls_too_often_is_told_when_to_come_back() {
    let instance = closed_instance().await;
    let client = instance.client();
    // Two tokens of one user share its allowance.
    let tokens = [
        token(&claims("alice")),
        token(&with(claims("alice"), "jti", json!(2))),
    ];
    let mut answered = 0;
    let refused = loop {
        let answer = ping(&client, "alice", &tokens[answered % 2]).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
        assert!(answered < 200, "the default is five a second");
    };
    assert!(
        answered >= 20,
        "a burst of twenty is allowed, not {answered}"
    );
    assert_refused(&refused, 429, "too often");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        ping(&client, "bob", &token(&claims("bob"))).await.status,
        200,
        "others go on"
    );
    assert!(metric(&client, "presence_calls_limited_total").await >= 1);
    eventually_true("the allowance refills", async || {
        ping(&client, "alice", &tokens[0]).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn keys_are_not_limited_and_neither_are_users_where_it_is_off() {
    let instance = closed_instance().await;
    let client = instance.client();
    for _ in 0..100 {
        assert_eq!(ping(&client, "alice", WRITE_KEY).await.status, 200);
        let count = call(&client, Method::GET, "/v1/online/count", READ_KEY).await;
        assert_eq!(count.status, 200);
    }
    let instance = Instance::start(&closed().with("PRESENCE_RATE_LIMIT", "off")).await;
    let alice = token(&claims("alice"));
    for _ in 0..100 {
        assert_eq!(ping(&instance.client(), "alice", &alice).await.status, 200);
    }
}

#[tokio::test]
async fn the_open_door_is_not_limited() {
    let instance = Instance::start(&Settings::new().with("PRESENCE_RATE_LIMIT", "1/m")).await;
    for _ in 0..100 {
        instance.client().ping("alice").await;
    }
}
