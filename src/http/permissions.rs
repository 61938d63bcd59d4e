//! Extractors that check what the caller may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::state::AppState;
use crate::auth::Caller;
use crate::auth::Counted;
use crate::http::error::Error;
use crate::http::extract::UserPath;
use crate::http::query::{decoded, parameters};
use crate::model::UserId;

/// The user of the path, for whom the caller may connect and ping.
#[derive(Debug)]
pub(crate) struct ActingFor(pub(crate) UserId);

/// The user of the path, whose connections the caller may close; counted as a disconnect.
#[derive(Debug)]
pub(crate) struct Disconnecting(pub(crate) UserId);

/// The user of the path, whom the caller may see.
#[derive(Debug)]
pub(crate) struct Seeing(pub(crate) UserId);

/// The caller may see everyone.
#[derive(Debug)]
pub(crate) struct SeeingEveryone;

/// The caller may see the metrics: anyone on loopback, elsewhere those who may see everyone's
/// presence.
#[derive(Debug)]
pub(crate) struct SeeingMetrics;

/// The caller of a stream, whose credential may come as `access_token` in the query, since a
/// browser's `EventSource` sends no header (RFC 6750, section 2.3).
#[derive(Debug)]
pub(crate) struct StreamCaller(pub(crate) Caller);

impl FromRequestParts<Arc<AppState>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        caller(parts, state, Counted::Call).await
    }
}

async fn caller(parts: &Parts, state: &AppState, counted: Counted) -> Result<Caller, Error> {
    if !state.access.is_closed() {
        return Ok(Caller::Anonymous);
    }
    let credential = bearer(&parts.headers)?;
    state.access.caller(credential, counted).await
}

impl FromRequestParts<Arc<AppState>> for ActingFor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let UserPath(user) = UserPath::from_request_parts(parts, state).await?;
        caller.may_act_for(&user)?;
        Ok(Self(user))
    }
}

impl FromRequestParts<Arc<AppState>> for Disconnecting {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = caller(parts, state, Counted::Disconnect).await?;
        let UserPath(user) = UserPath::from_request_parts(parts, state).await?;
        caller.may_act_for(&user)?;
        Ok(Self(user))
    }
}

impl FromRequestParts<Arc<AppState>> for Seeing {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let UserPath(user) = UserPath::from_request_parts(parts, state).await?;
        caller.may_see(&user)?;
        Ok(Self(user))
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingEveryone {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.may_see_everyone()?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingMetrics {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let ip = state.config.listen_address().ip();
        if !ip.to_canonical().is_loopback() {
            let caller = Caller::from_request_parts(parts, state).await?;
            caller.may_see_metrics()?;
        }
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for StreamCaller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        if !state.access.is_closed() {
            return Ok(Self(Caller::Anonymous));
        }
        let header = bearer(&parts.headers)?;
        let query = match header {
            Some(_) => None,
            None => in_query(parts.uri.query().unwrap_or(""))?,
        };
        let credential = header.or(query.as_deref());
        Ok(Self(state.access.caller(credential, Counted::Call).await?))
    }
}

/// The bearer credential of the header (RFC 6750, section 2.1); none where another scheme is used.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(AUTHORIZATION) {
            true => Err(Error::BadCredential(
                "the Authorization header is there twice",
            )),
            false => Ok(None),
        };
    };
    let text = value.to_str();
    let text = text.map_err(|_| Error::BadCredential("the credential is not ASCII"))?;
    let (scheme, credential) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    Ok(Some(credential.trim()))
}

fn in_query(query: &str) -> Result<Option<String>, Error> {
    let mut values =
        parameters(query).filter_map(|(name, value)| (name == "access_token").then_some(value));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decoded("access_token", value).map(Some),
        (Some(_), Some(_)) => Err(Error::BadCredential("access_token is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_brings_a_credential_only_if_it_is_one_bearer_of_ascii(
            values in vec(
                prop_oneof![
                    "(?i)(bearer|basic|bearerx| bearer)[ -~]{0,12}".prop_map(String::into_bytes),
                    vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..12),
                ],
                0..3,
            ),
        ) {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).expect("no control characters"));
            }
            let expected = match &values[..] {
                [] => Some(None),
                [value] if value.is_ascii() => {
                    let text = std::str::from_utf8(value).expect("ASCII");
                    let mut words = text.splitn(2, ' ');
                    let bearer = words.next().map(str::to_ascii_lowercase).as_deref() == Some("bearer");
                    Some(bearer.then(|| words.next().unwrap_or("").trim()))
                }
                _ => None,
            };
            prop_assert_eq!(bearer(&headers).ok(), expected);
        }

        #[test]
        fn a_query_brings_a_credential_at_most_once(tokens in vec("[A-Za-z0-9._-]{0,8}", 0..3), other in "[a-z=]{0,5}") {
            let pairs = tokens.iter().map(|token| format!("access_token={token}"));
            let query = [vec![format!("x{other}")], pairs.collect()].concat().join("&");
            let expected = match &tokens[..] {
                [] => Some(None),
                [token] => Some(Some(token.clone())),
                _ => None,
            };
            prop_assert_eq!(in_query(&query).ok(), expected);
        }
    }

    #[test]
    fn only_a_single_bearer_credential_counts() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(|found| found.map(str::to_owned)).ok()
        };
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&["Basic YTpi"]), Some(None));
        assert_eq!(of(&["Bearer abc"]), Some(Some("abc".to_owned())));
        assert_eq!(of(&["bEARER  abc "]), Some(Some("abc".to_owned())));
        assert_eq!(of(&["Bearer"]), Some(Some(String::new())));
        assert_eq!(of(&["Bearer a", "Bearer b"]), None);
    }
}
