//! Checks the claims of a token whose signature is valid. Each error names the claim.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use strsim::damerau_levenshtein;

use super::error::Error;
use super::token::{Groups, Token, Watch, unix_now};
use crate::config::AuthConfig;
use crate::model::{GroupId, UserId};

/// How far the clock of the issuer may be ahead of this machine, in seconds. `exp` has no such tolerance: a stream ends
/// when its token expires, so a token that opens a stream must not have expired.
const CLOCK_LEEWAY: u64 = 60;

/// How far in the future a date may be, in seconds: one leap year. A later date is probably in milliseconds, or makes
/// a token that stays valid for too long, since a single token cannot be revoked.
const MAX_LIFETIME: u64 = 366 * 86_400 + CLOCK_LEEWAY;

/// The claims that every token must have, whichever key signed it.
#[derive(Clone, Debug)]
pub(super) struct ClaimRules {
    issuer: Option<String>,
    audience: Option<String>,
}

/// The names of the claims that the service reads.
const NAMES: [&str; 8] = ["sub", "exp", "nbf", "iss", "aud", "watch", "groups", "join"];

/// The claims that the service reads, of any type. `null` counts as absent.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    watch: Option<Value>,
    groups: Option<Value>,
    join: Option<Value>,
    /// All other claims.
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

impl ClaimRules {
    /// The rules that `config` sets.
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self {
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
        }
    }

    /// Accepts the claims of a token with a valid signature, or says which claim is wrong.
    pub(super) fn accept(&self, claims: Claims) -> Result<Token, Error> {
        check_names(claims.others.keys())?;
        let user = parse_sub(claims.sub)?;
        let watch = parse_watch(claims.watch)?;
        let groups = parse_groups(claims.groups)?;
        let join = parse_join(claims.join)?;
        self.check_issuer(claims.iss)?;
        self.check_audience(claims.aud)?;
        let now = unix_now();
        let expires = parse_exp(claims.exp, now)?;
        check_nbf(claims.nbf, now)?;
        Ok(Token {
            user,
            watch,
            groups,
            join,
            expires,
        })
    }

    fn check_issuer(&self, iss: Option<Value>) -> Result<(), Error> {
        let Some(issuer) = &self.issuer else {
            return Ok(());
        };
        match iss {
            None => Err(Error::BadCredential("iss: missing")),
            Some(Value::String(iss)) if iss == *issuer => Ok(()),
            Some(Value::String(_)) => Err(Error::BadCredential("iss: not the expected issuer")),
            Some(_) => Err(Error::BadCredential("iss: must be a string")),
        }
    }

    fn check_audience(&self, aud: Option<Value>) -> Result<(), Error> {
        let Some(audience) = &self.audience else {
            return Ok(());
        };
        let found = match &aud {
            None => return Err(Error::BadCredential("aud: missing")),
            Some(Value::String(aud)) => aud == audience,
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().any(|aud| aud.as_str() == Some(audience))
            }
            Some(_) => {
                return Err(Error::BadCredential(
                    "aud: must be a string or a list of strings",
                ));
            }
        };
        if found {
            Ok(())
        } else {
            Err(Error::BadCredential(
                "aud: does not contain the expected audience",
            ))
        }
    }
}

/// Fails if the name of a claim is a misspelling of a name that the service reads: the service would ignore the claim,
/// and the token would mean something else.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    for name in names {
        if let Some(meant) = NAMES.iter().find(|known| is_misspelt(name, known)) {
            return Err(Error::BadCredential(match *meant {
                "sub" => "sub: the name of this claim is misspelt in the token",
                "exp" => "exp: the name of this claim is misspelt in the token",
                "nbf" => "nbf: the name of this claim is misspelt in the token",
                "iss" => "iss: the name of this claim is misspelt in the token",
                "aud" => "aud: the name of this claim is misspelt in the token",
                "groups" => "groups: the name of this claim is misspelt in the token",
                "join" => "join: the name of this claim is misspelt in the token",
                _ => "watch: the name of this claim is misspelt in the token",
            }));
        }
    }
    Ok(())
}

