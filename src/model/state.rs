//! What is announced of a user besides being online: whether it is away, and its status.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::timestamp::Timestamp;

/// The longest word of a status, in characters.
const LONGEST_WORD: usize = 32;

/// The most data of a status as JSON without spaces, in bytes.
const MOST_DATA: usize = 1_024;

/// The most bytes in memory for each byte of data as JSON. Short names and numbers in maps and lists take the most.
const MEMORY_OF_DATA: usize = 16;

/// What a user states about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// 1 to 32 characters of `a-z 0-9 -`.
    pub word: String,
    /// An object of at most 1 KiB.
    pub data: Option<Value>,
}

impl Status {
    /// A status. Fails with the reason if a part is out of bounds; the reason names the field.
    pub fn new(word: String, data: Option<Value>) -> Result<Self, &'static str> {
        let is_good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !(1..=LONGEST_WORD).contains(&word.len()) || !word.bytes().all(is_good) {
            return Err("status: must be 1 to 32 characters of a-z 0-9 -");
        }
        match data {
            None | Some(Value::Object(_)) => {}
            Some(_) => return Err("data: must be an object of at most 1024 bytes, or null"),
        }
        let status = Self { word, data };
        match status.data_text().len() {
            ..=MOST_DATA => Ok(status),
            _ => Err("data: must be an object of at most 1024 bytes, or null"),
        }
    }

    /// A status that the store kept.
    pub fn kept(word: &str, data: &str) -> Option<Self> {
        let data = (!data.is_empty()).then(|| serde_json::from_str(data));
        let data = data.transpose().ok()?;
        (!word.is_empty()).then(|| Self {
            word: word.to_owned(),
            data,
        })
    }

    /// The data as JSON without spaces; empty if there is none.
    pub fn data_text(&self) -> String {
        self.data.as_ref().map(Value::to_string).unwrap_or_default()
    }
}

/// A status, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastingStatus {
    /// The status.
    pub status: Status,
    /// When the status ends. `None`: not by itself while the user is online.
    pub ends_at: Option<Timestamp>,
}

/// What is announced of an online user. Of most users nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether every live connection of the user is away.
    pub away: bool,
    /// The status.
    pub status: Option<Status>,
}

impl State {
    /// About how many bytes the state takes in memory.
    pub fn memory(&self) -> usize {
        let status = self.status.as_ref();
        let bytes = |status: &Status| status.word.len() + MEMORY_OF_DATA * status.data_text().len();
        size_of::<Self>() + status.map_or(0, bytes)
    }

    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        !self.away && self.status.is_none()
    }
}

/// The state of a user as JSON. Only the fields that are set are present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = State)]
pub struct StateFields<'a> {
    /// Whether every live connection of the user is away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, example = true)]
    pub away: bool,
    /// The status that the user states about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, example = "dnd")]
    pub status: Option<&'a str>,
    /// The data of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    pub data: Option<&'a Value>,
}

impl<'a> StateFields<'a> {
    /// The fields of a state.
    pub fn of(state: Option<&'a State>) -> Self {
        let status = state.and_then(|state| state.status.as_ref());
        Self {
            away: state.is_some_and(|state| state.away),
            status: status.map(|status| &*status.word),
            data: status.and_then(|status| status.data.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_bounded() {
        let word = |word: &str| Status::new(word.to_owned(), None).is_ok();
        assert!(word("dnd") && word("in-a-call-2") && word(&"a".repeat(32)));
        assert!(!word("") && !word("DND") && !word("a b") && !word("é") && !word(&"a".repeat(33)));
        let data = |data: Value| Status::new("dnd".to_owned(), Some(data)).is_ok();
        let text = |length: usize| json!({"a": "x".repeat(length)});
        assert!(data(json!({})) && data(text(1_024 - 8)));
        assert!(!data(text(1_024 - 7)) && !data(json!([])) && !data(json!("a")) && !data(json!(1)));
    }

    #[test]
    fn a_status_is_read_as_it_was_kept() {
        for data in [
            None,
            Some(json!({})),
            Some(json!({"a": ["\u{1f}\n", 1.5, null]})),
        ] {
            let status = Status::new("dnd".to_owned(), data).expect("good");
            let text = status.data_text();
            assert!(!text.contains(['\u{1f}', '\n']), "{text}");
            assert_eq!(Status::kept(&status.word, &text), Some(status));
        }
        assert_eq!(Status::kept("", ""), None);
        assert_eq!(Status::kept("dnd", "{"), None);
    }
}
