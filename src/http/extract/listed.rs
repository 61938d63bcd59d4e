//! The elements of lists of ids in bodies and queries.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};

use crate::model::InvalidId;

/// An element of a list, checked while the list is parsed, so that no copy of the text is needed.
#[derive(Debug, PartialEq)]
pub(crate) struct Listed<Id>(pub(super) Result<Id, InvalidId>);

impl<'a, Id: TryFrom<&'a str, Error = InvalidId>> From<&'a str> for Listed<Id> {
    fn from(text: &'a str) -> Self {
        Self(text.try_into())
    }
}

impl<'de, Id> Deserialize<'de> for Listed<Id>
where
    Id: for<'a> TryFrom<&'a str, Error = InvalidId>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyText(PhantomData))
    }
}

struct AnyText<Id>(PhantomData<Id>);

impl<Id: for<'a> TryFrom<&'a str, Error = InvalidId>> Visitor<'_> for AnyText<Id> {
    type Value = Listed<Id>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Listed<Id>, E> {
        Ok(text.into())
    }
}

/// Deserializes an optional list. `null` is refused: a client without a list must not receive the events of all users.
pub(crate) fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}
