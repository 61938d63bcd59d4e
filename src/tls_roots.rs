//! Whom to trust over TLS, where the operator names the certificates.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// A configuration that trusts the certificates of a PEM text and no others: as authorities, and as the very
/// certificate that the server shows. Fails, and says why, if there is none in the text or one of them is malformed.
pub(crate) fn trusting_only(pem: &[u8]) -> Result<ClientConfig, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    let text = |error: Error| error.to_string();
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(text)?;
    }
    let provider = Arc::new(default_provider());
    let ordinary = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = NamedOrVouched {
        ordinary: ordinary.build().map_err(|error| error.to_string())?,
        named: certificates,
    };
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().map_err(text)?;
    // It does more than the ordinary verification only for a certificate that the operator named.
    let config = config.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// Accepts what the ordinary verification accepts, and a certificate that was itself named while it is valid by
/// date. A self-signed certificate is usually marked as one of an authority, which the ordinary verification does
/// not take from a server (`CaUsedAsEndEntity`), and often states no host name in the place where it is looked for.
#[derive(Debug)]
struct NamedOrVouched {
    ordinary: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for NamedOrVouched {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .ordinary
            .verify_server_cert(shown, intermediates, server, ocsp, now);
        match verified {
            Err(error) if self.named.iter().any(|named| named == shown) && !is_of_dates(&error) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    // That the server has the key of the certificate is verified in any case.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.ordinary
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.ordinary
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is not valid yet, or no longer. That is looked at first.
fn is_of_dates(error: &Error) -> bool {
    use CertificateError as E;
    matches!(
        error,
        Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }
        )
    )
}
