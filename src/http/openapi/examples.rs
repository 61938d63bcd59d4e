//! An example of each problem document in the OpenAPI document.

use std::time::Duration;

use utoipa::openapi::RefOr;
use utoipa::openapi::path::Operation;

use crate::auth::Error as AuthError;
use crate::events::StreamLimitReached;
use crate::http::error::Error;
use crate::http::problem::Problem;
use crate::model::{GroupId, GroupRefusal, InvalidId, Refusal, UserId};

/// The detail of an invalid status.
const STATUS: &str = "status: must be 1 to 32 characters of a-z 0-9 -";

/// Adds an example to each error response of `operation`.
pub(super) fn add_problems(operation: &mut Operation) {
    let name = operation.operation_id.as_deref().unwrap_or_default();
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else {
            continue;
        };
        let example = error(name, status).map(|error| Problem::from(&error));
        let example = example.and_then(|problem| serde_json::to_value(problem).ok());
        for content in response.content.values_mut() {
            if let (RefOr::T(content), Some(example)) = (content, &example) {
                content.example = Some(example.clone());
            }
        }
    }
}

/// An error of `operation` with this status.
fn error(operation: &str, status: &str) -> Option<Error> {
    let alice = UserId::new("alice").ok()?;
    Some(match (status, operation) {
        ("400", "connect" | "ping" | "disconnect" | "getUser" | "clearStatus") => {
            Error::UserId(InvalidId::Length)
        }
        ("400", "setStatus") => Error::InvalidStatus(STATUS),
        ("400", "lookUpOnline") => Error::NoUserIds,
        ("400", "replaceGroup" | "changeGroup") => Error::GroupRefused {
            field: "add",
            refusal: GroupRefusal::TooManyMembers { most: 10_000 },
        },
        ("400", "removeGroup" | "getGroup" | "countGroup") => Error::GroupId(InvalidId::Length),
        ("400", "listOnline") => Error::InvalidLimit(1_000),
        ("400", "streamEvents" | "streamEventsOf") => Error::Query {
            field: "lastEventId",
            why: "must be UTF-8",
        },
        ("400", _) => Error::Host("multiple Host headers"),
        ("401", _) => AuthError::NoCredential.into(),
        ("403", "connect" | "ping" | "disconnect" | "setStatus" | "clearStatus") => {
            AuthError::WriteDenied(alice).into()
        }
        ("403", "getUser") => AuthError::ReadDenied(alice).into(),
        ("403", "replaceGroup" | "changeGroup" | "removeGroup") => {
            AuthError::GroupWriteDenied.into()
        }
        ("403", "getGroup" | "countGroup") => {
            AuthError::GroupReadDenied(GroupId::new("team-7").ok()?).into()
        }
        ("403", "sweep") => AuthError::SweepDenied.into(),
        ("403", "getStatus" | "getMetrics") => AuthError::OperatorDenied.into(),
        ("403", _) => AuthError::ReadAllDenied.into(),
        ("406", _) => Error::StreamsUnsupported,
        ("408", _) => Error::BodyTimeout,
        ("409", "ping") => Error::Refused(Refusal::ConnectionClosed),
        ("409", _) => Error::Refused(Refusal::TooManyConnections { most: 100 }),
        ("413", _) => Error::BodyTooLarge,
        ("415", _) => Error::UnsupportedMediaType,
        ("429", "streamEvents" | "streamEventsOf") => {
            Error::TooManyStreams(StreamLimitReached::Instance)
        }
        ("429", _) => AuthError::RateLimited(Duration::from_secs(1)).into(),
        ("431", _) => Error::HeadTooLarge,
        ("503", _) => Error::StoreUnreachable(String::new()),
        _ => return None,
    })
}
