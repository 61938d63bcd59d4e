//! TLS connections that trust the public certificate authorities, or only the certificates in a file of the operator.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// A TLS configuration that trusts only the certificates of a PEM text. A server is trusted if one of the certificates
/// is its authority, or is the certificate of the server itself.
///
/// Fails with a reason if the text contains no certificate or a malformed one.
pub(crate) fn trusting_only(pem: &[u8]) -> Result<ClientConfig, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("the file contains no certificate".to_owned());
    }
    let text = |error: Error| error.to_string();
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(text)?;
    }
    let provider = Arc::new(default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = PinnedOrSigned {
        webpki: webpki.build().map_err(|error| error.to_string())?,
        pinned: certificates,
    };
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().map_err(text)?;
    // The custom verifier differs from the standard one only for certificates in the file of the operator.
    let config = config.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// A TLS configuration that trusts the public certificate authorities.
pub(crate) fn trusting_public() -> Result<ClientConfig, Error> {
    let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Accepts the certificates that the standard verification accepts, and each pinned certificate that has not expired.
///
/// The standard verification refuses most self-signed certificates: they are marked as certificates of an authority
/// (`CaUsedAsEndEntity`), and often have no subject alternative name.
#[derive(Debug)]
struct PinnedOrSigned {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for PinnedOrSigned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = self.pinned.iter().any(|pinned| pinned == shown);
        let verified = self
            .webpki
            .verify_server_cert(shown, intermediates, server, ocsp, now);
        match verified {
            Err(error) if is_pinned && !is_outside_validity(&error) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    // The signatures prove that the server has the private key. They are verified for pinned certificates too.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether the certificate has expired or is not valid yet. The standard verification checks the dates first.
fn is_outside_validity(error: &Error) -> bool {
    use CertificateError as E;
    matches!(
        error,
        Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }
        )
    )
}
