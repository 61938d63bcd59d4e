use super::*;
use crate::config::Config;
use crate::model::{ConnectionId, Stated, UserId};

async fn store_with(users: usize) -> Store {
    let store = Store::open(&Config::default()).expect("a store in memory");
    for user in 0..users {
        let user = UserId::new(&format!("user {user}")).expect("an id");
        let connection = ConnectionId::unnamed();
        store
            .connect(&user, &connection, &Stated::default())
            .await
            .expect("a connection");
    }
    store
}

async fn start_of(store: &Store) -> Cursor {
    let newest = newest(store).await.expect("an embedded store");
    Cursor::one(newest.epoch().expect("an epoch"), Position::START)
}

#[tokio::test]
async fn batches_follow_each_other_and_each_can_be_read_again() {
    let store = store_with(250).await;
    let mut cursor = start_of(&store).await;
    let mut sizes = Vec::new();
    let mut ids = Vec::new();
    while let Some(filled) = Batch::after(&store, &cursor).await.expect("a history") {
        sizes.push(filled.events());
        let webhook = filled.webhook("crm", Partitions::ONE).expect("events");
        let text = filled.batch.to_string();
        let again = Batch::parse(&text, Partitions::ONE).expect("its own text");
        let again = again.filled(&store).await.expect("a history");
        let again = again
            .expect("all entries")
            .webhook("crm", Partitions::ONE)
            .expect("events");
        assert_eq!((&again.id, &again.body), (&webhook.id, &webhook.body));
        ids.push(webhook.id);
        cursor = filled.batch.end;
    }
    assert_eq!(sizes, [100, 100, 50]);
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_cursor_of_another_data_set_begins_with_a_reset() {
    let store = store_with(2).await;
    let lost = Cursor::one(
        Epoch(1),
        Position {
            millis: 9,
            sequence: 0,
        },
    );
    let filled = Batch::after(&store, &lost).await.expect("a history");
    let filled = filled.expect("a reset");
    assert_eq!(filled.batch.reset, Some(ResetReason::DataLost));
    assert_eq!(filled.events(), 2);
    let body = filled.webhook("crm", Partitions::ONE).expect("events").body;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(
        body.contains(r#""event":"presence.reset","data":{"reason":"data-lost"}"#),
        "{body}"
    );
    assert!(
        body.find("presence.reset") < body.find("user.online"),
        "{body}"
    );
}

#[tokio::test]
async fn a_position_that_the_history_does_not_have_begins_with_a_reset() {
    let store = store_with(2).await;
    let start = start_of(&store).await;
    let gone = Cursor::one(
        start.epoch().expect("an epoch"),
        Position {
            millis: 9,
            sequence: 0,
        },
    );
    let filled = Batch::after(&store, &gone).await.expect("a history");
    let filled = filled.expect("a reset");
    assert_eq!(filled.batch.reset, Some(ResetReason::HistoryGone));
    assert_eq!(filled.events(), 2);
}

#[test]
fn any_other_text_is_refused() {
    for text in [
        "",
        "1.2.3",
        "1.2.3 1.2.4",
        "1.2.3 1.2.4 soon -",
        "1.2.3 1.2.4 -",
        "1.2.3 1.2.4 - - -",
    ] {
        assert_eq!(Batch::parse(text, Partitions::ONE), None, "{text}");
    }
}
