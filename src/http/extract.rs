//! Outside bytes become domain types here, or a refusal that names the field.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::BytesMut;
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use tokio::time::timeout;

use super::error::Error;
use super::query::shown_name;
use crate::model::{InvalidUserId, UserId};

/// The largest body of a call about one user, in bytes.
const BODY_LIMIT: usize = 64 * 1_024;

/// The largest body of a call that takes a list of ids, in bytes.
const LIST_BODY_LIMIT: usize = 1_024 * 1_024;

/// How much of a body is read at most to be able to say that it is too large.
const LINGER_BYTES: u64 = 8 * 1_024 * 1_024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is repeated of each end of a long explanation, in characters.
const SHOWN_END: usize = 120;

/// What the paths about one user begin with; the user follows, up to the next slash.
pub(crate) const USERS_PATH: &str = "/v1/users/";

/// The `{userId}` of the path, percent-decoded and checked.
#[derive(Debug)]
pub(crate) struct UserPath(pub(super) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let path = parts.uri.path();
        let rest = path.strip_prefix(USERS_PATH).unwrap_or_default();
        let end = rest.bytes().position(|byte| byte == b'/');
        let user = &rest[..end.unwrap_or(rest.len())];
        let user = percent_decode_str(user).decode_utf8();
        Ok(Self(UserId::new(&user.map_err(|_| Error::UserIdNotUtf8)?)?))
    }
}

/// A JSON body that may be missing or null, whatever its content type says.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let body = read(request.into_body(), BODY_LIMIT).await?;
        if body.is_empty() || body.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        Ok(Self(parse(&body)?))
    }
}

/// The call takes no body. An empty one, `null` and `{}` say nothing; whatever else is in it is refused, by name where
/// it has names: a client that sends ids there must not be taken for one that asks about everyone.
#[derive(Debug)]
pub(crate) struct NoBody;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let OptionalJson(NoFields {}) = OptionalJson::from_request(request, state).await?;
        Ok(Self)
    }
}

/// A body with a JSON content type, as long as a list may be.
#[derive(Debug)]
pub(crate) struct JsonBody(Bytes);

impl JsonBody {
    /// Reads it, which may take a while, and lets go of its bytes.
    pub(crate) fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        parse(&self.0)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        Ok(Self(read(request.into_body(), LIST_BODY_LIMIT).await?))
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > LINGER_BYTES) {
        return Err(Error::BodyTooLarge);
    }
    // In a place of its own, since nearly every call does without and is not to carry its size.
    let collected = Box::pin(collect(body, limit));
    match timeout(BODY_TIMEOUT, collected).await {
        Ok(body) => body,
        Err(_) => Err(Error::BodyTimeout),
    }
}

/// Reads on for a while when the body is too large, without keeping it: a client that is still
/// sending when the connection closes would never see the answer.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut received: u64 = 0;
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Error::Body)?.into_data() else {
            continue;
        };
        received += data.len() as u64;
        if received > LINGER_BYTES {
            break;
        }
        if received <= limit as u64 {
            bytes.extend_from_slice(&data);
        }
    }
    if received > limit as u64 {
        return Err(Error::BodyTooLarge);
    }
    Ok(bytes.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|text| text.split(';').next())
        .unwrap_or("");
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads an object; serde would take a list of the fields' values for one.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(Error::Json("body: a JSON object is expected".to_owned()));
    }
    // A body is read again to name the field, since keeping track of it takes longer than reading.
    serde_json::from_slice(body).map_err(|_| explain::<T>(body))
}

fn explain<T: DeserializeOwned>(body: &[u8]) -> Error {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize::<_, T>(&mut reader);
    let (path, why) = match read {
        Ok(_) => (".".to_owned(), reader.end().err()),
        Err(error) => (error.path().to_string(), Some(error.into_inner())),
    };
    // The path is a question mark where no name could be read.
    let path = match &*path {
        "." | "?" => Cow::Borrowed("body"),
        path => shown_name(path),
    };
    match why {
        Some(why) => Error::Json(format!("{path}: {}", shortened(why.to_string()))),
        None => Error::Body,
    }
}

/// The same text without its middle where it is long: it repeats a name or a value of the body, and then says what is
/// expected and where.
fn shortened(text: String) -> String {
    let characters = text.chars().count();
    if characters <= 2 * SHOWN_END {
        return text;
    }
    let begin = text.chars().take(SHOWN_END);
    let end = text.chars().skip(characters - SHOWN_END);
    begin.chain(['…']).chain(end).collect()
}

/// A text of a list, read as the user id that it should be: there may be a thousand.
#[derive(Debug, PartialEq)]
pub(crate) struct ListedUser(Result<UserId, InvalidUserId>);

