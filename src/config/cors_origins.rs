//! The origins whose web pages may call from a browser.

use std::str::FromStr;

use strsim::damerau_levenshtein;
use url::{Host, Url};

/// The schemes of web pages.
const WEB_SCHEMES: [&str; 2] = ["http", "https"];

/// Schemes without pages, and schemes whose pages send `null` as their origin.
const SCHEMES_WITHOUT_ORIGIN: [&str; 8] = [
    "about",
    "blob",
    "data",
    "file",
    "ftp",
    "javascript",
    "ws",
    "wss",
];

/// The form of an origin, for the message about an invalid origin.
const FORM: &str =
    "a browser sends a scheme, a host in lower case, and a port that is not the default";

/// The origins whose web pages may call from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every origin.
    Any,
    /// The origins that one of the entries includes.
    These(Vec<AllowedOrigin>),
}

/// One origin, or the origins of all subdomains of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// One origin, as browsers send it in the header `Origin`.
    Exact(String),
    /// Any subdomain between `scheme` and `parent`.
    Subdomains {
        /// The scheme with its separator: `https://`.
        scheme: String,
        /// The parent domain with its leading dot and its port, if any: `.example.com:8443`.
        parent: String,
    },
}

impl CorsOrigins {
    /// Whether pages with this `Origin` header may call.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(allowed) => allowed.iter().any(|allowed| allowed.includes(origin)),
        }
    }
}

impl AllowedOrigin {
    fn includes(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => origin == exact,
            Self::Subdomains { scheme, parent } => {
                let names = origin.strip_prefix(&**scheme);
                let names = names.and_then(|rest| rest.strip_suffix(&**parent));
                names.is_some_and(|names| names.split('.').all(is_label))
            }
        }
    }
}

/// Whether `text` is a label of a domain name, as browsers write it.
fn is_label(text: &str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

impl FromStr for CorsOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let entries = text.split(',').map(str::trim).map(AllowedOrigin::from_str);
        entries.collect::<Result<_, _>>().map(Self::These)
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    /// Parses an origin as browsers serialize it (RFC 6454, section 6.2). A text that no browser sends is refused,
    /// because it would never match. The error suggests a correction if one is known.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("an entry is empty".to_owned()),
            "*" => return Err("* means every origin, so it must be the only entry".to_owned()),
            "null" => {
                return Err(
                    "null cannot be allowed, because pages of any site can send it".to_owned(),
                );
            }
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} has no scheme; write https://{text}"));
        };
        let scheme = scheme.to_ascii_lowercase();
        if WEB_SCHEMES.contains(&&*scheme) {
            web_origin(text, &scheme, rest)
        } else {
            app_origin(text, &scheme, rest)
        }
    }
}

/// Parses the origin of a web page.
fn web_origin(text: &str, scheme: &str, rest: &str) -> Result<AllowedOrigin, String> {
    let parent = rest.strip_prefix("*.");
    let unreadable = |why: &str| Err(format!("{text:?} is not an origin ({why}); {FORM}"));
    if parent.unwrap_or(rest).contains('*') {
        return unreadable("an asterisk stands for subdomains, as in https://*.example.com");
    }
    let url = match Url::parse(&format!("{scheme}://{}", parent.unwrap_or(rest))) {
        Ok(url) => url,
        Err(error) => return unreadable(&error.to_string()),
    };
    if parent.is_some() && !matches!(url.host(), Some(Host::Domain(_))) {
        return unreadable("an address has no subdomains");
    }
    let sent = url.origin().ascii_serialization();
    let host = sent.split_once("://").map_or("", |(_, host)| host);
    let (shown, allowed) = match parent {
        None => (sent.clone(), AllowedOrigin::Exact(sent.clone())),
        Some(_) => (
            format!("{scheme}://*.{host}"),
            AllowedOrigin::Subdomains {
                scheme: format!("{scheme}://"),
                parent: format!(".{host}"),
            },
        ),
    };
    if shown != text {
        return Err(format!("no browser sends {text:?}; write {shown} ({FORM})"));
    }
    Ok(allowed)
}

