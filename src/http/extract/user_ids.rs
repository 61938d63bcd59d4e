//! Lists of user ids in bodies and queries.

use std::collections::HashSet;
use std::fmt;

use foldhash::fast::RandomState;
use serde::de::{Deserialize, Deserializer, Visitor};

use crate::http::error::Error;
use crate::model::{InvalidUserId, UserId};

/// An element of a list, checked while the list is parsed, so that no copy of the text is needed.
#[derive(Debug, PartialEq)]
pub(crate) struct ListedUser(Result<UserId, InvalidUserId>);

impl From<&str> for ListedUser {
    fn from(text: &str) -> Self {
        Self(UserId::new(text))
    }
}

impl<'de> Deserialize<'de> for ListedUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;

        impl Visitor<'_> for AnyText {
            type Value = ListedUser;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<ListedUser, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(AnyText)
    }
}

/// Deserializes an optional list. `null` is refused: a client without a list must not receive the events of all users.
pub(crate) fn listed_users<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<ListedUser>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// The user ids of a list of 1 to `limit` elements. Fails at the first invalid id.
pub(crate) fn user_ids(listed: Vec<ListedUser>, limit: usize) -> Result<Vec<UserId>, Error> {
    if listed.is_empty() {
        return Err(Error::NoUserIds);
    }
    if listed.len() > limit {
        let given = listed.len();
        return Err(Error::TooManyUserIds { given, limit });
    }
    let users = valid_ids("userIds", listed);
    users.collect()
}

/// The user ids of the list `field` of at most `limit` elements, each id once and in order. Fails at the first invalid id.
pub(crate) fn member_ids(
    field: &'static str,
    listed: Vec<ListedUser>,
    limit: usize,
) -> Result<Vec<UserId>, Error> {
    let given = listed.len();
    if given > limit {
        return Err(Error::TooManyMembers {
            field,
            given,
            limit,
        });
    }
    let users: Result<Vec<_>, _> = valid_ids(field, listed).collect();
    let mut users = users?;
    let mut seen = HashSet::with_capacity_and_hasher(users.len(), RandomState::default());
    users.retain(|user| seen.insert(user.clone()));
    Ok(users)
}

fn valid_ids(
    field: &'static str,
    listed: Vec<ListedUser>,
) -> impl Iterator<Item = Result<UserId, Error>> {
    let listed = listed.into_iter().enumerate();
    listed.map(move |(index, ListedUser(user))| {
        user.map_err(|why| Error::ListedUserId { field, index, why })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_has_one_to_limit_valid_ids(texts in vec("[a-z]{1,3}|[\0-a]{0,2}", 0..6), limit in 1_usize..6) {
            let bad = texts.iter().position(|text| UserId::new(text).is_err());
            let read = user_ids(texts.iter().map(|text| ListedUser::from(&**text)).collect(), limit);
            match read {
                Ok(users) => {
                    let users: Vec<_> = users.iter().map(UserId::as_str).collect();
                    prop_assert_eq!(&users, &texts);
                    prop_assert!((1..=limit).contains(&texts.len()) && bad.is_none());
                }
                Err(Error::NoUserIds) => prop_assert!(texts.is_empty()),
                Err(Error::TooManyUserIds { given, .. }) => {
                    prop_assert!(given == texts.len() && given > limit);
                }
                Err(Error::ListedUserId { index, .. }) => prop_assert_eq!(Some(index), bad),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn a_list_of_members_has_each_id_once(texts in vec("[a-c]{1,2}|[\0-a]{0,2}", 0..6), limit in 0_usize..4) {
            let bad = texts.iter().position(|text| UserId::new(text).is_err());
            let mut distinct: Vec<_> = Vec::new();
            for text in &texts {
                if !distinct.contains(text) {
                    distinct.push(text.clone());
                }
            }
            let listed = texts.iter().map(|text| ListedUser::from(&**text)).collect();
            match member_ids("add", listed, limit) {
                Ok(users) => {
                    let users: Vec<_> = users.iter().map(UserId::as_str).collect();
                    prop_assert_eq!(&users, &distinct);
                    prop_assert!(texts.len() <= limit && bad.is_none());
                }
                Err(Error::TooManyMembers { field, given, .. }) => {
                    prop_assert!(field == "add" && given == texts.len() && given > limit);
                }
                Err(Error::ListedUserId { index, .. }) => prop_assert_eq!(Some(index), bad),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
