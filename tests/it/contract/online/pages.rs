//! The list of online users, page by page.

use std::collections::HashSet;

use harness::client::{Client, Page, crowd, next_page};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;

/// Reads all pages of `limit` users at the instances in turn.
async fn pages(clients: &[Client], limit: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut query = format!("?limit={limit}");
    for client in clients.iter().cycle() {
        let page = client.page(&query).await;
        let cursor = page.next_cursor.clone();
        pages.push(page);
        assert!(pages.len() < 10_000, "the pages do not end");
        match cursor {
            Some(cursor) => query = next_page(limit, &cursor),
            None => break,
        }
    }
    pages
}

fn assert_each_once(pages: &[Page], users: &[String]) {
    let all: Vec<&String> = pages.iter().flat_map(|page| &page.online).collect();
    let distinct: HashSet<&String> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "no user is listed twice");
    assert_eq!(distinct, users.iter().collect());
}

async fn every_user_is_on_one_page(store: Store) {
    let deployment = Deployment::start(store).await;
    let users = crowd("user", 250);
    deployment.client().connect_each(&users).await;
    for limit in [100, 7, 250, 1_000] {
        let pages = pages(&deployment.clients(), limit).await;
        assert!(
            pages.iter().all(|page| page.online.len() <= limit),
            "{limit}"
        );
        assert_each_once(&pages, &users);
    }
}

async fn pages_of_one_user_list_all_users(store: Store) {
    let deployment = Deployment::start(store).await;
    let users = crowd("user", 12);
    deployment.client().connect_each(&users).await;
    let pages = pages(&deployment.clients(), 1).await;
    assert!(pages.iter().all(|page| page.online.len() <= 1));
    assert_each_once(&pages, &users);
}

async fn a_page_has_at_most_a_hundred_users_unless_asked(store: Store) {
    let deployment = Deployment::start(store).await;
    deployment.client().connect_each(&crowd("user", 250)).await;
    let page = deployment.client().page("").await;
    assert!(
        (1..=100).contains(&page.online.len()),
        "{}",
        page.online.len()
    );
    assert!(page.next_cursor.is_some());
}

async fn without_online_users_the_only_page_is_empty(store: Store) {
    let deployment = Deployment::start(store).await;
    let page = deployment.client().page("").await;
    assert!(page.online.is_empty());
    assert_eq!(page.next_cursor, None);
}

async fn the_list_has_exactly_the_online_users(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    for user in ["äöü/€", "alice", "bob"] {
        client.connect(user).await;
    }
    client.disconnect("bob").await;
    assert_eq!(client.everyone().await, ["alice", "äöü/€"]);
    let last = client.connect_as("alice", "phone").await.expires_at;
    last.plus(std::time::Duration::from_secs(1)).pass().await;
    assert!(client.everyone().await.is_empty());
}

/// A user that stays online is on some page while other users come and go.
async fn users_who_stay_online_are_listed_while_others_come_and_go(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let stayers = crowd("stayer", 120);
    client.connect_each(&stayers).await;
    client.connect_each(&crowd("mover", 120)).await;
    let mut seen = HashSet::new();
    let mut query = "?limit=10".to_owned();
    for step in 0.. {
        let page = client.page(&query).await;
        seen.extend(page.online);
        client.disconnect(&format!("mover-{step:05}")).await;
        client.connect(&format!("newcomer-{step:05}")).await;
        match page.next_cursor {
            Some(cursor) => query = next_page(10, &cursor),
            None => break,
        }
    }
    let missed: Vec<&String> = stayers
        .iter()
        .filter(|user| !seen.contains(*user))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[tokio::test]
async fn a_cursor_is_good_on_every_instance() {
    let deployment = Deployment::of(3, Settings::new()).await;
    let users = crowd("user", 250);
    deployment.client().connect_each(&users).await;
    let pages = pages(&deployment.clients(), 20).await;
    assert!(pages.len() >= 13);
    assert_each_once(&pages, &users);
}

over_each_protocol!(
    every_user_is_on_one_page,
    pages_of_one_user_list_all_users,
    a_page_has_at_most_a_hundred_users_unless_asked,
    without_online_users_the_only_page_is_empty,
    the_list_has_exactly_the_online_users,
    users_who_stay_online_are_listed_while_others_come_and_go,
);
