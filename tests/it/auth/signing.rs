//! Makes valid and forged tokens. A test sets the header and the claims.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key that signs tokens.
pub(crate) struct Signer {
    key: Key,
    kid: Option<String>,
}

enum Key {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn secret(secret: &[u8]) -> Self {
        Self::of(Key::Secret(secret.to_vec()))
    }

    pub(super) fn rsa() -> Self {
        Self::of(Key::Rsa(
            RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
        ))
    }

    pub(super) fn p256() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::of(Key::P256(key.expect("a key")))
    }

    pub(super) fn ed25519() -> Self {
        Self::of(Key::Ed25519(Ed25519KeyPair::generate().expect("a key")))
    }

    fn of(key: Key) -> Self {
        Self { key, kid: None }
    }

    /// This key, with a key id in its tokens and its JWK.
    pub(super) fn named(mut self, kid: &str) -> Self {
        self.kid = Some(kid.to_owned());
        self
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Secret(_) => "HS256",
            Key::Rsa(_) => "RS256",
            Key::P256(_) => "ES256",
            Key::Ed25519(_) => "EdDSA",
        }
    }

    /// A valid token.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.token_with(&header, claims)
    }

    /// A token with any header. The signature uses the algorithm of this key, whatever the header says.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("a signature");
                signature
            }
            Key::P256(key) => key
                .sign(&random, message)
                .expect("a signature")
                .as_ref()
                .to_vec(),
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token that is signed with PS256 by an RSA key.
    pub(super) fn pss_token(&self, claims: &Value) -> String {
        let Key::Rsa(key) = &self.key else {
            panic!("PSS is for RSA");
        };
        let signed = signed_part(&json!({"alg": "PS256"}), claims);
        let mut signature = vec![0; key.public_modulus_len()];
        let random = SystemRandom::new();
        key.sign(&RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature)
            .expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key as PEM.
    pub(super) fn public_pem(&self) -> String {
        let der = match &self.key {
            Key::Secret(_) => panic!("a secret is not published"),
            Key::Rsa(key) => AsDer::as_der(key.public_key()),
            Key::P256(key) => AsDer::as_der(key.public_key()),
            Key::Ed25519(key) => AsDer::as_der(key.public_key()),
        };
        let der = der.expect("a public key");
        let lines = STANDARD.encode(der.as_ref());
        let lines = lines.as_bytes().chunks(64).map(String::from_utf8_lossy);
        let lines: Vec<_> = lines.collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    /// The public key as a JWK. The JWK of a secret contains the secret.
    pub(super) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Key::Secret(secret) => json!({"kty": "oct", "k": encode(secret)}),
            Key::Rsa(key) => {
                // RFC 8017, A.1.1: a sequence of the modulus, 2048 bits after a zero, and 65537.
                let der = key.public_key().as_ref();
                json!({"kty": "RSA", "n": encode(&der[9..265]), "e": "AQAB"})
            }
            Key::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Key::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref())})
            }
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }
}

/// Header and claims of a token, without a signature.
pub(super) fn signed_part(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}
