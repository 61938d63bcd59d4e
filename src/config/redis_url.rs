//! The URL of Redis: one server, a primary behind sentinels, or a cluster.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// The default port of a sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// The default port of a server.
const SERVER_PORT: u16 = 6_379;

/// The valid forms of a URL, for the message about an invalid URL.
const FORMS: &str = "must be redis://host:port/db, redis+sentinel://host:port,host:port/primary/db, or \
                     redis+cluster://host:port,host:port, with user:password@ before the host, and with rediss \
                     instead of redis for TLS";

/// The URL of Redis. Its `Debug` output does not show the credentials.
#[derive(Clone)]
pub struct RedisUrl {
    server: ConnectionInfo,
    sentinels: Option<Sentinels>,
    seeds: Vec<ConnectionInfo>,
}

/// The sentinels that know the address of the primary.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// The addresses of the sentinels. They have no credentials.
    pub addresses: Vec<ConnectionInfo>,
    /// The name of the primary at the sentinels.
    pub primary: String,
}

impl RedisUrl {
    /// The server, the credentials and the database. Behind sentinels the address is a placeholder; of a cluster it is
    /// the first seed.
    pub fn server(&self) -> &ConnectionInfo {
        &self.server
    }

    /// The sentinels to ask for the address of the primary, if the URL names sentinels.
    pub fn sentinels(&self) -> Option<&Sentinels> {
        self.sentinels.as_ref()
    }

    /// The nodes of the cluster to ask for the others; empty if the URL does not name a cluster. The URL has only
    /// database 0 then.
    pub fn seeds(&self) -> &[ConnectionInfo] {
        &self.seeds
    }

    /// Whether the URL names a cluster.
    pub fn is_cluster(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// Whether both URLs name the same server, or the same primary behind a sentinel. Other names of one address are
    /// not recognized.
    pub fn shares_a_server(&self, other: &Self) -> bool {
        let primary = |url: &Self| url.sentinels().map(|sentinels| sentinels.primary.clone());
        let others = other.addresses();
        primary(self) == primary(other)
            && self
                .addresses()
                .iter()
                .any(|address| others.contains(address))
    }

    /// The servers and the database, without the credentials.
    pub fn place(&self) -> String {
        let hosts = self.addresses().into_iter();
        let hosts: Vec<_> = hosts.map(|(host, port)| format!("{host}:{port}")).collect();
        let primary = self.sentinels.as_ref().map(|sentinels| &*sentinels.primary);
        let database = self.server.redis_settings().db();
        format!(
            "{}/{}/{database}",
            hosts.join(","),
            primary.unwrap_or_default()
        )
    }

    /// The hosts and ports in the URL.
    fn addresses(&self) -> Vec<(String, u16)> {
        let all = match (&self.sentinels, &*self.seeds) {
            (Some(sentinels), _) => &sentinels.addresses,
            (None, []) => std::slice::from_ref(&self.server),
            (None, seeds) => seeds,
        };
        let address = |info: &ConnectionInfo| match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some((host.to_ascii_lowercase(), *port))
            }
            _ => None,
        };
        all.iter().filter_map(address).collect()
    }

    /// Whether connections use TLS and verify the certificate of the server.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.server.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The Redis client knows one fragment, `#insecure`, which disables the verification of certificates.
        if text.contains('#') {
            return Err(
                "a fragment (#…) is not allowed; PRESENCE_REDIS_CA_FILE selects the authorities to trust"
                    .to_owned(),
            );
        }
        // The Redis client would ignore most parameters of a query without a word.
        if text.contains('?') {
            return Err("a query (?…) is not allowed; write a ? of a password as %3F".to_owned());
        }
        match text.split_once("://") {
            Some((scheme @ ("redis" | "rediss"), _)) => {
                let url = Self {
                    server: parse(text)?,
                    sentinels: None,
                    seeds: Vec::new(),
                };
                if url.is_encrypted() != (scheme == "rediss") {
                    return Err(FORMS.to_owned());
                }
                Ok(url)
            }
            Some(("redis+sentinel", rest)) => behind_sentinels("redis", rest),
            Some(("rediss+sentinel", rest)) => behind_sentinels("rediss", rest),
            Some(("redis+cluster", rest)) => of_cluster("redis", rest),
            Some(("rediss+cluster", rest)) => of_cluster("rediss", rest),
            _ => Err(FORMS.to_owned()),
        }
    }
}

/// Parses `[user:password@]host:port,host:port[/0]`.
fn of_cluster(scheme: &str, rest: &str) -> Result<RedisUrl, String> {
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(database, "" | "0") {
        return Err("a cluster has only database 0".to_owned());
    }
    let (credentials, hosts) = with_credentials(authority);
    let seeds = hosts.split(',').map(|host| {
        let host = with_port(host, SERVER_PORT);
        parse(&format!("{scheme}://{credentials}{host}/"))
    });
    let seeds: Vec<_> = seeds.collect::<Result<_, _>>()?;
    let server = seeds.first().cloned().ok_or_else(|| FORMS.to_owned())?;
    Ok(RedisUrl {
        server,
        sentinels: None,
        seeds,
    })
}