impl From<&str> for ListedUser {
    fn from(text: &str) -> Self {
        Self(UserId::new(text))
    }
}

impl<'de> Deserialize<'de> for ListedUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;

        impl Visitor<'_> for AnyText {
            type Value = ListedUser;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<ListedUser, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(AnyText)
    }
}

/// Reads a list that may be left out. Null is refused: a client that has no list yet must not be taken for one that
/// asks about everyone.
pub(super) fn listed_users<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<ListedUser>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// Checks a list of at least one and at most `limit` user ids.
pub(crate) fn user_ids(listed: Vec<ListedUser>, limit: usize) -> Result<Vec<UserId>, Error> {
    if listed.is_empty() {
        return Err(Error::NoUserIds);
    }
    if listed.len() > limit {
        let given = listed.len();
        return Err(Error::TooManyUserIds { given, limit });
    }
    let checked = listed.into_iter().enumerate().map(|(index, listed)| {
        let ListedUser(user) = listed;
        user.map_err(|why| Error::ListedUserId { index, why })
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// One of every kind of field that a body of ours has.
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Fields {
        connection_id: Option<String>,
        #[serde(default)]
        all: bool,
        user_ids: Option<Vec<String>>,
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| vec(inner, 0..3).prop_map(Value::from))
    }

    fn is_list_of_texts(value: &Value) -> bool {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    }

    proptest! {
        #[test]
        fn an_object_is_read_if_its_fields_have_their_types(
            id in anything(),
            all in anything(),
            ids in prop_oneof![anything(), vec("\\PC{0,6}", 0..4).prop_map(Value::from)],
        ) {
            let body = json!({"connectionId": id, "all": all, "userIds": ids});
            let good = (id.is_null() || id.is_string())
                && all.is_boolean()
                && (ids.is_null() || is_list_of_texts(&ids));
            let read = parse::<Fields>(body.to_string().as_bytes());
            prop_assert_eq!(read.is_ok(), good, "{}", body);
            if let Ok(read) = read {
                let found = json!({"connectionId": read.connection_id, "all": read.all, "userIds": read.user_ids});
                prop_assert_eq!(found, json!({"connectionId": id, "all": all, "userIds": ids}));
            }
        }

        #[test]
        fn an_object_with_a_field_that_nobody_knows_is_refused_by_its_name(
            name in "[a-z]{1,6}|connectionid|connection_id|userIds\\[\\]|\\PC{1,6}",
            value in anything(),
        ) {
            prop_assume!(!["connectionId", "all", "userIds"].contains(&&*name));
            let body = json!({"all": true, &name: value}).to_string();
            let why = parse::<Fields>(body.as_bytes()).expect_err("an unknown name").to_string();
            prop_assert!(why.contains(&name), "{}", why);
        }

        /// What is read is one JSON object, as another reader sees it.
        #[test]
        fn bytes_that_are_no_object_are_refused(
            bytes in prop_oneof![
                vec(any::<u8>(), 0..16),
                "[\\[\\]{}:,\"a0 \\\\]{0,10}".prop_map(String::into_bytes),
                "[ \n]?\\{(\"(all|x)\":(true|1|null|\"\"))?\\}[ }0]?".prop_map(String::into_bytes),
                // What serde would take for the values of the fields.
                "[ \n]?\\[(null|\"a\"),(true|false|1),(null|\\[\\])\\]".prop_map(String::into_bytes),
            ],
        ) {
            let value = serde_json::from_slice::<Value>(&bytes);
            let good = value.is_ok_and(|value| {
                value.is_object() && value.get("x").is_none() && value.get("all").is_none_or(Value::is_boolean)
            });
            prop_assert_eq!(parse::<Fields>(&bytes).is_ok(), good);
        }

        #[test]
        fn a_list_has_one_to_limit_good_ids(texts in vec("[a-z]{1,3}|[\0-a]{0,2}", 0..6), limit in 1_usize..6) {
            let bad = texts.iter().position(|text| UserId::new(text).is_err());
            let read = user_ids(texts.iter().map(|text| ListedUser::from(&**text)).collect(), limit);
            match read {
                Ok(users) => {
                    let users: Vec<_> = users.iter().map(UserId::as_str).collect();
                    prop_assert_eq!(&users, &texts);
                    prop_assert!((1..=limit).contains(&texts.len()) && bad.is_none());
                }
                Err(Error::NoUserIds) => prop_assert!(texts.is_empty()),
                Err(Error::TooManyUserIds { given, .. }) => {
                    prop_assert!(given == texts.len() && given > limit);
                }
                Err(Error::ListedUserId { index, .. }) => prop_assert_eq!(Some(index), bad),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
