//! Groups: stored members, the reads, and their permissions.

mod bad_input;
mod changes;
mod large;
mod pinging;
mod resume;
mod streams;

use std::time::Duration;

use harness::client::{crowd, send};
use harness::deployment::{Deployment, Store, on_both_stores, over_each_protocol};
use harness::groups::{count, delete, get, of_group, online, patch, path_of, put};
use harness::instance::Settings;
use harness::sse::Stream;
use reqwest::Method;
use serde_json::{Value, json};

use super::problems::problem;

const NOBODY: [&str; 0] = [];

async fn a_put_replaces_the_members(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let written = put(&client, "team-7", &["alice", "bob"]).await;
    assert_eq!(written.group_id, "team-7");
    assert_eq!(written.counts(), (2, 2, 0));
    assert_eq!(
        put(&client, "team-7", &["alice", "bob"]).await.counts(),
        (2, 0, 0)
    );
    let written = put(&client, "team-7", &["carol", "bob", "carol"]).await;
    assert_eq!(written.counts(), (2, 1, 1));
    assert_eq!(put(&client, "team-7", &NOBODY).await.counts(), (0, 0, 2));
    assert_eq!(count(&client, "team-7").await, (0, 0));
}

async fn a_patch_adds_and_removes(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team-7", &["alice", "bob"]).await;
    let written = patch(&client, "team-7", &["carol", "alice"], &["bob", "dave"]).await;
    assert_eq!(written.counts(), (2, 1, 1));
    assert_eq!(
        patch(&client, "team-7", &["carol"], &["bob"])
            .await
            .counts(),
        (2, 0, 0)
    );
    let expected = json!({"groupId": "team-7", "members": 2, "added": 0, "removed": 0});
    for body in [json!({}), json!({"add": null, "remove": null})] {
        let empty = send(of_group(&client, Method::PATCH, "team-7").json(&body)).await;
        assert_eq!(empty.ok::<Value>(), expected);
    }
    assert_eq!(
        patch(&client, "new", &["zoe", "zoe"], &[]).await.counts(),
        (1, 1, 0)
    );
}

async fn a_delete_removes_all_members(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    assert_eq!(delete(&client, "team-7").await.counts(), (0, 0, 0));
    put(&client, "team-7", &["alice", "bob"]).await;
    put(&client, "team-8", &["alice"]).await;
    assert_eq!(delete(&client, "team-7").await.counts(), (0, 0, 2));
    assert_eq!(count(&client, "team-7").await, (0, 0));
    assert_eq!(count(&client, "team-8").await, (1, 0));
}

async fn the_reads_show_the_members_that_are_online(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team-7", &["dave", "carol", "bob", "alice"]).await;
    for user in ["alice", "carol", "stranger"] {
        client.connect(user).await;
    }
    let answer = client.get(&path_of("team-7")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let expected = json!({
        "groupId": "team-7", "members": 4, "online": ["alice", "carol"], "nextCursor": null,
    });
    assert_eq!(answer.ok::<Value>(), expected);
    assert_eq!(count(&client, "team-7").await, (4, 2));
    client.disconnect("alice").await;
    assert_eq!(get(&client, "team-7").await.online, ["carol"]);
    assert_eq!(count(&client, "team-7").await, (4, 1));
}

async fn the_reads_and_snapshots_have_states_on_request(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "team-7", &["alice", "bob"]).await;
    for user in ["alice", "bob"] {
        client.connect(user).await;
    }
    let status = client.request(Method::PUT, "/v1/users/alice/status");
    let status = send(status.json(&json!({"status": "dnd"}))).await;
    assert_eq!(status.status, 200, "{}", status.body);
    let read = client
        .get(&format!("{}?states=true", path_of("team-7")))
        .await;
    let read: Value = read.ok();
    assert_eq!(read["online"], json!(["alice", "bob"]));
    assert_eq!(read["states"]["alice"]["status"], "dnd");
    assert!(read["states"].get("bob").is_none(), "{read}");
    let without = client
        .get(&format!("{}?states=false", path_of("team-7")))
        .await;
    assert!(without.ok::<Value>().get("states").is_none());
    problem(
        &client
            .get(&format!("{}?states=maybe", path_of("team-7")))
            .await,
        400,
    );
    let mut stream = Stream::open(&client, "?groupIds=team-7&snapshot=true").await;
    let snapshot = stream.next().await.json();
    assert_eq!(snapshot["states"]["alice"]["status"], "dnd", "{snapshot}");
    assert_eq!(stream.next().await.name, "presence.ready");
    let cleared = client.request(Method::DELETE, "/v1/users/alice/status");
    assert_eq!(send(cleared).await.status, 200);
    assert_eq!(stream.next().await.name, "user.updated");
}

async fn an_unknown_group_is_empty(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let expected = json!({"groupId": "x y/z", "members": 0, "online": [], "nextCursor": null});
    assert_eq!(client.get(&path_of("x y/z")).await.ok::<Value>(), expected);
    assert_eq!(count(&client, "x y/z").await, (0, 0));
}

