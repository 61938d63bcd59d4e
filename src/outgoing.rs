//! What the clients of other servers share: the JWK set client and the sender of webhooks.

use std::error::Error;
use std::net::IpAddr;

use axum::http::Uri;

/// Reads the URL of another server. It must begin with `https://`, or with `http://` on loopback, and must not contain
/// a user or password. The error does not contain the URL, which may be secret.
pub(crate) fn checked_url(text: &str) -> Result<Uri, &'static str> {
    let url = url_with_host(text)?;
    if url.scheme_str() == Some("https") || is_plain_on_loopback(&url) {
        return Ok(url);
    }
    Err("the URL must begin with https://, or with http:// on loopback")
}

/// Reads a URL that has a host, and neither user nor password.
pub(crate) fn url_with_host(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "invalid URL")?;
    let authority = url.authority().filter(|each| !each.host().is_empty());
    let authority = authority.ok_or("the URL has no host")?;
    if authority.as_str().contains('@') {
        return Err("the URL must not contain a user or password");
    }
    Ok(url)
}

fn is_plain_on_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>();
    let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    url.scheme_str() == Some("http") && is_loopback
}

/// The text of an error and of its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #[test]
        fn a_url_is_encrypted_or_on_loopback(
            scheme in select(vec!["https", "http", "ftp", "HTTP", ""]),
            user in select(vec!["", "user@", "user:word@"]),
            host in select(vec!["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "10.0.0.1", "id.example.com", "localhost.example.com", ""]),
            rest in "(:[0-9]{1,4})?(/[a-z]{0,5}){0,2}",
        ) {
            let is_loopback = ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"].contains(&host);
            let is_encrypted = scheme == "https";
            let good = !host.is_empty() && user.is_empty() && (is_encrypted || (scheme.eq_ignore_ascii_case("http") && is_loopback));
            prop_assert_eq!(checked_url(&format!("{scheme}://{user}{host}{rest}")).is_ok(), good);
        }
    }

    #[test]
    fn a_url_must_begin_with_https_or_name_loopback() {
        for good in [
            "https://id.example.com/jwks.json?tenant=1",
            "http://127.0.0.1:9/keys",
            "http://localhost/keys",
            "http://[::1]:80/keys",
        ] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "keys.json",
            "/etc/passwd",
            "file:///etc/passwd",
            "http://id.example.com/keys",
            "http://127.0.0.1.example.com/",
            "https://user:word@id.example.com/",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }
}
