//! A key that verifies user tokens. It knows its one algorithm; what a token says about that is
//! only ever compared with it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};

use super::Token;
use super::access::{Digest, digest};
use super::claims::{Claims, Rules};
use crate::config::{InvalidSetting, Secret};
use crate::model::Credential;

/// The shortest HS256 secret, in bytes (RFC 7518, section 3.2).
const LEAST_SECRET: usize = 32;

/// The shortest RSA modulus, in bytes (RFC 7518, section 3.3), and what its DER has at least.
const LEAST_MODULUS: usize = 256;

/// An uncompressed point of P-256, the only curve of ES256.
const P256_POINT: usize = 65;

/// A key with the rules for the tokens that it verifies.
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
    rules: Rules,
    /// The name in its JWK set.
    pub(super) kid: Option<String>,
    /// What tells it from other keys of its JWK set.
    pub(super) identity: Digest,
    retired: AtomicBool,
}

/// Why a token is refused. What is said about a token whose signature does not fit is the same
/// for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

impl Refused {
    /// Another key may fit.
    pub(super) const SIGNATURE: Self = Self("the credential is not valid");

    /// A fresh token is all that is needed.
    pub(crate) const EXPIRED: Self = Self("exp: the token has expired");
}

impl VerifyingKey {
    fn new(key: DecodingKey, algorithm: Algorithm, rules: &Rules) -> Self {
        Self {
            key,
            algorithm,
            rules: rules.clone(),
            kid: None,
            identity: Digest::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// A key for HS256.
    pub(super) fn from_secret(secret: &Secret, rules: &Rules) -> Result<Self, InvalidSetting> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < LEAST_SECRET {
            let why = format!("must be {LEAST_SECRET} bytes or more");
            return Err(InvalidSetting::new("PRESENCE_JWT_SECRET", why));
        }
        let key = DecodingKey::from_secret(bytes);
        Ok(Self::new(key, Algorithm::HS256, rules))
    }

    /// The public key in a PEM file, which decides on the algorithm.
    pub(super) fn from_file(path: &Path, rules: &Rules) -> Result<Self, InvalidSetting> {
        let invalid = |why: String| InvalidSetting::new("PRESENCE_JWT_PUBLIC_KEY", why);
        let pem = std::fs::read(path)
            .map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
        let (key, algorithm) =
            public_key(&pem).map_err(|why| invalid(format!("{}: {why}", path.display())))?;
        Ok(Self::new(key, algorithm, rules))
    }

    /// A key of a JWK set; none where it is for something else, or weak.
    pub(super) fn from_jwk(json: &serde_json::Value, rules: &Rules) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
        if !matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        ) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(parameters)
                if parameters.curve == EllipticCurve::P256 =>
            {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(parameters)
                if parameters.curve == EllipticCurve::Ed25519 =>
            {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            // A set that anyone can read holds no secrets.
            _ => return None,
        };
        if jwk.common.key_algorithm.is_some_and(|name| name != named) || is_weak(&key, algorithm) {
            return None;
        }
        Some(Self {
            kid: jwk.common.key_id,
            identity: digest(&json.to_string()),
            ..Self::new(key, algorithm, rules)
        })
    }

    /// Whether tokens that claim this algorithm may have been signed with its counterpart.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
    }

    /// Whether it has left its JWK set: what it verified counts no longer.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// What the token says, if this key signed it.
    pub(super) fn verify(self: &Arc<Self>, token: &str) -> Result<Token, Refused> {
        let payload = self.signed_payload(token).ok_or(Refused::SIGNATURE)?;
        // From here on the holder may be told what is wrong.
        let claims = URL_SAFE_NO_PAD.decode(payload).ok();
        let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        let claims = claims.ok_or(Refused(
            "the claims of the token are no JSON object, or one is there twice",
        ))?;
        let accepted = self.rules.accept(claims)?;
        Ok(Token {
            user: accepted.user,
            watch: accepted.watch,
            expires: accepted.expires,
            key: Arc::clone(self),
        })
    }

    /// The part of the token with the claims, if this key signed it.
    fn signed_payload<'a>(&self, token: &'a str) -> Option<&'a str> {
        let header = decode_header(token).ok()?;
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, payload) = signed.rsplit_once('.')?;
        let verified = verify(signature, signed.as_bytes(), &self.key, self.algorithm);
        (header.alg == self.algorithm && verified.ok()?).then_some(payload)
    }
}

impl Credential for VerifyingKey {
    fn is_withdrawn(&self) -> bool {
        self.is_retired()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey")
            .field(&self.algorithm)
            .finish()
    }
}

fn public_key(pem: &[u8]) -> Result<(DecodingKey, Algorithm), &'static str> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE KEY-----") {
        return Err("this is a private key; give its public part");
    }
    if !text.contains("-----BEGIN PUBLIC KEY-----")
        && !text.contains("-----BEGIN RSA PUBLIC KEY-----")
    {
        return Err("there is no PUBLIC KEY in it");
    }
    let key = DecodingKey::from_ed_pem(pem)
        .map(|key| (key, Algorithm::EdDSA))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)));
    match key {
        Ok((key, algorithm)) if is_weak(&key, algorithm) => {
            Err("RSA keys must have 2048 bits or more, elliptic ones the curve P-256 or Ed25519")
        }
        Ok(found) => Ok(found),
        Err(_) => Err("it is no RSA, P-256 or Ed25519 public key"),
    }
}

fn is_weak(key: &DecodingKey, algorithm: Algorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind as Kind;
    match (algorithm, key.kind()) {
        (Algorithm::RS256, Kind::RsaModulusExponent { n, .. }) => n.len() < LEAST_MODULUS,
        (Algorithm::RS256, Kind::SecretOrDer(der)) => der.len() < LEAST_MODULUS,
        (Algorithm::ES256, Kind::SecretOrDer(point)) => point.len() != P256_POINT,
        (Algorithm::EdDSA, Kind::SecretOrDer(point)) => point.len() != 32,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
