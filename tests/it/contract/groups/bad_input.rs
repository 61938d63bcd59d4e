//! Bad input about groups names the field and the bound, and stores nothing.

use harness::client::send;
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{count, of_group, path_of, put};
use harness::instance::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::problems::problem;

const WRITES: [Method; 2] = [Method::PUT, Method::PATCH];

async fn a_bad_group_id_is_400_on_every_call(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let ids = ["%00", "a%0Ab", "%7F", "%FF", "%C3%28", "%C2%85"].map(str::to_owned);
    let ids = ids
        .into_iter()
        .chain(["x".repeat(129), "%C3%A4".repeat(65)]);
    for id in ids {
        for (method, tail) in [
            (Method::PUT, ""),
            (Method::PATCH, ""),
            (Method::DELETE, ""),
            (Method::GET, ""),
            (Method::GET, "/count"),
        ] {
            let request = client.request(method.clone(), &format!("/v1/groups/{id}{tail}"));
            let request = if WRITES.contains(&method) {
                request.json(&json!({"members": ["alice"]}))
            } else {
                request
            };
            let problem = problem(&send(request).await, 400);
            assert!(problem.kind.ends_with(":invalid-group-id"), "{problem:?}");
            assert!(problem.detail.contains("groupId"), "{problem:?}");
        }
    }
}

async fn a_bad_user_id_is_named_with_its_place(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "x".repeat(129);
    for id in ["", "a\nb", "\u{0}", "\u{1f}", &long] {
        for (method, body, place) in [
            (Method::PUT, json!({"members": ["alice", id]}), "members[1]"),
            (Method::PATCH, json!({"add": ["a", "b", id]}), "add[2]"),
            (
                Method::PATCH,
                json!({"remove": [id], "add": ["a"]}),
                "remove[0]",
            ),
        ] {
            let refused = send(of_group(&client, method, "team").json(&body)).await;
            let problem = problem(&refused, 400);
            assert!(problem.kind.ends_with(":invalid-user-id"), "{problem:?}");
            assert!(problem.detail.contains(place), "{problem:?}");
        }
    }
    assert_eq!(count(&client, "team").await, (0, 0));
}

async fn a_body_of_another_form_is_refused(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team", &["alice"]).await;
    for (method, body, named) in [
        (Method::PUT, json!({}), "members"),
        (Method::PUT, json!({"members": null}), "members"),
        (Method::PUT, json!({"members": "alice"}), "members"),
        (Method::PUT, json!({"members": [1]}), "members"),
        (Method::PUT, json!({"members": [], "add": []}), "add"),
        (Method::PUT, json!(["alice"]), "body"),
        (Method::PATCH, json!({"members": ["bob"]}), "members"),
        (Method::PATCH, json!({"add": "bob"}), "add"),
        (
            Method::PATCH,
            json!({"add": ["bob"], "remove": ["carol", "bob"]}),
            "bob",
        ),
        (Method::DELETE, json!({"members": ["alice"]}), "members"),
        (Method::GET, json!({"states": true}), "states"),
    ] {
        let refused = send(of_group(&client, method.clone(), "team").json(&body)).await;
        let problem = problem(&refused, 400);
        assert!(
            problem.detail.contains(named),
            "{method} {body}: {problem:?}"
        );
    }
    for query in [
        "?x=1",
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?cursor=abc",
        "?limit=1&limit=2",
    ] {
        problem(
            &client.get(&format!("{}{query}", path_of("team"))).await,
            400,
        );
    }
    for method in WRITES {
        let text = of_group(&client, method, "team").body("{\"members\":[],\"add\":[]}");
        problem(&send(text).await, 415);
    }
    assert_eq!(count(&client, "team").await, (1, 0));
}

async fn a_list_beyond_the_limit_names_the_field_and_the_limit(store: Store) {
    let settings = Settings::new().with("PRESENCE_GROUP_MEMBERS", "2");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    for (method, field, list) in [
        (Method::PUT, "members", ["a", "b", "c"]),
        (Method::PUT, "members", ["a", "a", "a"]),
        (Method::PATCH, "add", ["a", "b", "c"]),
        (Method::PATCH, "remove", ["a", "b", "c"]),
    ] {
        let body: Value = json!({field: list});
        let refused = send(of_group(&client, method, "team").json(&body)).await;
        let problem = problem(&refused, 400);
        assert!(problem.kind.ends_with(":too-many-members"), "{problem:?}");
        assert!(
            problem.detail.contains(field) && problem.detail.contains("limit is 2"),
            "{problem:?}"
        );
    }
    assert_eq!(count(&client, "team").await, (0, 0));
}

async fn a_body_of_more_than_a_mebibyte_is_413(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let members: Vec<String> = (0..9_000).map(|each| format!("{each:0>128}")).collect();
    let body = json!({"members": members});
    problem(
        &send(of_group(&client, Method::PUT, "team").json(&body)).await,
        413,
    );
    assert_eq!(put(&client, "team", &members[..7_900]).await.members, 7_900);
}

#[tokio::test]
async fn bad_input_leaves_no_key_in_redis() {
    let settings = Settings::new().with("PRESENCE_GROUP_MEMBERS", "2");
    let deployment = Deployment::on_one_server(1, settings).await;
    let client = deployment.client();
    client.connect("before").await;
    let before: Vec<String> = deployment.redis().command(&["KEYS", "*group*"]).await;
    for body in [
        json!({"members": ["a", "b", "c"]}),
        json!({"members": ["a", ""]}),
        json!({"add": ["a"], "remove": ["a"]}),
        json!({"x": ["a"]}),
    ] {
        for method in WRITES {
            let refused = send(of_group(&client, method, "team").json(&body)).await;
            problem(&refused, 400);
        }
    }
    let after: Vec<String> = deployment.redis().command(&["KEYS", "*group*"]).await;
    assert_eq!((before, after), (Vec::new(), Vec::new()));
}

on_both_stores!(
    a_bad_group_id_is_400_on_every_call,
    a_bad_user_id_is_named_with_its_place,
    a_body_of_another_form_is_refused,
    a_list_beyond_the_limit_names_the_field_and_the_limit,
    a_body_of_more_than_a_mebibyte_is_413,
);