/// Whether `name` is `known` in another case or, for a `known` of four letters or more, with one letter added, one
/// letter missing, or two letters swapped. A replaced letter can make a word with a meaning of its own, such as
/// `batch`.
fn is_misspelt(name: &str, known: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if name == known {
        return true;
    }
    let is_transposed = || {
        let sorted = |text: &str| {
            let mut letters = text.as_bytes().to_vec();
            letters.sort_unstable();
            letters
        };
        sorted(&name) == sorted(known)
    };
    known.len() > 3
        && damerau_levenshtein(&name, known) == 1
        && (name.len() != known.len() || is_transposed())
}

fn parse_sub(sub: Option<Value>) -> Result<UserId, Error> {
    match sub {
        None => Err(Error::BadCredential(
            "sub: missing; must be the id of the user",
        )),
        Some(Value::String(sub)) => UserId::new(&sub).map_err(|_| {
            Error::BadCredential("sub: must be 1 to 128 bytes of UTF-8 without control characters")
        }),
        Some(_) => Err(Error::BadCredential(
            "sub: must be a string, the id of the user",
        )),
    }
}

fn parse_watch(watch: Option<Value>) -> Result<Watch, Error> {
    const WRONG_TYPE: Error =
        Error::BadCredential("watch: must be a list of user ids, or an asterisk (*)");
    match watch {
        None => Ok(Watch::Users(Box::default())),
        Some(Value::String(text)) if text == "*" => Ok(Watch::Everyone),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            // A text that is not a valid user id matches no user.
            let users = texts.ok_or(WRONG_TYPE)?.into_iter().map(UserId::new);
            let mut users: Vec<_> = users.flatten().collect();
            users.sort_unstable();
            users.dedup();
            Ok(Watch::Users(users.into_boxed_slice()))
        }
        Some(_) => Err(WRONG_TYPE),
    }
}

fn parse_groups(groups: Option<Value>) -> Result<Groups, Error> {
    const WRONG_TYPE: Error =
        Error::BadCredential("groups: must be a list of group ids, an asterisk (*), or own");
    match groups {
        Some(Value::String(text)) if text == "own" => Ok(Groups::Own),
        other => named_groups(other, WRONG_TYPE),
    }
}

fn parse_join(join: Option<Value>) -> Result<Groups, Error> {
    const WRONG_TYPE: Error =
        Error::BadCredential("join: must be a list of group ids, or an asterisk (*)");
    named_groups(join, WRONG_TYPE)
}

/// The groups of a claim that is a list of ids or an asterisk.
fn named_groups(claim: Option<Value>, wrong_type: Error) -> Result<Groups, Error> {
    match claim {
        None => Ok(Groups::These(Box::default())),
        Some(Value::String(text)) if text == "*" => Ok(Groups::All),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            // A text that is not a valid group id matches no group.
            let groups = texts.ok_or(wrong_type)?.into_iter().map(GroupId::new);
            let mut groups: Vec<_> = groups.flatten().collect();
            groups.sort_unstable();
            groups.dedup();
            Ok(Groups::These(groups.into_boxed_slice()))
        }
        Some(_) => Err(wrong_type),
    }
}

fn parse_exp(exp: Option<Value>, now: u64) -> Result<u64, Error> {
    const WRONG_TYPE: Error = Error::BadCredential("exp: must be a number, in seconds since 1970");
    let exp = exp.ok_or(Error::BadCredential(
        "exp: missing; must be the time of expiry, in seconds since 1970",
    ))?;
    let exp = exp.as_f64().ok_or(WRONG_TYPE)?;
    if exp <= now as f64 {
        return Err(Error::TokenExpired);
    }
    if exp > (now + MAX_LIFETIME) as f64 {
        return Err(Error::BadCredential(
            "exp: more than a year in the future; must be in seconds since 1970, not in milliseconds",
        ));
    }
    Ok(exp as u64)
}

fn check_nbf(nbf: Option<Value>, now: u64) -> Result<(), Error> {
    let Some(nbf) = nbf else { return Ok(()) };
    let nbf = nbf.as_f64().ok_or(Error::BadCredential(
        "nbf: must be a number, in seconds since 1970",
    ))?;
    match nbf {
        nbf if nbf <= (now + CLOCK_LEEWAY) as f64 => Ok(()),
        nbf if nbf <= (now + MAX_LIFETIME) as f64 => {
            Err(Error::BadCredential("nbf: the token is not valid yet"))
        }
        _ => Err(Error::BadCredential(
            "nbf: more than a year in the future; must be in seconds since 1970, not in milliseconds",
        )),
    }
}
