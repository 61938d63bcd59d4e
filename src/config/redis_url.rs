//! Where Redis is: one server, or a primary that sentinels name.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// The port of a sentinel whose address names none.
const SENTINEL_PORT: u16 = 26_379;

/// The forms a URL may have, for those who wrote another.
const FORMS: &str = "must be redis://host:port/db, rediss://host:port/db, or \
                     redis+sentinel://host:port,host:port/primary/db, with user:password@ before the host";

/// The address of a Redis, with credentials that its `Debug` does not show.
#[derive(Clone)]
pub struct RedisUrl {
    server: ConnectionInfo,
    sentinels: Option<Sentinels>,
}

/// Who knows where the primary is.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// How to reach each of them, without credentials.
    pub addresses: Vec<ConnectionInfo>,
    /// The name under which they watch the primary.
    pub primary: String,
}

impl RedisUrl {
    /// The server and our credentials there. Behind sentinels the address in it means nothing.
    pub fn server(&self) -> &ConnectionInfo {
        &self.server
    }

    /// The sentinels to ask for the address of the server, if there are any.
    pub fn sentinels(&self) -> Option<&Sentinels> {
        self.sentinels.as_ref()
    }

    /// Whether every connection is encrypted and the other side's certificate verified.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.server.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The only fragment the client knows switches off the verification of certificates.
        if text.contains('#') {
            return Err(
                "a fragment (#…) is not allowed; PRESENCE_REDIS_CA_FILE names \
                        the authority to trust"
                    .to_owned(),
            );
        }
        match text.split_once("://") {
            Some((scheme @ ("redis" | "rediss"), _)) => Ok(Self {
                server: parse(text)?,
                sentinels: None,
            })
            .and_then(|url| match url.is_encrypted() == (scheme == "rediss") {
                true => Ok(url),
                false => Err(FORMS.to_owned()),
            }),
            Some(("redis+sentinel", rest)) => behind_sentinels("redis", rest),
            Some(("rediss+sentinel", rest)) => behind_sentinels("rediss", rest),
            _ => Err(FORMS.to_owned()),
        }
    }
}

/// Reads `[user:password@]host:port,host:port/primary[/db]`.
fn behind_sentinels(scheme: &str, rest: &str) -> Result<RedisUrl, String> {
    let (authority, path) = rest
        .split_once('/')
        .ok_or("name the primary after the sentinels: /primary")?;
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), authority),
    };
    let (primary, database) = path.split_once('/').unwrap_or((path, ""));
    if primary.is_empty() {
        return Err("name the primary after the sentinels: /primary".to_owned());
    }
    let addresses = hosts.split(',').map(|host| sentinel(scheme, host));
    Ok(RedisUrl {
        server: parse(&format!("{scheme}://{credentials}primary/{database}"))?,
        sentinels: Some(Sentinels {
            addresses: addresses.collect::<Result<_, _>>()?,
            primary: primary.to_owned(),
        }),
    })
}

fn sentinel(scheme: &str, host: &str) -> Result<ConnectionInfo, String> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    }) && !host.ends_with(']');
    match has_port {
        true => parse(&format!("{scheme}://{host}/")),
        false => parse(&format!("{scheme}://{host}:{SENTINEL_PORT}/")),
    }
}

fn parse(url: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info()
        .map_err(|error| format!("{FORMS}; {}", error.category()))
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_is_read_as_it_was_meant(
            encrypted: bool,
            password in "[!-~é]{1,12}",
            hosts in vec(("[a-z][a-z0-9.-]{0,8}", 1_u16..), 1..4),
            database in 0_u8..16,
            through_sentinels: bool,
        ) {
            let scheme = if encrypted { "rediss" } else { "redis" };
            let secret = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            let addresses: Vec<_> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            let text = match through_sentinels {
                true => format!("{scheme}+sentinel://ann:{secret}@{}/main/{database}", addresses.join(",")),
                false => format!("{scheme}://ann:{secret}@{}/{database}", addresses[0]),
            };
            let url = read(&text);
            prop_assert_eq!(url.is_encrypted(), encrypted);
            let settings = url.server().redis_settings();
            prop_assert_eq!((settings.username(), settings.password()), (Some("ann"), Some(&*password)));
            prop_assert_eq!(settings.db(), i64::from(database));
            let found = match url.sentinels() {
                Some(sentinels) => sentinels.addresses.iter().map(|each| each.addr().to_string()).collect(),
                None => vec![url.server().addr().to_string()],
            };
            let expected = &addresses[..if through_sentinels { addresses.len() } else { 1 }];
            prop_assert_eq!(found, expected);
        }

        /// Whatever is refused, the refusal repeats nothing that may be secret.
        #[test]
        fn no_text_makes_it_panic_or_show_a_password(
            text in "(redis|rediss|redis\\+sentinel|http|unix)?(://)?(:hunter2@)?[a-z0-9:,/@\\[\\]#?%=é -]{0,16}|\\PC{0,30}",
        ) {
            if let Err(why) = text.parse::<RedisUrl>() {
                prop_assert!(!why.contains("hunter2"), "{}", why);
            } else {
                let schemes = ["redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://"];
                prop_assert!(schemes.iter().any(|scheme| text.starts_with(scheme)) && !text.contains('#'));
            }
        }
    }

    fn read(text: &str) -> RedisUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_server_is_named_with_credentials_and_database() {
        let url = read("rediss://ann:s%40cret@redis.example:6390/3");
        assert!(url.is_encrypted() && url.sentinels().is_none());
        assert_eq!(url.server().addr().to_string(), "redis.example:6390");
        let settings = url.server().redis_settings();
        assert_eq!(settings.username(), Some("ann"));
        assert_eq!(settings.password(), Some("s@cret"));
        assert_eq!(settings.db(), 3);
        assert_eq!(format!("{url:?}"), "RedisUrl(..)");
    }

    #[test]
    fn sentinels_are_named_with_the_primary() {
        let url = read("redis+sentinel://:secret@one:26380,two,[::1]:5/main/2");
        assert_eq!(url.server().redis_settings().password(), Some("secret"));
        assert_eq!(url.server().redis_settings().db(), 2);
        let sentinels = url.sentinels().expect("three");
        assert_eq!(sentinels.primary, "main");
        let addresses = sentinels.addresses.iter();
        let addresses: Vec<String> = addresses.map(|each| each.addr().to_string()).collect();
        assert_eq!(addresses, ["one:26380", "two:26379", "::1:5"]);
        let plain = sentinels.addresses.iter();
        let mut plain = plain.map(|each| each.redis_settings().password());
        assert!(plain.all(|password| password.is_none()));
    }

    #[test]
    fn what_is_no_address_of_ours_is_refused() {
        for text in [
            "http://x",
            "redis.example:6379",
            "unix:///tmp/socket",
            "redis://",
            "redis://host:port/",
            "redis://host/one",
            "rediss://host/#insecure",
            "redis+sentinel://host",
            "redis+sentinel://host/",
            "redis+sentinel://,host/main",
        ] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_refusal_repeats_a_password() {
        let error = "redis://:secret@host/one".parse::<RedisUrl>();
        assert!(!error.expect_err("no database").contains("secret"));
    }
}
