use super::*;
use crate::config::{AuthConfig, HttpConfig};
use axum::http::HeaderValue;
use proptest::prelude::*;
use std::net::IpAddr;

fn open_mode(origins: Option<&str>) -> Guard {
    let cors_origins = origins.map(|text| text.parse().expect("origins"));
    Guard::new(&Config {
        http: HttpConfig {
            cors_origins,
            ..HttpConfig::default()
        },
        ..Config::default()
    })
}

fn request(version: Version, target: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.version_mut() = version;
    *request.uri_mut() = target.parse().expect("a target");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("visible");
        request.headers_mut().append(*name, value);
    }
    request
}

/// The name of the problem. `None`: the request may pass.
fn refused(guard: &Guard, request: &Request<Body>) -> Option<&'static str> {
    match guard.check(request) {
        Ok(()) => None,
        Err(Error::Host(_)) => Some("host"),
        Err(Error::NotLocal(_)) => Some("not local"),
        Err(other) => panic!("{other}"),
    }
}

fn from(host: &str, more: &[(&'static str, &str)]) -> Option<&'static str> {
    let headers = [&[("host", host)], more].concat();
    refused(
        &open_mode(Some("https://app.example.com")),
        &request(Version::HTTP_11, "/v1/online", &headers),
    )
}

#[test]
fn open_mode_answers_only_hosts_that_are_this_machine() {
    for local in [
        "localhost",
        "localhost:8080",
        "LOCALHOST:1",
        "localhost.:8080",
        "127.0.0.1:8080",
        "127.0.0.2",
        "127.255.255.254:65535",
        "[::1]:8080",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:80",
        "localhost:",
    ] {
        assert_eq!(from(local, &[]), None, "{local}");
    }
    for foreign in [
        "",
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "foo.localhost",
        "0.0.0.0:8080",
        "10.0.0.1",
        "128.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "localhost..",
        "[::]:8080",
        "[::2]",
        "[fe80::1]",
        "presence",
    ] {
        assert_eq!(from(foreign, &[]), Some("not local"), "{foreign}");
    }
}

#[test]
fn a_host_header_must_be_a_single_valid_host() {
    for bad in [
        "localhost/",
        "user@localhost",
        "localhost:80:80",
        "localhost:http",
        "localhost:123456",
        "a b",
        "a,b",
        "a\\b",
        "a?b",
        "[::1",
        "[::1]x",
        "[::1]]",
        "::1",
    ] {
        assert_eq!(from(bad, &[]), Some("host"), "{bad}");
    }
    assert_eq!(from("localhost", &[("host", "localhost")]), Some("host"));
    let any = Guard::default();
    let check = |version, headers: &[(&'static str, &str)]| {
        refused(&any, &request(version, "/v1/online", headers))
    };
    assert_eq!(check(Version::HTTP_11, &[]), Some("host"));
    assert_eq!(check(Version::HTTP_10, &[]), None);
    assert_eq!(check(Version::HTTP_2, &[]), None);
    let two = [("host", "a"), ("host", "a")];
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        assert_eq!(check(version, &two), Some("host"), "{version:?}");
        assert_eq!(check(version, &two[..1]), None, "{version:?}");
    }
}

/// Requests in open mode: the version, the target, the `Host` header and the expected refusal.
const TARGETS: [(Version, &str, Option<&str>, Option<&str>); 15] = [
    (
        Version::HTTP_11,
        "http://localhost:1/v1/online",
        Some("localhost:1"),
        None,
    ),
    (
        Version::HTTP_11,
        "http://evil.example/v1/online",
        Some("localhost"),
        Some("not local"),
    ),
    (
        Version::HTTP_11,
        "http://localhost/v1/online",
        Some("evil.example"),
        Some("not local"),
    ),
    (Version::HTTP_10, "/v1/online", None, None),
    (
        Version::HTTP_10,
        "http://evil.example/v1/online",
        None,
        Some("not local"),
    ),
    (Version::HTTP_2, "http://localhost/v1/online", None, None),
    (
        Version::HTTP_2,
        "http://localhost/v1/online",
        Some("localhost"),
        None,
    ),
    (
        Version::HTTP_2,
        "http://evil.example/v1/online",
        None,
        Some("not local"),
    ),
    (
        Version::HTTP_2,
        "http://localhost/v1/online",
        Some("evil.example"),
        Some("host"),
    ),
    (Version::HTTP_2, "/v1/online", None, Some("not local")),
    (
        Version::HTTP_11,
        "/metrics",
        Some("evil.example"),
        Some("not local"),
    ),
    (Version::HTTP_11, "/livez", Some("evil.example"), None),
    (Version::HTTP_11, "/", Some("evil.example"), None),
    (Version::HTTP_11, "/dashboard", Some("evil.example"), None),
    (
        Version::HTTP_11,
        "/docs/index.html",
        Some("evil.example"),
        None,
    ),
];

#[test]
fn open_mode_checks_the_target_of_the_request_too() {
    let guard = open_mode(None);
    for (version, target, host, expected) in TARGETS {
        let headers: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        let request = request(version, target, &headers);
        assert_eq!(
            refused(&guard, &request),
            expected,
            "{version:?} {target} {host:?}"
        );
    }
}

#[test]
fn open_mode_answers_pages_of_its_own_host_and_of_allowed_origins() {
    for (host, origin, expected) in [
        ("localhost:8080", "http://localhost:8080", None),
        ("localhost:8080", "https://localhost:8080", None),
        ("LocalHost:8080", "http://localhost:8080", None),
        ("localhost", "http://localhost", None),
        ("localhost:80", "http://localhost", None),
        ("[::1]:8080", "http://[::1]:8080", None),
        ("127.0.0.1:8080", "https://app.example.com", None),
        ("localhost:8080", "http://localhost:3000", Some("not local")),
        ("localhost:8080", "http://127.0.0.1:8080", Some("not local")),
        ("localhost:8080", "http://localhost", Some("not local")),
        ("localhost:8080", "http://evil.example", Some("not local")),
        (
            "localhost:8080",
            "http://localhost:8080.evil.example",
            Some("not local"),
        ),
        ("localhost:8080", "null", Some("not local")),
        ("localhost:8080", "", Some("not local")),
        ("localhost:8080", "localhost:8080", Some("not local")),
        ("localhost:8080", "file://localhost:8080", Some("not local")),
    ] {
        assert_eq!(
            from(host, &[("origin", origin)]),
            expected,
            "{host} {origin}"
        );
    }
    let twice = [
        ("origin", "http://localhost"),
        ("origin", "http://localhost"),
    ];
    assert_eq!(from("localhost", &twice), Some("not local"));
    let any = request(
        Version::HTTP_11,
        "/v1/online",
        &[("host", "localhost"), ("origin", "null")],
    );
    assert_eq!(refused(&open_mode(Some("*")), &any), None);
}

#[test]
fn open_mode_refuses_requests_of_a_proxy() {
    for header in ["forwarded", "x-forwarded-for"] {
        assert_eq!(
            from("localhost", &[(header, "")]),
            Some("not local"),
            "{header}"
        );
        assert_eq!(
            from("localhost", &[(header, "127.0.0.1")]),
            Some("not local"),
            "{header}"
        );
    }
}

#[test]
fn any_host_is_answered_outside_open_mode() {
    let headers = [
        ("host", "presence.example.com"),
        ("origin", "https://evil.example"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    let call = request(Version::HTTP_11, "/v1/online", &headers);
    for auth in [
        AuthConfig {
            allow_anonymous: true,
            ..AuthConfig::default()
        },
        AuthConfig {
            api_keys: Some("a:presence.read:0123456789abcdef".into()),
            ..AuthConfig::default()
        },
    ] {
        let guard = Guard::new(&Config {
            auth,
            ..Config::default()
        });
        assert_eq!(refused(&guard, &call), None);
    }
    assert_eq!(refused(&open_mode(None), &call), Some("not local"));
}

proptest! {
    /// DNS can resolve any name except `localhost` to any address.
    #[test]
    fn only_localhost_and_loopback_addresses_are_local(
        host in "[a-z0-9.:\\[\\]-]{0,20}|(127|128|0|1)\\.[0-9]{1,3}\\.0\\.[0-9]{1,2}(\\.[a-z]{1,3})?(:[0-9]{1,6})?|\\[[0-9a-f:.]{0,12}\\](:[0-9]{1,3})?",
    ) {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let name = name.filter(|(name, _)| !name.contains(':') || name.ends_with(']')).map_or(&*host, |(name, _)| name);
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = name.trim_end_matches('.') == "localhost"
            || address.is_ok_and(|address| address.to_canonical().is_loopback());
        prop_assert!(local || from(&host, &[]).is_some(), "{}", host);
    }
}

#[test]
fn a_target_with_user_information_is_refused() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for target in [
            "http://me@localhost/v1/online",
            "http://me:secret@localhost:80/v1/online",
        ] {
            let asked = request(version, target, &[("host", "localhost")]);
            assert_eq!(refused(&open_mode(None), &asked), Some("host"), "{target}");
        }
    }
}
