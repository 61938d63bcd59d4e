//! Query strings: decoding, and the errors of unknown and repeated parameters.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::error::Error;

/// The longest name in an error text, in characters.
const MAX_SHOWN_CHARS: usize = 64;

/// The parameters of a query in their order. The name is decoded, the value is not.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded_name(name), value)
    })
}

fn decoded_name(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '+']) {
        return Cow::Borrowed(name);
    }
    let spaced = name.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    Cow::Owned(decoded.into_owned())
}

/// Decodes a value as `application/x-www-form-urlencoded`: a plus is a space. Fails if the result is not UTF-8.
pub(crate) fn decoded(field: &'static str, value: &str) -> Result<String, Error> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Error::Query {
        field,
        why: "must be UTF-8",
    })
}

/// Stores `value` in `parameter`. Fails if the query has the parameter more than once.
pub(crate) fn keep_once<T>(
    parameter: &mut Option<T>,
    field: &'static str,
    value: T,
) -> Result<(), Error> {
    match parameter.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Query {
            field,
            why: "repeated parameter",
        }),
    }
}

/// The error for the parameter `name` of a call that accepts only the parameters `known`.
pub(super) fn unknown(name: &str, known: &'static [&'static str]) -> Error {
    let name = shown_name(name).into_owned();
    Error::UnknownParameter { name, known }
}

/// A name of the request for an error text: at most its first 64 characters, and two quotes for an empty name.
pub(super) fn shown_name(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_SHOWN_CHARS) {
        _ if name.is_empty() => Cow::Borrowed("\"\""),
        Some((end, _)) => Cow::Borrowed(&name[..end]),
        None => Cow::Borrowed(name),
    }
}

/// Refuses any query parameter. The error names the parameter.
#[derive(Debug)]
pub(crate) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        match parameters(parts.uri.query().unwrap_or("")).next() {
            None => Ok(Self),
            Some((name, _)) => Err(unknown(&name, &[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_decoded_as_in_a_form(text in "\\PC{0,20}|[+ %&=,]{0,8}", plus: bool) {
            let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
            let encoded = if plus { encoded.replace("%20", "+") } else { encoded };
            prop_assert_eq!(decoded("name", &encoded).ok(), Some(text));
        }

        #[test]
        fn a_value_that_is_not_utf_8_is_refused(bytes in vec(any::<u8>(), 0..6)) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decoded("name", &encoded).ok(), String::from_utf8(bytes).ok());
        }

        #[test]
        fn a_name_is_decoded_as_in_a_form(names in vec("\\PC{1,6}", 0..4), plus: bool) {
            let encode = |name: &String| {
                let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
                if plus { encoded.replace("%20", "+") } else { encoded }
            };
            let pairs: Vec<_> = names.iter().map(|name| format!("{}=%ff", encode(name))).collect();
            let query = pairs.join("&&");
            let found: Vec<_> = parameters(&query).collect();
            let expected: Vec<_> = names.iter().map(|name| (Cow::Borrowed(&**name), "%ff")).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
