//! Invalid query strings.

use harness::deployment::{Deployment, Store, over_each_protocol};

use super::problem;

async fn a_bad_limit_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for limit in [
        "0",
        "1001",
        "-1",
        "ten",
        "1.5",
        "1e2",
        "99999999999999999999999",
        "%00",
        "10%20",
    ] {
        let answer = client.get(&format!("/v1/online?limit={limit}")).await;
        let problem = problem(&answer, 400);
        assert!(
            problem.detail.contains("limit"),
            "names the field: {problem:?}"
        );
    }
    for limit in ["1", "1000"] {
        let answer = client.get(&format!("/v1/online?limit={limit}")).await;
        assert_eq!(answer.status.as_u16(), 200, "{limit}");
    }
}

async fn a_foreign_cursor_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for cursor in [
        "nonsense",
        "-1",
        "%FF",
        "%00",
        "99999999999999999999999",
        "a%20b",
        "e30=",
        // A made-up cursor in the right form, with the parts "1", "zzz" and "after", "bob".
        "MQp6eno",
        "YWZ0ZXIKYm9i",
        "AAAAAAAAMQp6eno",
    ] {
        let answer = client.get(&format!("/v1/online?cursor={cursor}")).await;
        let problem = problem(&answer, 400);
        assert!(
            problem.detail.contains("cursor"),
            "names the field: {problem:?}"
        );
    }
}

async fn a_bad_user_id_in_the_query_of_a_stream_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "x".repeat(129);
    for users in ["alice,%00", "a%0Ab", "%FF", &long] {
        let answer = client.get(&format!("/v1/events?userIds={users}")).await;
        let problem = problem(&answer, 400);
        assert!(
            problem.detail.contains("userIds"),
            "names the field: {problem:?}"
        );
    }
}

async fn a_snapshot_that_is_neither_true_nor_false_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let answer = deployment.client().get("/v1/events?snapshot=maybe").await;
    let problem = problem(&answer, 400);
    assert!(
        problem.detail.contains("snapshot"),
        "names the field: {problem:?}"
    );
}

over_each_protocol!(
    a_bad_limit_is_400,
    a_foreign_cursor_is_400,
    a_bad_user_id_in_the_query_of_a_stream_is_400,
    a_snapshot_that_is_neither_true_nor_false_is_400,
);
