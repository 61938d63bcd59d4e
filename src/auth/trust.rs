//! Whom to trust where the JWK set is fetched.

use std::path::Path;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;

use crate::config::InvalidSetting;
use crate::tls_roots::trusting_only;

/// A connector that trusts the public certificate authorities, or only those in the PEM file.
pub(super) fn connector(
    authorities: Option<&Path>,
) -> Result<HttpsConnector<HttpConnector>, InvalidSetting> {
    let builder = HttpsConnectorBuilder::new();
    let builder = match authorities {
        Some(file) => {
            let config = trusting(file).map_err(|why| {
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

fn trusting(file: &Path) -> Result<ClientConfig, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    trusting_only(&pem)
}
