//! The API keys of servers and dashboards.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tracing::warn;

use super::digest::{Digest, digest};
use crate::config::{InvalidSetting, Secret};

const VARIABLE: &str = "PRESENCE_API_KEYS";

/// The service logs a warning about a shorter key, since such a key can be guessed. In bytes.
const SHORT_KEY_BYTES: usize = 16;

/// The longest key, in bytes. A key must fit into a header.
const MAX_KEY_BYTES: usize = 1_024;

/// The holder of an API key.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(super) name: String,
    pub(super) scopes: Scopes,
}

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    /// `presence.read`: see all users, and the metrics.
    pub(super) read: bool,
    /// `presence.write`: connect, ping and disconnect every user.
    pub(super) write: bool,
}

/// All API keys, as digests.
#[derive(Default)]
pub(super) struct ApiKeys(Vec<(Digest, Arc<ApiKey>)>);

impl ApiKeys {
    /// Parses `name:scope+scope:key,…`. A key may contain colons but no comma.
    pub(super) fn parse(setting: Option<&Secret>) -> Result<Self, InvalidSetting> {
        let mut keys = Self::default();
        let Some(setting) = setting else {
            return Ok(keys);
        };
        for (index, text) in setting.expose().split(',').enumerate() {
            keys.add(text.trim()).map_err(|why| {
                InvalidSetting::new(VARIABLE, format!("entry {}: {why}", index + 1))
            })?;
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(scopes), Some(key)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("must have the form name:scope+scope:key".to_owned());
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the name must consist of visible ASCII characters".to_owned());
        }
        let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !is_visible {
            return Err(format!(
                "the key must be 1 to {MAX_KEY_BYTES} visible ASCII characters"
            ));
        }
        let digest = digest(key);
        if self.0.iter().any(|(_, known)| known.name == name) {
            return Err(format!("the name {name:?} is repeated"));
        }
        if self.find(&digest).is_some() {
            return Err("the key is repeated".to_owned());
        }
        let scopes = Scopes::parse(scopes)?;
        if key.len() < SHORT_KEY_BYTES {
            warn!(
                name,
                "an API key is shorter than 16 bytes and can be guessed"
            );
        }
        let name = name.to_owned();
        self.0.push((digest, Arc::new(ApiKey { name, scopes })));
        Ok(())
    }

    /// The key with this digest. The search takes the same time for every digest, so that its time reveals nothing.
    pub(super) fn find(&self, digest: &Digest) -> Option<&Arc<ApiKey>> {
        let mut found = None;
        for (known, key) in &self.0 {
            if verify_slices_are_equal(known, digest).is_ok() {
                found = Some(key);
            }
        }
        found
    }
}

impl Scopes {
    fn parse(text: &str) -> Result<Self, String> {
        let mut scopes = Self::default();
        for scope in text.split('+') {
            match scope {
                "presence.read" => scopes.read = true,
                "presence.write" => scopes.write = true,
                _ => return Err("the scopes are presence.read and presence.write".to_owned()),
            }
        }
        Ok(scopes)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(_, key)| key))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #[test]
        fn a_setting_is_accepted_only_if_every_entry_is_valid(
            entries in vec(
                (
                    "[a-z]{1,4}|[!-~]?",
                    vec(select(vec!["presence.read", "presence.write", "presence.read", "presence.write", "read"]), 1..3),
                    "[A-Za-z0-9:]{8,9}|[12]|[ -~é]?",
                ),
                1..4,
            ),
        ) {
            let texts = entries.iter().map(|(name, scopes, key)| format!("{name}:{}:{key}", scopes.join("+")));
            let setting = texts.collect::<Vec<_>>().join(",");
            let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
            let once = |text: &dyn Fn(usize) -> String| {
                let all: std::collections::BTreeSet<_> = (0..entries.len()).map(text).collect();
                all.len() == entries.len()
            };
            let free = |text: &str| !text.contains([',', ':']);
            prop_assume!(entries.iter().all(|(name, _, key)| free(name) && !key.contains(',')));
            let good = entries.iter().all(|(name, scopes, key)| {
                plain(name) && plain(key) && !scopes.contains(&"read")
            }) && once(&|each| entries[each].0.clone()) && once(&|each| entries[each].2.clone());
            let read = ApiKeys::parse(Some(&Secret::from(&*setting)));
            prop_assert_eq!(read.is_ok(), good, "{}", setting);
            for (name, scopes, key) in entries.iter().filter(|_| good) {
                let found = read.as_ref().ok().and_then(|keys| keys.find(&digest(key)));
                let found = found.expect("the key of an entry");
                prop_assert_eq!(&found.name, name);
                prop_assert_eq!(found.scopes.read, scopes.contains(&"presence.read"));
                prop_assert_eq!(found.scopes.write, scopes.contains(&"presence.write"));
            }
        }
    }

    #[test]
    fn a_key_is_found_by_its_digest() {
        let setting = Secret::from("web:presence.read:k:1,app:presence.write+presence.read:k2");
        let keys = ApiKeys::parse(Some(&setting)).unwrap();
        let web = keys.find(&digest("k:1")).unwrap();
        assert_eq!(
            (&*web.name, web.scopes.read, web.scopes.write),
            ("web", true, false)
        );
        assert!(keys.find(&digest("k2")).unwrap().scopes.write);
        assert!(keys.find(&digest("k3")).is_none());
    }

    #[test]
    fn an_error_names_the_entry_without_its_key() {
        for text in [
            "",
            "a:presence.read",
            "a::hunter2",
            "a:presence.all:hunter2",
            ":presence.read:hunter2",
            "a:presence.read:",
            "a:presence.read:hunter 2",
            "a:presence.read:x,a:presence.read:hunter2",
            "a:presence.read:hunter2,b:presence.read:hunter2",
        ] {
            let error = ApiKeys::parse(Some(&Secret::from(text)))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("PRESENCE_API_KEYS: entry"), "{error}");
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}
