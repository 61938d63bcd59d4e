//! What a token says about its user, once its signature is known to be good. A refusal names the claim.

use serde::Deserialize;
use serde_json::Value;

use super::verifying_key::Refused;
use super::{Watch, unix_now};
use crate::config::AccessConfig;
use crate::model::UserId;

/// How far the issuer's clock may be ahead of ours, in seconds. An `exp` gets no such grace: a
/// stream ends at its token's, and a token that opens a stream must not be expired.
const CLOCK_LEEWAY: u64 = 60;

/// How far ahead a date may be, in seconds: a year, a leap year at most. What is later was written in
/// milliseconds, or makes a token that nobody can take back.
const MAX_LIFETIME: u64 = 366 * 86_400 + CLOCK_LEEWAY;

/// Which tokens are accepted, whoever signed them.
#[derive(Clone, Debug)]
pub(super) struct ClaimRules {
    issuer: Option<String>,
    audience: Option<String>,
}

/// The claims that mean something here, of any type; null is as good as none.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    watch: Option<Value>,
}

/// Who may see whom, and until when.
pub(super) struct Accepted {
    pub(super) user: UserId,
    pub(super) watch: Watch,
    /// When the token expires, in seconds since the Unix epoch.
    pub(super) expires: u64,
}

impl ClaimRules {
    pub(super) fn new(config: &AccessConfig) -> Self {
        Self {
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
        }
    }

    /// Judges the claims of a token with a good signature.
    pub(super) fn accept(&self, claims: Claims) -> Result<Accepted, Refused> {
        let user = parse_sub(claims.sub)?;
        let watch = parse_watch(claims.watch)?;
        self.check_issuer(claims.iss)?;
        self.check_audience(claims.aud)?;
        let now = unix_now();
        let expires = parse_exp(claims.exp, now)?;
        check_nbf(claims.nbf, now)?;
        Ok(Accepted {
            user,
            watch,
            expires,
        })
    }

    fn check_issuer(&self, iss: Option<Value>) -> Result<(), Refused> {
        let Some(issuer) = &self.issuer else {
            return Ok(());
        };
        match iss {
            None => Err(Refused("iss: the token has none")),
            Some(Value::String(iss)) if iss == *issuer => Ok(()),
            Some(Value::String(_)) => Err(Refused("iss: it is not the issuer that is expected")),
            Some(_) => Err(Refused("iss: it must be a string")),
        }
    }

    fn check_audience(&self, aud: Option<Value>) -> Result<(), Refused> {
        let Some(audience) = &self.audience else {
            return Ok(());
        };
        let found = match &aud {
            None => return Err(Refused("aud: the token has none")),
            Some(Value::String(aud)) => aud == audience,
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().any(|aud| aud.as_str() == Some(audience))
            }
            Some(_) => return Err(Refused("aud: it must be a string or a list of strings")),
        };
        match found {
            true => Ok(()),
            false => Err(Refused("aud: it does not name the expected audience")),
        }
    }
}

fn parse_sub(sub: Option<Value>) -> Result<UserId, Refused> {
    match sub {
        None => Err(Refused("sub: the token has none; it is the id of the user")),
        Some(Value::String(sub)) => UserId::new(&sub).map_err(|_| {
            Refused("sub: a user id has 1 to 128 bytes of UTF-8 without control characters")
        }),
        Some(_) => Err(Refused("sub: it must be a string, the id of the user")),
    }
}

fn parse_watch(watch: Option<Value>) -> Result<Watch, Refused> {
    const WRONG_TYPE: Refused = Refused("watch: it must be a list of user ids, or an asterisk");
    match watch {
        None => Ok(Watch::Users(Box::default())),
        Some(Value::String(text)) if text == "*" => Ok(Watch::Everyone),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            // What is no user id is nobody's.
            let users = texts.ok_or(WRONG_TYPE)?.into_iter().map(UserId::new);
            let mut users: Vec<_> = users.flatten().collect();
            users.sort_unstable();
            users.dedup();
            Ok(Watch::Users(users.into_boxed_slice()))
        }
        Some(_) => Err(WRONG_TYPE),
    }
}

fn parse_exp(exp: Option<Value>, now: u64) -> Result<u64, Refused> {
    const WRONG_TYPE: Refused = Refused("exp: it must be a number, of seconds since 1970");
    let exp = exp.ok_or(Refused("exp: the token has none; it says when it expires"))?;
    let exp = exp.as_f64().ok_or(WRONG_TYPE)?;
    if exp <= now as f64 {
        return Err(Refused::EXPIRED);
    }
    if exp > (now + MAX_LIFETIME) as f64 {
        return Err(Refused(
            "exp: it is more than a year ahead; it must be in seconds since 1970, not in milliseconds",
        ));
    }
    Ok(exp as u64)
}

fn check_nbf(nbf: Option<Value>, now: u64) -> Result<(), Refused> {
    let Some(nbf) = nbf else { return Ok(()) };
    let nbf = nbf
        .as_f64()
        .ok_or(Refused("nbf: it must be a number, of seconds since 1970"))?;
    match nbf {
        nbf if nbf <= (now + CLOCK_LEEWAY) as f64 => Ok(()),
        nbf if nbf <= (now + MAX_LIFETIME) as f64 => {
            Err(Refused("nbf: the token is not valid yet"))
        }
        _ => Err(Refused(
            "nbf: it is more than a year ahead; it must be in seconds since 1970, not in milliseconds",
        )),
    }
}
