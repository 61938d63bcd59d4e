//! The calls of the HTTP API, each as a function.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{IntoUrl, Method, RequestBuilder, StatusCode, Url, Version};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::timestamp::Timestamp;

/// Time-out of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Concurrent calls of a function that makes many.
const CALLERS: usize = 32;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0: no chunked bodies, and no kept connections by default.
    Http10,
    #[default]
    Http11,
    /// HTTP/2 over plain TCP with prior knowledge.
    Http2,
}

/// A client of one instance.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    protocol: Protocol,
    base: String,
}

/// A complete answer of any status.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// The answer of `connect` and `ping`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alive {
    pub user_id: String,
    pub connection_id: String,
    pub online: bool,
    pub became_online: bool,
    pub expires_at: Timestamp,
    pub ttl_ms: u64,
    pub ping_interval_ms: u64,
    /// Only if the request had it.
    pub away: Option<bool>,
    /// Those of the stated groups that accepted the user; only if the request stated some.
    pub groups: Option<Vec<String>>,
}

/// The answer of `disconnect`. The `connectionId` is not checked: the contract leaves it open for `{"all":true}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Left {
    pub user_id: String,
    pub connection_id: Option<String>,
    pub online: bool,
    pub became_offline: bool,
    /// Only after a disconnect with a grace period.
    pub leaves_at: Option<Timestamp>,
}

/// The answer of `GET /v1/users/{userId}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    pub user_id: String,
    pub online: bool,
    pub last_seen_at: Option<Timestamp>,
    pub away: bool,
    pub status: Option<Value>,
    pub connections: Vec<Connection>,
}

/// An open connection of a user.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    pub connection_id: String,
    pub expires_at: Timestamp,
    pub last_ping_at: Timestamp,
    pub ttl_ms: u64,
    pub away: bool,
    pub leaves_at: Option<Timestamp>,
}

/// One page of `GET /v1/online`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Page {
    pub online: Vec<String>,
    pub next_cursor: Option<String>,
}

impl User {
    /// The connection ids, sorted: the contract gives them no order.
    pub fn connection_ids(&self) -> Vec<&str> {
        let ids = self.connections.iter().map(|each| &*each.connection_id);
        let mut ids: Vec<&str> = ids.collect();
        ids.sort_unstable();
        ids
    }
}

impl Answer {
    /// The body of a 200 as `T`. Panics for another status and for a field that `T` does not have.
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let body = serde_json::from_str(&self.body);
        body.unwrap_or_else(|error| panic!("not the documented answer: {error}: {}", self.body))
    }

    /// The value of a header; empty if the header is absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str());
        value.and_then(Result::ok).unwrap_or("")
    }
}

impl Client {
    /// `base` is `http://` and an address. The client speaks HTTP/1.1.
    pub fn new(base: &str) -> Self {
        Self::over(Protocol::Http11, base)
    }

