//! Fetches the JWK set of an identity provider.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use tokio::time::timeout;

use crate::config::{InvalidSetting, Secret};
use crate::tls_roots::trusting_only;

/// The time limit of one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest accepted JWK set, in bytes. A set has a few keys of less than 4 KiB each.
const MAX_BYTES: usize = 256 * 1_024;

/// An HTTP client for one URL.
pub(super) struct JwksClient {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl JwksClient {
    /// A client for `url` that trusts the public certificate authorities, or only the certificates in the PEM file
    /// `ca_file`.
    pub(super) fn new(url: &Secret, ca_file: Option<&Path>) -> Result<Self, InvalidSetting> {
        let url = checked_url(url.expose())
            .map_err(|why| InvalidSetting::new("PRESENCE_JWKS_URL", why))?;
        if ca_file.is_some() && url.scheme_str() != Some("https") {
            let why = "requires a PRESENCE_JWKS_URL that begins with https://";
            return Err(InvalidSetting::new("PRESENCE_JWKS_CA_FILE", why));
        }
        let client = Client::builder(TokioExecutor::new()).build(connector(ca_file)?);
        Ok(Self { url, client })
    }

    /// Fetches the JWK set. Fails with a reason for the log, at the latest after five seconds.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        match timeout(FETCH_TIMEOUT, self.get()).await {
            Ok(fetched) => fetched,
            Err(_) => Err("no response within 5 seconds".to_owned()),
        }
    }

    async fn get(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.url)
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| with_causes(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("unexpected status {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

/// The URL shows in no message, since its query may be secret.
impl fmt::Debug for JwksClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksClient")
            .field("host", &self.url.host())
            .finish_non_exhaustive()
    }
}

/// Checks that keys arrive encrypted: an attacker on the network path could otherwise replace them and forge tokens.
/// `http://` on loopback is allowed for tests.
fn checked_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "invalid URL")?;
    let authority = url
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or("the URL has no host")?;
    if authority.as_str().contains('@') {
        return Err("the URL must not contain a user or password");
    }
    let host = authority.host().trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>();
    let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_loopback => Ok(url),
        _ => Err("the URL must begin with https://, or with http:// on loopback"),
    }
}

fn connector(ca_file: Option<&Path>) -> Result<HttpsConnector<HttpConnector>, InvalidSetting> {
    let builder = HttpsConnectorBuilder::new();
    let builder = match ca_file {
        Some(file) => {
            let config = trusting_only_file(file).map_err(|why| {
                let why = format!("{}: {why}", file.display());
                InvalidSetting::new("PRESENCE_JWKS_CA_FILE", why)
            })?;
            builder.with_tls_config(config)
        }
        None => builder
            .with_provider_and_webpki_roots(default_provider())
            .map_err(|error| InvalidSetting::new("PRESENCE_JWKS_URL", error.to_string()))?,
    };
    Ok(builder.https_or_http().enable_http1().build())
}

fn trusting_only_file(file: &Path) -> Result<ClientConfig, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    trusting_only(&pem)
}

fn with_causes(error: &dyn std::error::Error) -> String {
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
