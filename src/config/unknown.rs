//! Variables that look like settings and are none: a misspelt name must not start a service that ignores it.

use std::ffi::OsString;

use clap::CommandFactory;
use strsim::jaro_winkler;

use super::{Config, InvalidSetting};

/// What the names of our own variables begin with.
const PREFIX: &str = "PRESENCE_";

/// What is read by others and may be meant all the same.
const RUST_LOG: &str = "RUST_LOG";

/// How alike two names are, from 0 to 1, where one was probably meant for the other.
const ALIKE: f64 = 0.8;

/// Fails if one of `names`, those of the environment, begins with `PRESENCE_` and is no setting, except for those
/// that Kubernetes sets beside a Service called `presence`. The values are not looked at.
pub fn check_variables(names: impl IntoIterator<Item = OsString>) -> Result<(), InvalidSetting> {
    let command = Config::command();
    let known = command.get_arguments().filter_map(|flag| flag.get_env());
    let known = known.filter_map(|name| name.to_str()).chain([RUST_LOG]);
    let known: Vec<&str> = known.collect();
    let names = names.into_iter();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with(PREFIX) && !is_of_kubernetes(name))
        .filter(|name| !known.contains(&&**name))
        .collect();
    unknown.sort_unstable();
    let Some((first, others)) = unknown.split_first() else {
        return Ok(());
    };
    let mut why = format!("there is no such setting{}", hint(first, &known));
    for other in others {
        why += &format!("; nor is there {other}{}", hint(other, &known));
    }
    Err(InvalidSetting::new(first.clone(), why))
}

/// What Kubernetes sets in every container beside a Service called `presence`.
fn is_of_kubernetes(name: &str) -> bool {
    name == "PRESENCE_PORT"
        || name.starts_with("PRESENCE_PORT_")
        || name.starts_with("PRESENCE_SERVICE_")
}

/// What to do instead, where that can be guessed.
fn hint(name: &str, known: &[&str]) -> String {
    let is_of_a_service = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT");
    if is_of_a_service {
        return " (Kubernetes sets such names beside a Service, unless enableServiceLinks is false)"
            .to_owned();
    }
    let meant = nearest(name, known);
    meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

/// The setting whose name is most like this one, with or without what our own begin with.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let likeness = known
        .iter()
        .map(|known| (jaro_winkler(&plain(name), &plain(known)), *known));
    let most = likeness.max_by(|one, other| one.0.total_cmp(&other.0));
    most.filter(|(likeness, _)| *likeness >= ALIKE)
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
    fn an_unknown_name_is_refused_with_the_one_that_was_meant() {
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
    fn settings_and_the_names_of_others_are_passed_over() {
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
    fn the_names_of_another_service_are_explained() {
        let refusal = refusal(&["PRESENCE_REDIS_SERVICE_HOST"]);
        assert!(refusal.contains("enableServiceLinks"), "{refusal}");
    }
}
