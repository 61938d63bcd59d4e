//! The calls about groups, each as a function.

use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, query_of, send};

/// The answer of a write of a group.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Written {
    pub group_id: String,
    pub members: usize,
    pub added: usize,
    pub removed: usize,
}

/// The answer of `GET /v1/groups/{groupId}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    pub group_id: String,
    pub members: usize,
    pub online: Vec<String>,
    pub next_cursor: Option<String>,
}

/// The answer of `GET /v1/groups/{groupId}/count`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupCount {
    pub group_id: String,
    pub members: usize,
    pub online: usize,
}

impl Written {
    /// `(members, added, removed)`.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.members, self.added, self.removed)
    }
}

/// A request about a group.
pub fn of_group(client: &Client, method: Method, group: &str) -> RequestBuilder {
    client.request(method, &path_of(group))
}

/// The path of a group, percent-encoded.
pub fn path_of(group: &str) -> String {
    let mut url = Url::parse("http://any/").expect("an address");
    let mut path = url.path_segments_mut().expect("an http URL has a path");
    path.clear().extend(["v1", "groups", group]);
    drop(path);
    url.path().to_owned()
}

/// Replaces the stored members of a group.
pub async fn put<S: AsRef<str>>(client: &Client, group: &str, members: &[S]) -> Written {
    let body = json!({"members": texts(members)});
    send(of_group(client, Method::PUT, group).json(&body))
        .await
        .ok()
}

/// Adds and removes stored members of a group.
pub async fn patch(client: &Client, group: &str, add: &[&str], remove: &[&str]) -> Written {
    let body = json!({"add": add, "remove": remove});
    send(of_group(client, Method::PATCH, group).json(&body))
        .await
        .ok()
}

/// Removes all stored members of a group.
pub async fn delete(client: &Client, group: &str) -> Written {
    send(of_group(client, Method::DELETE, group)).await.ok()
}

/// The first page of the online members of a group.
pub async fn get(client: &Client, group: &str) -> Group {
    client.get(&path_of(group)).await.ok()
}

/// All online members of a group, read in pages of `limit`.
pub async fn online(client: &Client, group: &str, limit: usize) -> Vec<String> {
    let limit = limit.to_string();
    let mut online = Vec::new();
    let mut query = query_of(&[("limit", &limit)]);
    loop {
        let mut page: Group = client.get(&format!("{}{query}", path_of(group))).await.ok();
        online.append(&mut page.online);
        let Some(cursor) = page.next_cursor else {
            return online;
        };
        query = query_of(&[("limit", &limit), ("cursor", &cursor)]);
    }
}

/// The size of a group.
pub async fn count(client: &Client, group: &str) -> (usize, usize) {
    let path = format!("{}/count", path_of(group));
    let count: GroupCount = client.get(&path).await.ok();
    (count.members, count.online)
}

fn texts<S: AsRef<str>>(ids: &[S]) -> Vec<&str> {
    ids.iter().map(AsRef::as_ref).collect()
}