async fn the_reads_are_exact_to_the_millisecond(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    put(&client, "team-7", &["alice"]).await;
    let connected = client.connect("alice").await;
    assert_eq!(get(&client, "team-7").await.online, ["alice"]);
    let gone = connected.expires_at.plus(Duration::from_millis(2));
    gone.pass().await;
    assert!(get(&client, "team-7").await.online.is_empty());
    assert_eq!(count(&client, "team-7").await, (1, 0));
}

async fn pages_of_a_group_have_each_online_member_once(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 60);
    put(&client, "crowd", &users).await;
    let here: Vec<_> = users.iter().step_by(3).cloned().collect();
    client.connect_each(&here).await;
    for limit in [1, 7, 19, 20, 21, 1_000] {
        assert_eq!(online(&client, "crowd", limit).await, here, "limit {limit}");
    }
    let full = client.get(&format!("{}?limit=20", path_of("crowd"))).await;
    assert_eq!(
        full.ok::<Value>()["nextCursor"],
        Value::Null,
        "nobody follows"
    );
}

/// An id may have spaces, quotes, separators of other formats, and 128 bytes.
async fn groups_and_users_may_have_any_valid_id(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "ä".repeat(64);
    let ids = ["a b  c", "\"q\"", "{x}", "*", ":", "+", "r", "😀", &long];
    for group in ids {
        let written = put(&client, group, &ids).await;
        assert_eq!((&*written.group_id, written.counts()), (group, (9, 9, 0)));
    }
    for user in ids {
        client.connect(user).await;
    }
    let mut sorted = ids;
    sorted.sort_unstable();
    for group in ids {
        assert_eq!(get(&client, group).await.online, sorted, "{group}");
        assert_eq!(delete(&client, group).await.counts(), (0, 0, 9));
    }
}

async fn a_user_is_stored_in_at_most_a_thousand_groups(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for number in 0..1_000 {
        put(&client, &format!("group-{number}"), &["alice", "bob"]).await;
    }
    let body = json!({"members": ["carol", "alice"]});
    let refused = send(of_group(&client, Method::PUT, "more").json(&body)).await;
    let problem = problem(&refused, 400);
    assert!(problem.kind.ends_with(":too-many-groups"), "{problem:?}");
    assert!(problem.detail.contains("\"alice\"") && problem.detail.contains("1000"));
    assert_eq!(count(&client, "more").await, (0, 0), "nothing is stored");
    assert_eq!(
        put(&client, "group-5", &["alice", "bob"]).await.counts(),
        (2, 0, 0)
    );
    assert_eq!(put(&client, "more", &["carol"]).await.counts(), (1, 1, 0));
    patch(&client, "group-7", &[], &["alice"]).await;
    if deployment.instances.len() == 1 && store != Store::Redis {
        assert_eq!(
            patch(&client, "more", &["alice"], &[]).await.counts(),
            (2, 1, 0)
        );
    }
}

async fn a_group_has_at_most_as_many_members_as_configured(store: Store) {
    let settings = Settings::new().with("PRESENCE_GROUP_MEMBERS", "3");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    put(&client, "team", &["alice", "bob"]).await;
    for body in [
        json!({"add": ["carol", "dave"]}),
        json!({"add": ["carol", "dave", "erin"], "remove": ["alice"]}),
        json!({"add": ["carol", "dave", "erin", "frank"]}),
    ] {
        let refused = send(of_group(&client, Method::PATCH, "team").json(&body)).await;
        let problem = problem(&refused, 400);
        assert!(problem.kind.ends_with(":too-many-members"), "{problem:?}");
        assert!(problem.detail.contains('3'), "{problem:?}");
    }
    let body = json!({"members": ["a", "b", "c", "d"]});
    let refused = send(of_group(&client, Method::PUT, "team").json(&body)).await;
    let problem = problem(&refused, 400);
    assert!(problem.kind.ends_with(":too-many-members"), "{problem:?}");
    assert!(problem.detail.contains("members") && problem.detail.contains('3'));
    assert_eq!(count(&client, "team").await, (2, 0));
    let written = patch(&client, "team", &["carol", "dave"], &["bob"]).await;
    assert_eq!(written.counts(), (3, 2, 1));
    assert_eq!(
        put(&client, "team", &["x", "y", "z"]).await.counts(),
        (3, 3, 3)
    );
}

over_each_protocol!(
    a_put_replaces_the_members,
    a_patch_adds_and_removes,
    a_delete_removes_all_members,
    the_reads_show_the_members_that_are_online,
    the_reads_and_snapshots_have_states_on_request,
    an_unknown_group_is_empty,
);

mod limits {
    use super::*;

    on_both_stores!(
        the_reads_are_exact_to_the_millisecond,
        pages_of_a_group_have_each_online_member_once,
        groups_and_users_may_have_any_valid_id,
        a_user_is_stored_in_at_most_a_thousand_groups,
        a_group_has_at_most_as_many_members_as_configured,
    );
}
