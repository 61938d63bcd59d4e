//! What a token says about its user, once its signature is known to be good. A refusal names the claim.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use strsim::damerau_levenshtein;

use super::verifying::Refused;
use super::{Watch, unix_now};
use crate::config::AccessConfig;
use crate::model::UserId;

/// How far the issuer's clock may be ahead of ours, in seconds. An `exp` gets no such grace: a
/// stream ends at its token's, and a token that opens a stream must not be expired.
const CLOCK_LEEWAY: u64 = 60;

/// How far ahead a date may be, in seconds: a year, a leap year at most. What is later was written in
/// milliseconds, or makes a token that nobody can take back.
const LONGEST_LIFE: u64 = 366 * 86_400 + CLOCK_LEEWAY;

/// Which tokens are accepted, whoever signed them.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
}

/// The names of the claims that mean something here.
const NAMES: [&str; 6] = ["sub", "exp", "nbf", "iss", "aud", "watch"];

/// The claims that mean something here, of any type; null is as good as none.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    watch: Option<Value>,
    /// The claims of others.
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// Who may see whom, and until when.
pub(super) struct Accepted {
    pub(super) user: UserId,
    pub(super) watch: Watch,
    /// When the token expires, in seconds since the Unix epoch.
    pub(super) expires: u64,
}

impl Rules {
    pub(super) fn new(config: &AccessConfig) -> Self {
        Self {
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
        }
    }

    /// Judges the claims of a token with a good signature.
    pub(super) fn accept(&self, claims: Claims) -> Result<Accepted, Refused> {
        check_names(claims.others.keys())?;
        let user = user_of(claims.sub)?;
        let watch = watch_of(claims.watch)?;
        self.check_issuer(claims.iss)?;
        self.check_audience(claims.aud)?;
        let now = unix_now();
        let expires = expiry(claims.exp, now)?;
        check_begin(claims.nbf, now)?;
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

/// Fails where the name of a claim is one of ours misspelt: without that claim the token would mean something else.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Refused> {
    for name in names {
        if let Some(meant) = NAMES.iter().find(|known| is_misspelt(name, known)) {
            return Err(Refused(match *meant {
                "sub" => "sub: its name is misspelt in the token; it is sub, in lower case",
                "exp" => "exp: its name is misspelt in the token; it is exp, in lower case",
                "nbf" => "nbf: its name is misspelt in the token; it is nbf, in lower case",
                "iss" => "iss: its name is misspelt in the token; it is iss, in lower case",
                "aud" => "aud: its name is misspelt in the token; it is aud, in lower case",
                _ => "watch: its name is misspelt in the token; it is watch, in lower case",
            }));
        }
    }
    Ok(())
}

/// Whether `name` is `known` in another case or, where that is long enough, with one letter too many, one too few, or
/// two changed round. Another letter in place of one makes a word of its own, such as batch.
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

fn user_of(sub: Option<Value>) -> Result<UserId, Refused> {
    match sub {
        None => Err(Refused("sub: the token has none; it is the id of the user")),
        Some(Value::String(sub)) => UserId::new(&sub).map_err(|_| {
            Refused("sub: a user id has 1 to 128 bytes of UTF-8 without control characters")
        }),
        Some(_) => Err(Refused("sub: it must be a string, the id of the user")),
    }
}

fn watch_of(watch: Option<Value>) -> Result<Watch, Refused> {
    const ILL_TYPED: Refused = Refused("watch: it must be a list of user ids, or an asterisk");
    match watch {
        None => Ok(Watch::Users(Box::default())),
        Some(Value::String(text)) if text == "*" => Ok(Watch::Everyone),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            // What is no user id is nobody's.
            let users = texts.ok_or(ILL_TYPED)?.into_iter().map(UserId::new);
            let mut users: Vec<_> = users.flatten().collect();
            users.sort_unstable();
            users.dedup();
            Ok(Watch::Users(users.into_boxed_slice()))
        }
        Some(_) => Err(ILL_TYPED),
    }
}

fn expiry(exp: Option<Value>, now: u64) -> Result<u64, Refused> {
    const ILL_TYPED: Refused = Refused("exp: it must be a number, of seconds since 1970");
    let exp = exp.ok_or(Refused("exp: the token has none; it says when it expires"))?;
    let exp = exp.as_f64().ok_or(ILL_TYPED)?;
    if exp <= now as f64 {
        return Err(Refused::EXPIRED);
    }
    if exp > (now + LONGEST_LIFE) as f64 {
        return Err(Refused(
            "exp: it is more than a year ahead; it must be in seconds since 1970, not in milliseconds",
        ));
    }
    Ok(exp as u64)
}

fn check_begin(nbf: Option<Value>, now: u64) -> Result<(), Refused> {
    let Some(nbf) = nbf else { return Ok(()) };
    let nbf = nbf
        .as_f64()
        .ok_or(Refused("nbf: it must be a number, of seconds since 1970"))?;
    match nbf {
        nbf if nbf <= (now + CLOCK_LEEWAY) as f64 => Ok(()),
        nbf if nbf <= (now + LONGEST_LIFE) as f64 => {
            Err(Refused("nbf: the token is not valid yet"))
        }
        _ => Err(Refused(
            "nbf: it is more than a year ahead; it must be in seconds since 1970, not in milliseconds",
        )),
    }
}
