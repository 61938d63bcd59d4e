//! The rate limit of users.

use harness::client::send;
use harness::instance::{Instance, Settings};
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    READ_KEY, WRITE_KEY, assert_refused, call, claims, instance_with_credentials, metric, ping,
    settings_with_credentials, token, with,
};

#[tokio::test]
async fn a_rate_limited_user_gets_429_with_retry_after() {
    let instance = instance_with_credentials().await;
    let client = instance.client();
    // Two tokens of one user share one allowance.
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
        assert!(answered < 200, "the default is 5/s");
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
        "other users are not limited"
    );
    assert!(metric(&client, "presence_calls_limited_total").await >= 1);
    eventually_true("the allowance refills", async || {
        ping(&client, "alice", &tokens[0]).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn api_keys_are_not_limited_and_off_disables_the_limit() {
    let instance = instance_with_credentials().await;
    let client = instance.client();
    for _ in 0..100 {
        assert_eq!(ping(&client, "alice", WRITE_KEY).await.status, 200);
        let count = call(&client, Method::GET, "/v1/online/count", READ_KEY).await;
        assert_eq!(count.status, 200);
    }
    let instance =
        Instance::start(&settings_with_credentials().with("PRESENCE_RATE_LIMIT", "off")).await;
    let alice = token(&claims("alice"));
    for _ in 0..100 {
        assert_eq!(ping(&instance.client(), "alice", &alice).await.status, 200);
    }
}

#[tokio::test]
async fn anonymous_callers_are_not_limited() {
    let instance = Instance::start(&Settings::new().with("PRESENCE_RATE_LIMIT", "1/m")).await;
    for _ in 0..100 {
        instance.client().ping("alice").await;
    }
}

/// Each tab disconnects when it closes, and a closing tab cannot retry.
#[tokio::test]
async fn all_tabs_of_a_user_may_close_at_once() {
    let settings = settings_with_credentials().with("PRESENCE_RATE_LIMIT", "30/m");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let alice = token(&claims("alice"));
    let tabs: Vec<_> = (0..40).map(|tab| format!("tab-{tab}")).collect();
    for tab in &tabs {
        let connect = client.of_connection("alice", "connect", tab);
        assert_eq!(send(connect.bearer_auth(WRITE_KEY)).await.status, 200);
    }
    let look = async || call(&client, Method::GET, "/v1/users/alice", &alice).await;
    while look().await.status == 200 {}
    for tab in &tabs {
        let disconnect = client.of_connection("alice", "disconnect", tab);
        let answer = send(disconnect.bearer_auth(&alice)).await;
        assert_eq!(answer.status, 200, "{tab}: {}", answer.body);
    }
    let user = call(&client, Method::GET, "/v1/users/alice", READ_KEY).await;
    assert_eq!(user.ok::<Value>()["online"], false);
}

#[tokio::test]
async fn the_burst_of_disconnects_is_the_connection_limit_of_a_user() {
    let settings = settings_with_credentials()
        .with("PRESENCE_RATE_LIMIT", "1/m")
        .with("PRESENCE_USER_CONNECTIONS", "3");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let alice = token(&claims("alice"));
    let disconnect = async || send(client.of_user("alice", "disconnect").bearer_auth(&alice)).await;
    for _ in 0..3 {
        assert_eq!(disconnect().await.status, 200);
    }
    let answer = disconnect().await;
    assert_refused(&answer, 429, "the fourth disconnect");
    assert!(!answer.header("retry-after").is_empty());
    let look = call(&client, Method::GET, "/v1/users/alice", &alice).await;
    assert_eq!(look.status, 200, "other calls have a quota of their own");
}

#[tokio::test]
async fn a_token_changes_the_status_of_its_user_ten_times_a_minute() {
    let instance = instance_with_credentials().await;
    let client = instance.client();
    let alice = token(&claims("alice"));
    let change = async |number: u32, user: &str, credential: &str| {
        let path = format!("/v1/users/{user}/status");
        let request = match number % 2 {
            0 => client
                .request(Method::PUT, &path)
                .json(&json!({"status": "dnd"})),
            _ => client.request(Method::DELETE, &path),
        };
        send(request.bearer_auth(credential)).await
    };
    for number in 0..10 {
        assert_eq!(change(number, "alice", &alice).await.status, 200);
    }
    for number in 0..2 {
        let answer = change(number, "alice", &alice).await;
        assert_refused(&answer, 429, "the eleventh change");
        assert!(answer.header("retry-after").parse::<u64>().is_ok());
    }
    assert_eq!(ping(&client, "alice", &alice).await.status, 200);
    for number in 0..2 {
        let bob = token(&claims("bob"));
        assert_refused(&change(number, "alice", &bob).await, 403, "another user");
        assert_refused(
            &change(number, "alice", READ_KEY).await,
            403,
            "the wrong scope",
        );
    }
    for number in 0..30 {
        assert_eq!(change(number, "alice", WRITE_KEY).await.status, 200);
    }
}

/// A refused call takes nothing of a quota that only some calls have. It counts like any other call.
#[tokio::test]
async fn a_refused_call_takes_nothing_of_a_special_quota() {
    let settings = settings_with_credentials()
        .with("PRESENCE_RATE_LIMIT", "1/m")
        .with("PRESENCE_USER_CONNECTIONS", "3");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let (alice, bob) = (token(&claims("alice")), token(&claims("bob")));
    let put = async |user: &str, status: &str| {
        let path = format!("/v1/users/{user}/status");
        let request = client.request(Method::PUT, &path).bearer_auth(&alice);
        send(request.json(&json!({"status": status}))).await
    };
    for _ in 0..4 {
        assert_refused(&put("bob", "dnd").await, 403, "another user");
        assert_refused(&put("alice", "No!").await, 400, "an invalid status");
    }
    for number in 0..10 {
        assert_eq!(put("alice", "dnd").await.status, 200, "{number}");
    }
    assert_refused(&put("alice", "dnd").await, 429, "the eleventh change");
    // The burst of all calls is twenty.
    assert_refused(&put("bob", "dnd").await, 403, "the last call");
    assert_refused(&put("bob", "dnd").await, 429, "one more call");

    let disconnect =
        async |user: &str| send(client.of_user(user, "disconnect").bearer_auth(&bob)).await;
    for _ in 0..6 {
        assert_refused(&disconnect("alice").await, 403, "another user");
    }
    for _ in 0..3 {
        assert_eq!(disconnect("bob").await.status, 200);
    }
    assert_refused(&disconnect("bob").await, 429, "the fourth disconnect");
    assert_eq!(ping(&client, "bob", &bob).await.status, 200);
}
