//! The response to an error.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use tracing::{debug, error};

use super::error::Error;
use super::json_line::JsonLine;
use super::problem::Problem;
use super::refused_stream::TemporaryError;
use crate::auth::Error as AuthError;
use crate::events::StreamRefusal;

/// The `Retry-After` of errors of the store and of the keys.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The `Retry-After` of a stream beyond the limit. Another stream has to end first.
const RETRY_STREAM: Duration = Duration::from_secs(5);

impl Error {
    /// The cause for streams, and the wait for `Retry-After`. `None`: another attempt would fail too.
    fn temporary(&self) -> Option<TemporaryError> {
        let (cause, wait) = match self {
            Self::StoreUnreachable(_) | Self::NotReady(_) => {
                (StreamRefusal::StoreUnreachable, RETRY_SOON)
            }
            Self::StoreOverloaded
            | Self::Overloaded
            | Self::Auth(AuthError::KeysUnreachable | AuthError::VerificationOverloaded) => {
                (StreamRefusal::Overloaded, RETRY_SOON)
            }
            Self::TooManyStreams(_) => (StreamRefusal::TooManyStreams, RETRY_STREAM),
            Self::Auth(AuthError::RateLimited(wait)) => (StreamRefusal::Overloaded, *wait),
            _ => return None,
        };
        Some(TemporaryError { cause, wait })
    }

    /// The challenge of RFC 6750, section 3. It has no error code if the request has no credential.
    fn challenge(&self) -> Option<HeaderValue> {
        use AuthError as A;
        let Self::Auth(error) = self else { return None };
        let challenge = match error {
            A::NoCredential => "Bearer realm=\"presence\"".to_owned(),
            A::TokenExpired | A::BadCredential(_) => format!(
                "Bearer realm=\"presence\", error=\"invalid_token\", error_description=\"{error}\""
            ),
            A::WriteDenied(_)
            | A::ReadDenied(_)
            | A::ReadAllDenied
            | A::GroupWriteDenied
            | A::GroupReadDenied(_)
            | A::GroupJoinDenied(_)
            | A::OperatorDenied
            | A::SweepDenied => {
                "Bearer realm=\"presence\", error=\"insufficient_scope\"".to_owned()
            }
            A::RateLimited(_) | A::KeysUnreachable | A::VerificationOverloaded => return None,
        };
        HeaderValue::from_str(&challenge).ok()
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self::new(error.problem_type(), error.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.problem_type().status();
        match &self {
            Self::Internal(cause) => error!(%cause, "request failed"),
            // The connection to the store logs its loss once. One line per request would fill a disk.
            Self::StoreUnreachable(cause) | Self::NotReady(cause) => {
                debug!(%cause, "store unreachable")
            }
            _ => {}
        }
        let (temporary, challenge) = (self.temporary(), self.challenge());
        let mut response = (status, JsonLine(Problem::from(&self))).into_response();
        if let Some(temporary) = temporary {
            response.extensions_mut().insert(temporary);
        }
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        headers
            .extend(temporary.map(|temporary| (RETRY_AFTER, whole_seconds(temporary.wait).into())));
        headers.extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        response
    }
}

/// `wait` in seconds, rounded up so that no client returns too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).max(1) as u64
}
