//! A key that verifies the tokens of users. Each key has one algorithm, and the `alg` of a token never selects another.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};

use super::claims::{ClaimRules, Claims};
use super::digest::{Digest, digest};
use super::error::Error;
use super::token::Token;
use crate::config::{InvalidSetting, Secret};
use crate::model::Credential;

/// The shortest HS256 secret, in bytes (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The shortest RSA modulus, in bytes (RFC 7518, section 3.3). The DER of an RSA key is longer than its modulus.
const MIN_RSA_MODULUS_BYTES: usize = 256;

/// The size of an uncompressed point of P-256, the only curve of ES256, in bytes.
const P256_POINT_BYTES: usize = 65;

/// A key, and the rules for the claims of the tokens that it verifies.
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
    rules: ClaimRules,
    /// The key id in the JWK set.
    pub(super) kid: Option<String>,
    /// Two keys of a JWK set are equal if their identities are equal.
    pub(super) identity: Digest,
    is_retired: AtomicBool,
}

impl VerifyingKey {
    fn new(key: DecodingKey, algorithm: Algorithm, rules: &ClaimRules) -> Self {
        Self {
            key,
            algorithm,
            rules: rules.clone(),
            kid: None,
            identity: Digest::default(),
            is_retired: AtomicBool::new(false),
        }
    }

    /// A key for HS256. Fails if the secret is shorter than 32 bytes.
    pub(super) fn from_secret(secret: &Secret, rules: &ClaimRules) -> Result<Self, InvalidSetting> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            let why = format!("must be at least {MIN_SECRET_BYTES} bytes long");
            return Err(InvalidSetting::new("PRESENCE_JWT_SECRET", why));
        }
        let key = DecodingKey::from_secret(bytes);
        Ok(Self::new(key, Algorithm::HS256, rules))
    }

    /// The public key in a PEM file. The type of the key determines the algorithm.
    pub(super) fn from_file(path: &Path, rules: &ClaimRules) -> Result<Self, InvalidSetting> {
        let invalid = |why: String| InvalidSetting::new("PRESENCE_JWT_PUBLIC_KEY", why);
        let pem = std::fs::read(path)
            .map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
        let (key, algorithm) =
            parse_pem(&pem).map_err(|why| invalid(format!("{}: {why}", path.display())))?;
        Ok(Self::new(key, algorithm, rules))
    }

    /// A key of a JWK set. Returns `None` if the key is weak or has another purpose.
    pub(super) fn from_jwk(json: &serde_json::Value, rules: &ClaimRules) -> Option<Self> {
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
            // A JWK set is public, so a symmetric key in it is no secret.
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

    /// Whether the key verifies tokens with this `alg`.
    pub(super) fn has_algorithm(&self, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
    }

    /// Whether the key has left its JWK set. The tokens that it verified are then invalid.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Invalidates the tokens that the key verified.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Verifies the signature and the claims of a token. Returns `None` if this key did not sign the token.
    pub(super) fn verify(&self, token: &str) -> Option<Result<Token, Error>> {
        let payload = self.verified_payload(token)?;
        // The signature is valid, so the error may say what is wrong with the claims.
        let claims = URL_SAFE_NO_PAD.decode(payload).ok();
        let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        Some(match claims {
            Some(claims) => self.rules.accept(claims),
            None => Err(Error::BadCredential(
                "the claims of the token are not a JSON object, or a claim is repeated",
            )),
        })
    }

    /// The claims of the token, in base64, if this key signed the token.
    fn verified_payload<'a>(&self, token: &'a str) -> Option<&'a str> {
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

fn parse_pem(pem: &[u8]) -> Result<(DecodingKey, Algorithm), &'static str> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE KEY-----") {
        return Err("the file contains a private key; provide the public key only");
    }
    if !text.contains("-----BEGIN PUBLIC KEY-----")
        && !text.contains("-----BEGIN RSA PUBLIC KEY-----")
    {
        return Err("the file contains no PUBLIC KEY");
    }
    let key = DecodingKey::from_ed_pem(pem)
        .map(|key| (key, Algorithm::EdDSA))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)));
    match key {
        Ok((key, algorithm)) if is_weak(&key, algorithm) => {
            Err("an RSA key must have 2048 bits or more; an elliptic key must use P-256 or Ed25519")
        }
        Ok(found) => Ok(found),
        Err(_) => Err("the key is not an RSA, P-256 or Ed25519 public key"),
    }
}

fn is_weak(key: &DecodingKey, algorithm: Algorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind as Kind;
    match (algorithm, key.kind()) {
        (Algorithm::RS256, Kind::RsaModulusExponent { n, .. }) => n.len() < MIN_RSA_MODULUS_BYTES,
        (Algorithm::RS256, Kind::SecretOrDer(der)) => der.len() < MIN_RSA_MODULUS_BYTES,
        (Algorithm::ES256, Kind::SecretOrDer(point)) => point.len() != P256_POINT_BYTES,
        (Algorithm::EdDSA, Kind::SecretOrDer(point)) => point.len() != 32,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
