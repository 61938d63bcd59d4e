//! Fetches the JWK set of an identity provider.

use std::fmt;
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
use crate::outgoing::{checked_url, with_causes};
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
        // Keys must arrive encrypted: an attacker on the network path could otherwise replace them and forge tokens.
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
