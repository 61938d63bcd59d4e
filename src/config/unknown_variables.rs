//! Environment variables that look like settings. The service must not start and ignore a misspelt setting.

use std::ffi::OsString;

use clap::CommandFactory;
use strsim::jaro_winkler;

use super::invalid_setting::InvalidSetting;
use super::settings::Config;

/// The prefix of the names of the settings.
const PREFIX: &str = "PRESENCE_";

/// A variable that the log reads, and that a hint may name.
const RUST_LOG: &str = "RUST_LOG";

/// The least similarity, from 0 to 1, at which a hint names a setting.
const MIN_SIMILARITY: f64 = 0.8;

/// Fails if one of the environment variables `names` begins with `PRESENCE_` and is not a setting. The variables that
/// Kubernetes sets for a Service named `presence` are accepted. The values are not read.
pub fn check_variables(names: impl IntoIterator<Item = OsString>) -> Result<(), InvalidSetting> {
    let command = Config::command();
    let known = command.get_arguments().filter_map(|flag| flag.get_env());
    let known = known.filter_map(|name| name.to_str()).chain([RUST_LOG]);
    let known: Vec<&str> = known.collect();
    let names = names.into_iter();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with(PREFIX) && !is_set_by_kubernetes(name))
        .filter(|name| !known.contains(&&**name))
        .collect();
    unknown.sort_unstable();
    let Some((first, others)) = unknown.split_first() else {
        return Ok(());
    };
    let mut why = format!("no such setting{}", hint(first, &known));
    for other in others {
        why += &format!("; nor {other}{}", hint(other, &known));
    }
    Err(InvalidSetting::new(first.clone(), why))
}

/// Whether Kubernetes sets this variable in every container of a namespace with a Service named `presence`.
fn is_set_by_kubernetes(name: &str) -> bool {
    name == "PRESENCE_PORT"
        || name.starts_with("PRESENCE_PORT_")
        || name.starts_with("PRESENCE_SERVICE_")
}

/// A hint at the probable cause, or an empty text.
fn hint(name: &str, known: &[&str]) -> String {
    let names_a_service = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT");
    if names_a_service {
        return " (Kubernetes sets such variables for a Service, unless enableServiceLinks is false)"
            .to_owned();
    }
    let meant = nearest(name, known);
    meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

/// The setting with the most similar name. The prefix does not count.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let similarities = known
        .iter()
        .map(|known| (jaro_winkler(&plain(name), &plain(known)), *known));
    let best = similarities.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(names: &[&str]) -> String {
        let checked = check_variables(names.iter().map(OsString::from));
        checked
            .err()
            .map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn an_unknown_variable_is_refused_with_a_hint_at_the_nearest_setting() {
        for (name, meant) in [
            ("PRESENCE_REDIS_URL", " REDIS_URL?"),
            ("PRESENCE_TTLL", " PRESENCE_TTL?"),
            ("PRESENCE_TTL_", " PRESENCE_TTL?"),
            ("PRESENCE_API_KEY", " PRESENCE_API_KEYS?"),
            ("PRESENCE_CORS_ORIGIN", " PRESENCE_CORS_ORIGINS?"),
            ("PRESENCE_JWKS_URI", " PRESENCE_JWKS_URL?"),
            ("PRESENCE_STREAM_MAXAGE", " PRESENCE_STREAM_MAX_AGE?"),
            ("PRESENCE_RUST_LOG", " RUST_LOG?"),
            ("PRESENCE_ttl", ""),
            ("PRESENCE_", ""),
            ("PRESENCE_ZZZ", ""),
        ] {
            let refusal = refusal(&["HOME", name, "PRESENCE_TTL"]);
            assert!(
                refusal.starts_with(&format!("{name}: ")),
                "{name}: {refusal}"
            );
            assert!(refusal.contains(meant), "{name}: {refusal}");
        }
        let both = refusal(&["PRESENCE_ZZZ", "PRESENCE_TTLL"]);
        assert!(
            both.contains("PRESENCE_ZZZ") && both.contains("PRESENCE_TTLL"),
            "{both}"
        );
    }

    #[test]
    fn settings_and_unrelated_variables_are_accepted() {
        let command = Config::command();
        let known = command.get_arguments().filter_map(|flag| flag.get_env());
        let known: Vec<_> = known.map(ToOwned::to_owned).collect();
        assert!(known.len() > 20, "{known:?}");
        assert_eq!(check_variables(known), Ok(()));
        let others = [
            "PRESENCE_PORT",
            "PRESENCE_PORT_8080_TCP_ADDR",
            "PRESENCE_SERVICE_HOST",
            "PRESENCE_SERVICE_PORT_HTTP",
            "PRESENCE",
            "MY_PRESENCE_TTLL",
            "presence_ttl",
        ];
        assert_eq!(refusal(&others), "");
    }

    #[test]
    fn the_variables_of_another_service_are_explained() {
        let refusal = refusal(&["PRESENCE_REDIS_SERVICE_HOST"]);
        assert!(refusal.contains("enableServiceLinks"), "{refusal}");
    }
}
