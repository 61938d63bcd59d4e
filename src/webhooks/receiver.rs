//! The receivers of the settings.

use std::fmt;

use axum::http::Uri;

use super::signature::SigningKey;
use crate::config::{InvalidSetting, WebhooksConfig};
use crate::outgoing::{checked_url, url_with_host};

const RECEIVERS: &str = "PRESENCE_WEBHOOKS";
const SECRETS: &str = "PRESENCE_WEBHOOK_SECRETS";
const PLAIN_HTTP: &str = "PRESENCE_WEBHOOK_PLAIN_HTTP";

/// The most receivers.
const MAX_RECEIVERS: usize = 10;

/// The longest name of a receiver, in bytes.
const MAX_NAME_BYTES: usize = 32;

/// The most secrets of a receiver: the old and the new one during a rotation.
const MAX_SECRETS: usize = 2;

/// A receiver of webhooks.
pub(super) struct Receiver {
    /// The name, for the store, the log and the metrics.
    pub(super) name: String,
    /// Where the webhooks go. The URL may contain a secret, so nothing shows it.
    pub(super) url: Uri,
    /// The keys that sign each webhook: one or two.
    pub(super) keys: Vec<SigningKey>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The receivers of the settings. Fails with the name of the variable and the cause. The cause shows no URL and no
/// secret.
pub(super) fn receivers(config: &WebhooksConfig) -> Result<Vec<Receiver>, InvalidSetting> {
    let Some(setting) = &config.webhooks else {
        for (variable, is_set) in [
            (SECRETS, config.webhook_secrets.is_some()),
            (PLAIN_HTTP, config.webhook_plain_http),
        ] {
            if is_set {
                let why = format!("has no effect without {RECEIVERS}, which is not set");
                return Err(InvalidSetting::new(variable, why));
            }
        }
        return Ok(Vec::new());
    };
    let mut receivers = Vec::new();
    for (index, text) in setting.expose().split(',').enumerate() {
        let receiver = receiver(text.trim(), config.webhook_plain_http);
        let receiver = receiver.and_then(|receiver| unrepeated(&receivers, receiver));
        receivers.push(receiver.map_err(|why| entry(RECEIVERS, index, &why))?);
    }
    if receivers.len() > MAX_RECEIVERS {
        let why = format!("at most {MAX_RECEIVERS} receivers are allowed");
        return Err(InvalidSetting::new(RECEIVERS, why));
    }
    if let Some(secrets) = &config.webhook_secrets {
        for (index, text) in secrets.expose().split(',').enumerate() {
            let added = add_secret(&mut receivers, text.trim());
            added.map_err(|why| entry(SECRETS, index, &why))?;
        }
    }
    match receivers.iter().find(|receiver| receiver.keys.is_empty()) {
        Some(unsigned) => {
            let why = format!("has no secret for the receiver {:?}", unsigned.name);
            Err(InvalidSetting::new(SECRETS, why))
        }
        None => Ok(receivers),
    }
}

fn entry(variable: &'static str, index: usize, why: &str) -> InvalidSetting {
    InvalidSetting::new(variable, format!("entry {}: {why}", index + 1))
}

fn receiver(text: &str, allows_plain_http: bool) -> Result<Receiver, String> {
    let (name, url) = text.split_once(':').ok_or("must have the form name:url")?;
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_part) {
        return Err(format!(
            "the name must be 1 to {MAX_NAME_BYTES} characters from a-z, 0-9 and -"
        ));
    }
    Ok(Receiver {
        name: name.to_owned(),
        url: receiver_url(url, allows_plain_http)?,
        keys: Vec::new(),
    })
}

fn unrepeated(known: &[Receiver], receiver: Receiver) -> Result<Receiver, String> {
    if known.iter().any(|known| known.name == receiver.name) {
        return Err(format!("the name {:?} is repeated", receiver.name));
    }
    Ok(receiver)
}