/// Parses the origin of an app or extension, which has a scheme of its own, such as `capacitor://localhost`.
fn app_origin(text: &str, scheme: &str, rest: &str) -> Result<AllowedOrigin, String> {
    if SCHEMES_WITHOUT_ORIGIN.contains(&scheme) {
        return Err(format!(
            "no page has the origin {text:?}; write the origin of the page itself, such as https://{rest}"
        ));
    }
    let meant = WEB_SCHEMES.into_iter().rev();
    let mut meant = meant.filter(|known| damerau_levenshtein(scheme, known) == 1);
    if let Some(meant) = meant.next() {
        return Err(format!(
            "{text:?} has an unknown scheme; did you mean {meant}://{rest}?"
        ));
    }
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let good_scheme = scheme.bytes().next().is_some_and(is_letter)
        && scheme
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*:\\".contains(&byte);
    let (host, port) = rest.split_once(':').unwrap_or((rest, "1"));
    let good_port = port
        .parse::<u16>()
        .is_ok_and(|number| number.to_string() == port);
    let good_host = !host.is_empty() && host.bytes().all(is_part) && good_port;
    let is_lower_case = text == text.to_ascii_lowercase();
    if !(good_scheme && good_host && is_lower_case) {
        return Err(format!("no browser sends {text:?}; {FORM}"));
    }
    Ok(AllowedOrigin::Exact(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn origin() -> impl Strategy<Value = String> {
        "(https?|capacitor)://[a-z][a-z0-9]{0,5}(\\.[a-z]{2,5}){0,2}(:[1-9][0-9]{3})?"
    }

    proptest! {
        #[test]
        fn an_origin_of_a_browser_is_accepted_and_matches_only_itself(
            origins in vec(origin(), 1..4),
            other in origin(),
        ) {
            let allowed = origins.join(", ").parse::<CorsOrigins>().expect("origins");
            for each in &origins {
                prop_assert!(allowed.allow(each));
            }
            prop_assert_eq!(allowed.allow(&other), origins.contains(&other));
        }

        #[test]
        fn a_text_that_no_browser_sends_is_refused(
            good in origin(),
            bad in "[A-Z]|/|/path|\\?|#|@x|\\*|é| x|,|:0?80x|\\\\",
        ) {
            let spoilt = format!("{good}{bad}");
            prop_assert!(spoilt.parse::<CorsOrigins>().is_err(), "{}", spoilt);
        }

        #[test]
        fn arbitrary_text_causes_no_panic(text in "\\PC{0,30}|(https?://)?[a-z*.:/\\[\\]@-]{0,12}") {
            if let Ok(CorsOrigins::These(origins)) = text.parse() {
                prop_assert!(!origins.is_empty());
            }
        }
    }

    #[test]
    fn an_error_suggests_a_correction() {
        for (text, hint) in [
            ("https://app.example.com/", "write https://app.example.com "),
            (
                "https://app.example.com/path",
                "write https://app.example.com ",
            ),
            ("https://App.Example.com", "write https://app.example.com "),
            ("HTTPS://app.example.com", "write https://app.example.com "),
            (
                "https://app.example.com:443",
                "write https://app.example.com ",
            ),
            ("http://localhost:80", "write http://localhost "),
            ("http://localhost:03000", "write http://localhost:3000 "),
            (
                "https://ann@app.example.com",
                "write https://app.example.com ",
            ),
            (
                "https://müller.example",
                "write https://xn--mller-kva.example ",
            ),
            ("http://[0:0:0:0:0:0:0:1]:3000", "write http://[::1]:3000 "),
            ("https://*.Example.com/", "write https://*.example.com "),
            ("app.example.com", "write https://app.example.com"),
            ("localhost:3000", "write https://localhost:3000"),
            ("htps://app.example.com", "mean https://app.example.com"),
            ("htttp://app.example.com", "mean http://app.example.com"),
            ("wss://app.example.com", "https://app.example.com"),
            ("file:///index.html", "no page has the origin"),
            ("https://", "not an origin"),
            ("https://app.*.com", "asterisk"),
            ("https://*", "asterisk"),
            ("https://*.*.example.com", "asterisk"),
            ("https://*.127.0.0.1", "no subdomains"),
            ("capacitor://LocalHost", "lower case"),
            ("null", "null"),
            ("", "empty"),
            ("https://a.example,", "empty"),
            ("*,https://a.example", "only entry"),
        ] {
            let why = text.parse::<CorsOrigins>().expect_err(text);
            assert!(why.contains(hint), "{text}: {why}");
        }
    }

    #[test]
    fn an_asterisk_matches_the_labels_of_subdomains() {
        let allowed = "https://*.example.com, http://*.localhost:3000".parse::<CorsOrigins>();
        let allowed = allowed.expect("patterns");
        for origin in [
            "https://app.example.com",
            "https://a.b.example.com",
            "https://x_1-2.example.com",
            "http://tenant.localhost:3000",
        ] {
            assert!(allowed.allow(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://evilexample.com",
            "https://example.com.evil.com",
            "https://evil.com/.example.com",
            "https://evil.com:1.example.com",
            "https://ann@a.example.com",
            "http://tenant.localhost",
            "null",
        ] {
            assert!(!allowed.allow(origin), "{origin}");
        }
    }

    #[test]
    fn one_asterisk_allows_every_origin() {
        let allowed = "*".parse::<CorsOrigins>();
        assert_eq!(allowed, Ok(CorsOrigins::Any));
        assert!(CorsOrigins::Any.allow("https://anything.example"));
    }
}