    /// A client that speaks `protocol`.
    pub fn over(protocol: Protocol, base: &str) -> Self {
        let builder = reqwest::Client::builder().no_proxy();
        let builder = match protocol {
            Protocol::Http2 => builder.http2_prior_knowledge(),
            Protocol::Http10 | Protocol::Http11 => builder.http1_only(),
        };
        Self {
            http: builder.build().expect("a client without TLS"),
            protocol,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// `http://` and the address of the instance.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request for `path`, which is not encoded again.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(method, format!("{}{path}", self.base))
    }

    fn request_to(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        let request = self.http.request(method, url);
        match self.protocol {
            Protocol::Http10 => request.version(Version::HTTP_10),
            Protocol::Http11 | Protocol::Http2 => request,
        }
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Sends a POST request with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Opens the unnamed connection of a user. Panics if the call is refused, as all calls below.
    pub async fn connect(&self, user: &str) -> Alive {
        send(self.of_user(user, "connect")).await.ok()
    }

    /// Opens a named connection.
    pub async fn connect_as(&self, user: &str, connection: &str) -> Alive {
        send(self.of_connection(user, "connect", connection))
            .await
            .ok()
    }

    /// Pings the unnamed connection of a user.
    pub async fn ping(&self, user: &str) -> Alive {
        send(self.of_user(user, "ping")).await.ok()
    }

    /// Pings a named connection.
    pub async fn ping_as(&self, user: &str, connection: &str) -> Alive {
        send(self.of_connection(user, "ping", connection))
            .await
            .ok()
    }

    /// Closes the unnamed connection of a user.
    pub async fn disconnect(&self, user: &str) -> Left {
        send(self.of_user(user, "disconnect")).await.ok()
    }

    /// Closes a named connection.
    pub async fn disconnect_as(&self, user: &str, connection: &str) -> Left {
        send(self.of_connection(user, "disconnect", connection))
            .await
            .ok()
    }

    /// Closes all connections of a user.
    pub async fn disconnect_all(&self, user: &str) -> Left {
        let request = self.of_user(user, "disconnect");
        send(request.json(&json!({"all": true}))).await.ok()
    }

    /// The state of a user.
    pub async fn user(&self, user: &str) -> User {
        let url = self.user_url(user, None);
        send(self.request_to(Method::GET, url)).await.ok()
    }

    /// The online users among `users`: `POST /v1/online`.
    pub async fn online_among<S: AsRef<str>>(&self, users: &[S]) -> Vec<String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Among {
            online: Vec<String>,
        }
        let users: Vec<&str> = users.iter().map(AsRef::as_ref).collect();
        let answer = self.post("/v1/online", &json!({"userIds": users})).await;
        answer.ok::<Among>().online
    }

    /// One page of `GET /v1/online`. `query` is sent unchanged, such as `?limit=10`.
    pub async fn page(&self, query: &str) -> Page {
        self.get(&format!("/v1/online{query}")).await.ok()
    }

    /// All online users, sorted, read page by page.
    pub async fn everyone(&self) -> Vec<String> {
        let mut everyone = Vec::new();
        let mut page = self.page("?limit=1000").await;
        loop {
            everyone.append(&mut page.online);
            let Some(cursor) = page.next_cursor else {
                everyone.sort_unstable();
                return everyone;
            };
            page = self.page(&next_page(1_000, &cursor)).await;
        }
    }

    /// The number of online users.
    pub async fn count(&self) -> u64 {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Count {
            count: u64,
        }
        self.get("/v1/online/count").await.ok::<Count>().count
    }

    /// The value of a metric; `None` if it is absent. `name` includes the labels of the metric.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let metrics = self.get("/metrics").await.body;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        metrics.lines().find_map(value)
    }

    /// Connects all `users`, many concurrently. The answers are in the order of `users`.
    pub async fn connect_each(&self, users: &[String]) -> Vec<Alive> {
        let share = users.len().div_ceil(CALLERS).max(1);
        let mut callers = JoinSet::new();
        for (place, share) in users.chunks(share).enumerate() {
            let (client, share) = (self.clone(), share.to_vec());
            callers.spawn(async move {
                let mut answers = Vec::new();
                for user in &share {
                    answers.push(client.connect(user).await);
                }
                (place, answers)
            });
        }
        let mut answers = callers.join_all().await;
        answers.sort_by_key(|(place, _)| *place);
        answers
            .into_iter()
            .flat_map(|(_, answers)| answers)
            .collect()
    }

    /// A call about the unnamed connection of a user, without a body.
    pub fn of_user(&self, user: &str, verb: &str) -> RequestBuilder {
        self.request_to(Method::POST, self.user_url(user, Some(verb)))
    }

    /// A call about a named connection.
    pub fn of_connection(&self, user: &str, verb: &str, connection: &str) -> RequestBuilder {
        let body = json!({"connectionId": connection});
        self.of_user(user, verb).json(&body)
    }

    fn user_url(&self, user: &str, verb: Option<&str>) -> Url {
        let mut url = Url::parse(&self.base).expect("an address");
        let mut path = url.path_segments_mut().expect("an http URL has a path");
        path.clear().extend(["v1", "users", user]).extend(verb);
        drop(path);
        url
    }
}

/// The query of the page after `cursor`, with at most `limit` users.
pub fn next_page(limit: usize, cursor: &str) -> String {
    query_of(&[("limit", &limit.to_string()), ("cursor", cursor)])
}

/// `?name=value&…`, percent-encoded.
pub fn query_of(pairs: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("http://any/", pairs).expect("an URL");
    format!("?{}", url.query().expect("a query"))
}

/// Sends a request and reads the whole answer. Panics without an answer.
pub async fn send(request: RequestBuilder) -> Answer {
    let answer = try_send(request).await;
    answer.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

/// Like [`send`], for a server that may be down. A time-out of the request replaces [`CALL_TIMEOUT`].
pub async fn try_send(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let (client, request) = request.build_split();
    let mut request = request?;
    request.timeout_mut().get_or_insert(CALL_TIMEOUT);
    let response = client.execute(request).await?;
    Ok(Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.text().await?,
    })
}

/// `count` different user ids.
pub fn crowd(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|each| format!("{prefix}-{each:05}"))
        .collect()
}

/// The media type of an answer, without its parameters.
pub fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).map(|value| value.to_str());
    let value = value.and_then(Result::ok).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}
