//! The parameters of a stream, in the query and in the body.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::http::error::Error;
use crate::http::extract::{Listed, WholeNumber};
use crate::http::query::{decoded, keep_once, parameters, unknown};
use crate::model::{GroupId, UserId};

/// Query parameters of `GET`.
pub(crate) const QUERY: [&str; 6] = [
    "userIds",
    "groupIds",
    "snapshot",
    "lastEventId",
    "waitMs",
    "access_token",
];

/// Query parameters of `POST`. The body contains the others.
pub(crate) const QUERY_BESIDE_A_BODY: [&str; 3] = ["lastEventId", "waitMs", "access_token"];

/// The longest wait for an event, in milliseconds.
const MAX_WAIT_MS: u64 = 25_000;

/// What is wrong with a wait.
const INVALID_WAIT: &str = "must be a number from 0 to 25000";

/// The parameters of a stream, before its ids are validated.
#[derive(Debug, Default)]
pub(crate) struct StreamParameters {
    pub(crate) user_ids: Option<Vec<Listed<UserId>>>,
    pub(crate) group_ids: Option<Vec<Listed<GroupId>>>,
    pub(crate) snapshot: bool,
    pub(crate) last_event_id: Option<String>,
    /// How long a response of JSON waits for an event.
    pub(crate) wait: Option<Duration>,
    /// Whether the request has a body, which contains the users, the groups and `snapshot`.
    pub(crate) is_in_body: bool,
}

impl StreamParameters {
    /// The error of a parameter that is in the body of a `POST` and in the query of a `GET`.
    pub(crate) fn invalid(&self, field: &'static str, why: &'static str) -> Error {
        if self.is_in_body {
            Error::Json(format!("{field}: {why}"))
        } else {
            Error::Query { field, why }
        }
    }

    /// Sets the wait in the body. Fails if it is out of bounds, or also in the query.
    pub(crate) fn set_wait(&mut self, given: Option<WholeNumber>) -> Result<(), Error> {
        let Some(given) = given else { return Ok(()) };
        let within = given.millis_within((0, MAX_WAIT_MS));
        let wait = within.map_err(|_| self.invalid("waitMs", INVALID_WAIT))?;
        keep_once(&mut self.wait, "waitMs", wait)
    }
}

/// Reads a wait in the query.
fn wait(text: &str) -> Result<Duration, Error> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = text.parse().ok().filter(|_| is_number);
    let within = millis.filter(|millis| *millis <= MAX_WAIT_MS);
    within.map(Duration::from_millis).ok_or(Error::Query {
        field: "waitMs",
        why: INVALID_WAIT,
    })
}

