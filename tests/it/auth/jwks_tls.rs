//! A JWK set that is published over TLS with a certificate of a private authority.

use std::sync::Arc;

use harness::instance::{Instance, Settings};
use harness::wait::eventually_true;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::jwks_server::{JwksServer, publish};
use super::signing::Signer;
use super::{assert_refused, claims, ping};

/// A certificate authority whose certificate is in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        std::fs::write(directory.path().join("ca.pem"), pem).expect("a temporary file");
        let issuer = Issuer::new(params, key);
        Self { issuer, directory }
    }

    fn file(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }

    /// A TLS acceptor with a certificate of this authority for `127.0.0.1`.
    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let certificate = server.signed_by(&key, &self.issuer).expect("signed");
        acceptor(certificate.der().clone(), &key)
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("the key of the certificate")))
}

/// A TLS acceptor whose self-signed certificate is in the file and is marked as the certificate of an authority.
fn self_signed() -> (TempDir, TlsAcceptor) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("signed");
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("a temporary file");
    (directory, acceptor(certificate.der().clone(), &key))
}

/// A TLS acceptor with a certificate of an authority that nobody trusts.
pub(crate) fn untrusted() -> TlsAcceptor {
    Authority::new().acceptor()
}

fn settings(url: &str) -> Settings {
    Settings::new().with("PRESENCE_JWKS_URL", url)
}

#[tokio::test]
async fn the_jwk_set_is_fetched_from_a_server_of_a_private_authority() {
    let (authority, signer) = (Authority::new(), Signer::ed25519());
    let server = JwksServer::start_encrypted(publish(&[&signer]), authority.acceptor()).await;
    let settings = settings(server.url()).with("PRESENCE_JWKS_CA_FILE", &authority.file());
    let instance = Instance::start(&settings).await;
    let answer = ping(&instance.client(), "alice", &signer.token(&claims("alice"))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn the_jwk_set_is_fetched_from_a_server_with_the_pinned_certificate() {
    let ((directory, acceptor), signer) = (self_signed(), Signer::ed25519());
    let server = JwksServer::start_encrypted(publish(&[&signer]), acceptor).await;
    let file = directory.path().join("ca.pem").display().to_string();
    let settings = settings(server.url()).with("PRESENCE_JWKS_CA_FILE", &file);
    let instance = Instance::start(&settings).await;
    let answer = ping(&instance.client(), "alice", &signer.token(&claims("alice"))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (authority, other, signer) = (Authority::new(), Authority::new(), Signer::ed25519());
    let server = JwksServer::start_encrypted(publish(&[&signer]), authority.acceptor()).await;
    let public = settings(server.url());
    let of_other = public.clone().with("PRESENCE_JWKS_CA_FILE", &other.file());
    for settings in [public, of_other] {
        let instance = Instance::start(&settings).await;
        let answer = ping(&instance.client(), "alice", &signer.token(&claims("alice"))).await;
        assert_refused(&answer, 503, "no trusted keys");
        eventually_true("the log names the certificate", async || {
            instance.log().contains("certificate")
        })
        .await;
    }
    assert_eq!(server.requests(), 0, "an untrusted server gets no request");
}

#[tokio::test]
async fn an_invalid_ca_file_stops_the_start() {
    let authority = Authority::new();
    let encrypted = settings("https://127.0.0.1:1/");
    for settings in [
        encrypted
            .clone()
            .with("PRESENCE_JWKS_CA_FILE", "there/is/none"),
        encrypted.with("PRESENCE_JWKS_CA_FILE", "Cargo.toml"),
        settings("http://127.0.0.1:1/").with("PRESENCE_JWKS_CA_FILE", &authority.file()),
    ] {
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert!(!ended.status.success(), "{settings:?}");
        assert!(ended.log.contains("PRESENCE_JWKS_CA_FILE"), "{}", ended.log);
    }
}