/// The credentials with their `@`, and the hosts after them.
fn with_credentials(authority: &str) -> (&str, &str) {
    let hosts = authority.rfind('@').map_or(0, |at| at + 1);
    authority.split_at(hosts)
}

/// Parses `[user:password@]host:port,host:port/primary[/db]`.
fn behind_sentinels(scheme: &str, rest: &str) -> Result<RedisUrl, String> {
    let (authority, path) = rest
        .split_once('/')
        .ok_or("the name of the primary is missing after the sentinels: /primary")?;
    let (credentials, hosts) = with_credentials(authority);
    let (primary, database) = path.split_once('/').unwrap_or((path, ""));
    if primary.is_empty() {
        return Err("the name of the primary is missing after the sentinels: /primary".to_owned());
    }
    let addresses = hosts.split(',').map(|host| {
        let host = with_port(host, SENTINEL_PORT);
        parse(&format!("{scheme}://{host}/"))
    });
    Ok(RedisUrl {
        server: parse(&format!("{scheme}://{credentials}primary/{database}"))?,
        sentinels: Some(Sentinels {
            addresses: addresses.collect::<Result<_, _>>()?,
            primary: primary.to_owned(),
        }),
        seeds: Vec::new(),
    })
}

/// The host with its port, or with the port `default`.
fn with_port(host: &str, default: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    }) && !host.ends_with(']');
    if has_port {
        host.to_owned()
    } else {
        format!("{host}:{default}")
    }
}

fn parse(url: &str) -> Result<ConnectionInfo, String> {
    let info = url
        .into_connection_info()
        .map_err(|error| format!("{FORMS}; {}", error.category()))?;
    match info.addr() {
        ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
            Err(format!("{FORMS}; no server listens on port 0"))
        }
        _ => Ok(info),
    }
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
        fn a_url_has_a_host_credentials_and_a_database(
            encrypted: bool,
            password in "[!-~é]{1,12}",
            hosts in vec(("[a-z][a-z0-9.-]{0,8}", 1_u16..), 1..4),
            database in 0_u8..16,
            through_sentinels: bool,
        ) {
            let scheme = if encrypted { "rediss" } else { "redis" };
            let secret = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            let addresses: Vec<_> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            let text = if through_sentinels {
                format!("{scheme}+sentinel://ann:{secret}@{}/main/{database}", addresses.join(","))
            } else {
                format!("{scheme}://ann:{secret}@{}/{database}", addresses[0])
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

        #[test]
        fn arbitrary_text_causes_no_panic_and_shows_no_password(
            text in "(redis|rediss|redis\\+sentinel|redis\\+cluster|http|unix)?(://)?(:hunter2@)?[a-z0-9:,/@\\[\\]#?%=é -]{0,16}|\\PC{0,30}",
        ) {
            if let Err(why) = text.parse::<RedisUrl>() {
                prop_assert!(!why.contains("hunter2"), "{}", why);
            } else {
                let schemes = ["", "+sentinel", "+cluster"].map(|kind| [format!("redis{kind}://"), format!("rediss{kind}://")]);
                let mut schemes = schemes.into_iter().flatten();
                prop_assert!(schemes.any(|scheme| text.starts_with(&scheme)) && !text.contains(['#', '?']));
            }
        }
    }

    fn read(text: &str) -> RedisUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_server_url_has_credentials_and_a_database() {
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
    fn a_sentinel_url_names_the_primary() {
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
    fn a_cluster_url_names_seeds_with_the_same_credentials() {
        let url = read("rediss+cluster://ann:s%40cret@one:7000,two,[::1]:7002/0");
        assert!(url.is_cluster() && url.is_encrypted() && url.sentinels().is_none());
        let seeds: Vec<String> = url
            .seeds()
            .iter()
            .map(|seed| seed.addr().to_string())
            .collect();
        assert_eq!(seeds, ["one:7000", "two:6379", "::1:7002"]);
        let passwords = url
            .seeds()
            .iter()
            .map(|seed| seed.redis_settings().password());
        assert!(
            passwords
                .into_iter()
                .all(|password| password == Some("s@cret"))
        );
        assert!(!read("redis://one").is_cluster());
        assert!(!read("redis+cluster://one").is_encrypted());
    }

    #[test]
    fn a_cluster_has_only_database_0() {
        let error = "redis+cluster://one:7000/1".parse::<RedisUrl>();
        assert_eq!(
            error.expect_err("no database"),
            "a cluster has only database 0"
        );
    }

    #[test]
    fn other_urls_are_refused() {
        for text in [
            "http://x",
            "redis.example:6379",
            "unix:///tmp/socket",
            "redis://",
            "redis://host:port/",
            "redis://host/one",
            "redis://host:0",
            "redis://host/?protocol=resp3",
            "rediss://host/#insecure",
            "redis+sentinel://host",
            "redis+sentinel://host/",
            "redis+sentinel://,host/main",
            "redis+sentinel://one:0/main",
            "redis+sentinel://one/main?db=1",
            "redis+cluster://",
            "redis+cluster://host,",
            "redis+cluster://host/main",
            "redis+cluster://one,two:0",
            "redis+cluster://one/?tls=1",
        ] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_does_not_show_a_password() {
        let error = "redis://:secret@host/one".parse::<RedisUrl>();
        assert!(!error.expect_err("no database").contains("secret"));
    }
}