/// Parses a query with the parameters `known`. The credential was read before.
pub(crate) fn parse_query(
    query: Option<&str>,
    headers: &HeaderMap,
    known: &'static [&'static str],
) -> Result<StreamParameters, Error> {
    let mut params = StreamParameters::default();
    let mut snapshot = None;
    for (name, value) in parameters(query.unwrap_or("")) {
        if !known.contains(&&*name) {
            return Err(unknown(&name, known));
        }
        match &*name {
            "userIds" => {
                let value = decoded("userIds", value)?;
                let ids = value.split(',').map(Listed::from);
                params.user_ids.get_or_insert_default().extend(ids);
            }
            "groupIds" => {
                let value = decoded("groupIds", value)?;
                let ids = value.split(',').map(Listed::from);
                params.group_ids.get_or_insert_default().extend(ids);
            }
            "snapshot" => {
                let value = value.parse().map_err(|_| Error::Query {
                    field: "snapshot",
                    why: "true or false",
                })?;
                keep_once(&mut snapshot, "snapshot", value)?;
            }
            "lastEventId" => {
                let value = decoded("lastEventId", value)?;
                keep_once(&mut params.last_event_id, "lastEventId", value)?;
            }
            "waitMs" => keep_once(&mut params.wait, "waitMs", wait(value)?)?,
            _ => {}
        }
    }
    params.snapshot = snapshot.unwrap_or(false);
    if let Some(header) = headers.get("last-event-id") {
        params.last_event_id = Some(String::from_utf8_lossy(header.as_bytes()).into_owned());
    }
    // An `EventSource` without an id has nothing to resume from.
    params.last_event_id = params.last_event_id.filter(|id| !id.is_empty());
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::shown_name;
    use axum::http::HeaderValue;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    proptest! {
        #[test]
        fn a_query_is_parsed_into_its_parameters(
            lists in vec(vec("[^,]{0,6}", 1..4), 0..3),
            snapshot in proptest::option::of(any::<bool>()),
            cursor in proptest::option::of("\\PC{0,9}"),
            header in proptest::option::of("[ -~]{0,9}"),
            wait in proptest::option::of(0..=MAX_WAIT_MS),
            token in proptest::option::of("[a-z]{0,3}"),
        ) {
            let mut pairs: Vec<_> = lists.iter().map(|ids| format!("userIds={}", encode(&ids.join(",")))).collect();
            pairs.extend(snapshot.map(|snapshot| format!("snapshot={snapshot}")));
            pairs.extend(cursor.iter().map(|cursor| format!("lastEventId={}", encode(cursor))));
            pairs.extend(wait.map(|wait| format!("waitMs={wait}")));
            pairs.extend(token.map(|token| format!("access_token={token}")));
            let mut headers = HeaderMap::new();
            if let Some(header) = &header {
                headers.insert("last-event-id", HeaderValue::from_str(header).expect("visible"));
            }
            let params = parse_query(Some(&pairs.join("&")), &headers, &QUERY).expect("a good query");
            let everyone = lists.is_empty();
            let listed = lists.concat().iter().map(|id| Listed::from(&**id)).collect();
            prop_assert_eq!(params.user_ids, (!everyone).then_some(listed));
            prop_assert_eq!(params.snapshot, snapshot.unwrap_or(false));
            prop_assert_eq!(params.wait, wait.map(Duration::from_millis));
            prop_assert_eq!(params.last_event_id, header.or(cursor).filter(|cursor| !cursor.is_empty()));
        }

        /// A query is refused only for an unknown name, an invalid boolean, invalid UTF-8, or a
        /// repeated parameter that must not repeat.
        #[test]
        fn any_query_is_parsed_or_its_error_names_the_field(
            query in "\\PC{0,20}|((userIds|lastEventId|snapshot|waitMs|x)(=(true|false|a,b|%[c-f][0-9]|%2[0-9]|%|,|=|[0-9]{1,3}){0,2})?&?){0,4}",
        ) {
            let values = |name: &str| {
                let found = parameters(&query).filter(|pair| pair.0 == name);
                found.map(|pair| pair.1).collect::<Vec<_>>()
            };
            let texts = [values("userIds"), values("lastEventId")].concat();
            let good = texts.iter().all(|value| percent_encoding::percent_decode_str(value).decode_utf8().is_ok())
                && values("snapshot").iter().all(|value| ["true", "false"].contains(value))
                && values("waitMs").iter().all(|value| wait(value).is_ok())
                && values("waitMs").len() < 2
                && values("snapshot").len().max(values("lastEventId").len()) < 2
                && parameters(&query).all(|(name, _)| QUERY.contains(&&*name));
            match parse_query(Some(&query), &HeaderMap::new(), &QUERY) {
                Ok(_) => prop_assert!(good),
                Err(Error::Query { field, .. }) => prop_assert!(!good && query.contains(field)),
                Err(Error::UnknownParameter { name, .. }) => {
                    prop_assert!(!good && parameters(&query).any(|pair| shown_name(&pair.0) == name));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn encoded_commas_separate_ids_too() {
        for query in [
            "userIds=a,b&userIds=c",
            "userIds=a%2Cb,c",
            "userIds=a&userIds=b%2Cc",
        ] {
            let params = parse_query(Some(query), &HeaderMap::new(), &QUERY).expect("a good query");
            let expected = ["a", "b", "c"].map(Listed::from);
            assert_eq!(params.user_ids.as_deref(), Some(&expected[..]));
        }
    }

    #[test]
    fn the_header_takes_precedence_over_the_query() {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_static("from-header"));
        let params =
            parse_query(Some("lastEventId=from-query"), &headers, &QUERY).expect("a good query");
        assert_eq!(params.last_event_id.as_deref(), Some("from-header"));
    }
}
