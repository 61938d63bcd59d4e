//! Signatures of webhooks, as the specification of Standard Webhooks defines them
//! (<https://github.com/standard-webhooks/standard-webhooks>).

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The prefix of a secret.
const PREFIX: &str = "whsec_";

/// The bytes of a secret, before its base64 form.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signs webhooks.
pub(super) struct SigningKey(Key);

impl SigningKey {
    /// Reads `whsec_` and the base64 form of 24 to 64 bytes. Fails with the cause, which does not show the secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let encoded = text
            .strip_prefix(PREFIX)
            .ok_or("a secret must begin with whsec_")?;
        let bytes = STANDARD.decode(encoded);
        let bytes = bytes.map_err(|_| "the part after whsec_ must be base64")?;
        if !BYTES.contains(&bytes.len()) {
            return Err(format!(
                "a secret must have {} to {} bytes",
                BYTES.start(),
                BYTES.end()
            ));
        }
        Ok(Self(Key::new(HMAC_SHA256, &bytes)))
    }

    /// The signature of a webhook: `v1,` and the base64 form of the HMAC.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        format!("v1,{}", STANDARD.encode(sign(&self.0, &signed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let body = br#"{"test": 2432232314}"#;
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
