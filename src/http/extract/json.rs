//! Parses JSON objects. Errors name the field.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::http::error::Error;
use crate::http::query::shown_name;

/// How much an error text keeps of the beginning and of the end of a long message, in characters.
const SHOWN_CHARS: usize = 120;

/// Parses an object. The check of the first byte is needed, because serde accepts an array of the values of the fields.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(Error::Json("body: must be a JSON object".to_owned()));
    }
    // Only an invalid body is parsed a second time, to find the field: to track the path makes parsing slower.
    serde_json::from_slice(body).map_err(|_| explain::<T>(body))
}

/// The error of a body that cannot be parsed as `T`.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Error {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize::<_, T>(&mut reader);
    let (path, why) = match read {
        Ok(_) => (".".to_owned(), reader.end().err()),
        Err(error) => (error.path().to_string(), Some(error.into_inner())),
    };
    // The path is a question mark if the name of the field is invalid.
    let path = match &*path {
        "." | "?" => Cow::Borrowed("body"),
        path => shown_name(path),
    };
    match why {
        Some(why) => Error::Json(format!("{path}: {}", shortened(why.to_string()))),
        None => Error::UnreadableBody,
    }
}

/// Removes the middle of a long message. The message repeats a name or a value of the body; its end states what is
/// expected, and the place.
fn shortened(text: String) -> String {
    let characters = text.chars().count();
    if characters <= 2 * SHOWN_CHARS {
        return text;
    }
    let begin = text.chars().take(SHOWN_CHARS);
    let end = text.chars().skip(characters - SHOWN_CHARS);
    begin.chain(['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    /// One field of each kind in the bodies of the API.
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Fields {
        connection_id: Option<String>,
        #[serde(default)]
        all: bool,
        user_ids: Option<Vec<String>>,
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| vec(inner, 0..3).prop_map(Value::from))
    }

    fn is_list_of_texts(value: &Value) -> bool {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    }

    proptest! {
        #[test]
        fn an_object_is_parsed_if_its_fields_have_their_types(
            id in anything(),
            all in anything(),
            ids in prop_oneof![anything(), vec("\\PC{0,6}", 0..4).prop_map(Value::from)],
        ) {
            let body = json!({"connectionId": id, "all": all, "userIds": ids});
            let good = (id.is_null() || id.is_string())
                && all.is_boolean()
                && (ids.is_null() || is_list_of_texts(&ids));
            let read = parse::<Fields>(body.to_string().as_bytes());
            prop_assert_eq!(read.is_ok(), good, "{}", body);
            if let Ok(read) = read {
                let found = json!({"connectionId": read.connection_id, "all": read.all, "userIds": read.user_ids});
                prop_assert_eq!(found, json!({"connectionId": id, "all": all, "userIds": ids}));
            }
        }

        #[test]
        fn the_error_of_an_unknown_field_names_the_field(
            name in "[a-z]{1,6}|connectionid|connection_id|userIds\\[\\]|\\PC{1,6}",
            value in anything(),
        ) {
            prop_assume!(!["connectionId", "all", "userIds"].contains(&&*name));
            let body = json!({"all": true, &name: value}).to_string();
            let why = parse::<Fields>(body.as_bytes()).expect_err("an unknown name").to_string();
            prop_assert!(why.contains(&name), "{}", why);
        }

        /// `serde_json::Value` is the reference.
        #[test]
        fn only_a_json_object_is_parsed(
            bytes in prop_oneof![
                vec(any::<u8>(), 0..16),
                "[\\[\\]{}:,\"a0 \\\\]{0,10}".prop_map(String::into_bytes),
                "[ \n]?\\{(\"(all|x)\":(true|1|null|\"\"))?\\}[ }0]?".prop_map(String::into_bytes),
                // An array of the values of the fields, which serde accepts.
                "[ \n]?\\[(null|\"a\"),(true|false|1),(null|\\[\\])\\]".prop_map(String::into_bytes),
            ],
        ) {
            let value = serde_json::from_slice::<Value>(&bytes);
            let good = value.is_ok_and(|value| {
                value.is_object() && value.get("x").is_none() && value.get("all").is_none_or(Value::is_boolean)
            });
            prop_assert_eq!(parse::<Fields>(&bytes).is_ok(), good);
        }
    }
}
