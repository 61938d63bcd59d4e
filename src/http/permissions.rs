//! Extractors that authenticate the caller and check its permissions.
//!
//! A handler names its permission as an argument: [`ActingFor`], [`Disconnecting`], [`SettingStatus`] or [`Seeing`] a
//! user of the path; [`SeeingGroup`] or [`WritingGroup`]; [`SeeingEveryone`], [`SeeingMetrics`], [`SeeingService`] or
//! [`Sweeping`]; [`StreamCaller`] for a stream; or the [`Caller`] itself if the body names the users.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::error::Error;
use super::extract::{GroupPath, UserPath};
use super::query::{decoded, parameters};
use super::state::AppState;
use crate::auth::{CallKind, Caller, Error as AuthError};
use crate::model::{GroupId, UserId};

/// The user of the path, and the caller, which may connect and ping this user.
#[derive(Debug)]
pub(crate) struct ActingFor(pub(crate) UserId, pub(crate) Caller);

/// The user of the path. The caller may close the connections of this user; the call counts as a disconnect.
#[derive(Debug)]
pub(crate) struct Disconnecting(pub(crate) UserId);

/// The user of the path, and the caller, which may set the status of this user. A change counts only once it is known
/// to be valid; see [`count_change`](Self::count_change).
#[derive(Debug)]
pub(crate) struct SettingStatus(pub(crate) UserId, pub(super) Caller);

impl SettingStatus {
    /// Counts the call as a change of the status, in addition to the quota of all calls. Fails if the quota is used up.
    pub(super) fn count_change(&self, state: &AppState) -> Result<(), Error> {
        Ok(state.authenticator.count(&self.1, CallKind::Status)?)
    }
}

/// The user of the path. The caller may see this user.
#[derive(Debug)]
pub(crate) struct Seeing(pub(crate) UserId);

/// The group of the path. The caller may see this group.
#[derive(Debug)]
pub(crate) struct SeeingGroup(pub(crate) GroupId);

/// The group of the path. The caller may write its stored members.
#[derive(Debug)]
pub(crate) struct WritingGroup(pub(crate) GroupId);

/// The caller may see all users.
#[derive(Debug)]
pub(crate) struct SeeingEveryone;

/// The caller may see the metrics. On loopback every caller may; elsewhere an API key with `presence.read` is required.
#[derive(Debug)]
pub(crate) struct SeeingMetrics;

/// The caller may see the state of the service.
#[derive(Debug)]
pub(crate) struct SeeingService;

/// The caller may make the service announce what is due and send the webhooks.
#[derive(Debug)]
pub(crate) struct Sweeping;

/// The caller of a stream. The credential may be in the query as `access_token`, because the `EventSource` of a browser
/// sends no header (RFC 6750, section 2.3).
#[derive(Debug)]
pub(crate) struct StreamCaller(pub(crate) Caller);

impl FromRequestParts<Arc<AppState>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = caller(parts, state).await?;
        state.authenticator.count(&caller, CallKind::Call)?;
        Ok(caller)
    }
}

/// The caller. The call is not counted yet.
async fn caller(parts: &Parts, state: &AppState) -> Result<Caller, Error> {
    if !state.authenticator.requires_credential() {
        return Ok(Caller::Anonymous);
    }
    let credential = bearer(&parts.headers)?;
    Ok(state.authenticator.caller(credential).await?)
}

/// The user of the path. Fails unless the caller may connect, ping and disconnect this user. A refused call takes
/// nothing of a quota of its own kind: it counts like any other call.
async fn writable(
    parts: &mut Parts,
    state: &AppState,
    kind: CallKind,
) -> Result<(UserId, Caller), Error> {
    let caller = caller(parts, state).await?;
    let path = UserPath::from_request_parts(parts, state).await;
    let user = path.and_then(|UserPath(user)| {
        caller.authorize_write(&user)?;
        Ok(user)
    });
    let kind = if user.is_ok() { kind } else { CallKind::Call };
    state.authenticator.count(&caller, kind)?;
    Ok((user?, caller))
}

impl FromRequestParts<Arc<AppState>> for ActingFor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let (user, caller) = writable(parts, state, CallKind::Call).await?;
        Ok(Self(user, caller))
    }
}

impl FromRequestParts<Arc<AppState>> for Disconnecting {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let (user, _) = writable(parts, state, CallKind::Disconnect).await?;
        Ok(Self(user))
    }
}

impl FromRequestParts<Arc<AppState>> for SettingStatus {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let (user, caller) = writable(parts, state, CallKind::Call).await?;
        Ok(Self(user, caller))
    }
}

impl FromRequestParts<Arc<AppState>> for Seeing {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let UserPath(user) = UserPath::from_request_parts(parts, state).await?;
        caller.authorize_read(&user)?;
        Ok(Self(user))
    }
}

/// Fails unless the caller may see `group` now.
pub(super) async fn authorize_group(
    state: &AppState,
    caller: &Caller,
    group: &GroupId,
) -> Result<(), Error> {
    match caller.authorize_read_group(group)? {
        Some(user) if !state.presence.is_member(group, user).await? => {
            Err(AuthError::GroupReadDenied(group.clone()).into())
        }
        _ => Ok(()),
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingGroup {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let GroupPath(group) = GroupPath::from_request_parts(parts, state).await?;
        authorize_group(state, &caller, &group).await?;
        Ok(Self(group))
    }
}

impl FromRequestParts<Arc<AppState>> for WritingGroup {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let GroupPath(group) = GroupPath::from_request_parts(parts, state).await?;
        caller.authorize_write_groups()?;
        Ok(Self(group))
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingEveryone {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.authorize_read_all()?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for Sweeping {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.authorize_sweep()?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingService {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.authorize_operator()?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for SeeingMetrics {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        if !state.config.is_local() {
            let caller = Caller::from_request_parts(parts, state).await?;
            caller.authorize_operator()?;
        }
        Ok(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for StreamCaller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        if !state.authenticator.requires_credential() {
            return Ok(Self(Caller::Anonymous));
        }
        let header = bearer(&parts.headers)?;
        let query = match header {
            Some(_) => None,
            None => in_query(parts.uri.query().unwrap_or(""))?,
        };
        let credential = header.or(query.as_deref());
        let caller = state.authenticator.caller(credential).await?;
        state.authenticator.count(&caller, CallKind::Call)?;
        Ok(Self(caller))
    }
}

/// The bearer credential in the header (RFC 6750, section 2.1). `None`: no header, or another scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(bad_credential("multiple Authorization headers")),
    };
    let text = value.to_str();
    let text = text.map_err(|_| bad_credential("the credential is not ASCII"))?;
    let (scheme, credential) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    Ok(Some(credential.trim()))
}

/// The credential in the query of a stream.
fn in_query(query: &str) -> Result<Option<String>, Error> {
    let mut values =
        parameters(query).filter_map(|(name, value)| (name == "access_token").then_some(value));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decoded("access_token", value).map(Some),
        (Some(_), Some(_)) => Err(bad_credential("multiple access_token parameters")),
    }
}

fn bad_credential(why: &'static str) -> Error {
    AuthError::BadCredential(why).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_has_a_credential_if_it_is_single_bearer_and_ascii(
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
        fn a_query_has_at_most_one_credential(tokens in vec("[A-Za-z0-9._-]{0,8}", 0..3), other in "[a-z=]{0,5}") {
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
    fn a_credential_needs_the_bearer_scheme() {
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