fn receiver_url(text: &str, allows_plain_http: bool) -> Result<Uri, String> {
    let url = url_with_host(text)?;
    match (checked_url(text), url.scheme_str()) {
        (Ok(url), _) => Ok(url),
        (Err(_), Some("http")) if allows_plain_http => Ok(url),
        (Err(_), Some("http")) => Err(format!(
            "the URL must begin with https://; {PLAIN_HTTP}=true allows http:// beyond loopback"
        )),
        (Err(why), _) => Err(why.to_owned()),
    }
}

fn add_secret(receivers: &mut [Receiver], text: &str) -> Result<(), String> {
    let (name, secret) = text
        .split_once(':')
        .ok_or("must have the form name:whsec_…")?;
    let receiver = receivers.iter_mut().find(|receiver| receiver.name == name);
    let receiver = receiver.ok_or(format!("{RECEIVERS} has no receiver with this name"))?;
    if receiver.keys.len() == MAX_SECRETS {
        return Err(format!(
            "the receiver {name:?} has more than {MAX_SECRETS} secrets"
        ));
    }
    receiver.keys.push(SigningKey::parse(secret)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn config(receivers: &str, secrets: &str) -> WebhooksConfig {
        let secret = |text: &str| (!text.is_empty()).then(|| Secret::from(text));
        WebhooksConfig {
            webhooks: secret(receivers),
            webhook_secrets: secret(secrets),
            webhook_plain_http: false,
        }
    }

    #[test]
    fn receivers_have_one_or_two_secrets() {
        let two = format!("a:{SECRET}, b:{SECRET}, a:{SECRET}");
        let read = receivers(&config(
            "a:https://a.example/hook?x=1, b:http://[::1]:9/",
            &two,
        ));
        let read = read.expect("good settings");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].keys.len(), read[1].keys.len()), (2, 1));
        assert!(receivers(&WebhooksConfig::default()).is_ok_and(|none| none.is_empty()));
    }

    #[test]
    fn a_bad_setting_is_refused_with_its_variable_and_its_cause() {
        let good = format!("a:{SECRET}");
        let eleven: Vec<_> = (0..11).map(|n| format!("r{n}:https://a.example")).collect();
        for (receivers_text, secrets, hint) in [
            (
                "a",
                &*good,
                "PRESENCE_WEBHOOKS: entry 1: must have the form",
            ),
            ("A:https://a.example", &good, "the name must be"),
            (
                "a:https://a.example,a:https://b.example",
                &good,
                "entry 2: the name \"a\" is repeated",
            ),
            ("a:not a url", &good, "invalid URL"),
            ("a:/hook", &good, "no host"),
            ("a:ftp://a.example", &good, "must begin with https://"),
            ("a:http://a.example", &good, "PRESENCE_WEBHOOK_PLAIN_HTTP"),
            ("a:https://u:p@a.example", &good, "user or password"),
            (
                "a:https://a.example",
                "",
                "PRESENCE_WEBHOOK_SECRETS: has no secret for the receiver \"a\"",
            ),
            (
                "a:https://a.example",
                "b:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "no receiver with this name",
            ),
            (
                "a:https://a.example",
                "a:MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "whsec_",
            ),
            ("a:https://a.example", "a:whsec_???", "base64"),
            ("a:https://a.example", "a:whsec_YWJj", "24 to 64 bytes"),
            (
                "",
                &good,
                "PRESENCE_WEBHOOK_SECRETS: has no effect without PRESENCE_WEBHOOKS",
            ),
            (&eleven.join(","), &good, "at most 10"),
        ] {
            let why = receivers(&config(receivers_text, secrets));
            let why = why.expect_err(receivers_text).to_string();
            assert!(why.contains(hint), "{receivers_text} {secrets}: {why}");
            assert!(!why.contains("MfKQ") && !why.contains("example"), "{why}");
        }
        let plain = WebhooksConfig {
            webhook_plain_http: true,
            ..config("a:http://a.example", &good)
        };
        assert!(receivers(&plain).is_ok());
    }
}
