//! Lists of user ids in bodies and queries.

use std::collections::HashSet;

use super::listed::Listed;
use crate::http::error::Error;
use crate::model::UserId;
use foldhash::fast::RandomState;

/// The user ids of a list of 1 to `limit` elements. Fails at the first invalid id.
pub(crate) fn user_ids(listed: Vec<Listed<UserId>>, limit: usize) -> Result<Vec<UserId>, Error> {
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

/// The user ids of the list `field` of at most `limit` elements, each id once and in order. Fails at the first invalid
/// id.
pub(crate) fn member_ids(
    field: &'static str,
    listed: Vec<Listed<UserId>>,
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
    listed: Vec<Listed<UserId>>,
) -> impl Iterator<Item = Result<UserId, Error>> {
    let listed = listed.into_iter().enumerate();
    listed.map(move |(index, Listed(user))| {
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
            let read = user_ids(texts.iter().map(|text| Listed::from(&**text)).collect(), limit);
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
            let listed = texts.iter().map(|text| Listed::from(&**text)).collect();
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
