//! Lists of group ids in bodies and queries.

use super::listed::Listed;
use crate::http::error::Error;
use crate::model::GroupId;

/// The maximum number of groups that a connection states.
const STATED_GROUPS: usize = 10;

/// The group ids of a list of 1 to `limit` elements. Fails at the first invalid id.
pub(crate) fn group_ids(listed: Vec<Listed<GroupId>>, limit: usize) -> Result<Vec<GroupId>, Error> {
    if listed.is_empty() {
        return Err(Error::NoGroupIds);
    }
    if listed.len() > limit {
        let given = listed.len();
        return Err(Error::TooManyGroupIds { given, limit });
    }
    let checked = listed.into_iter().enumerate();
    let checked = checked
        .map(|(index, Listed(group))| group.map_err(|why| Error::ListedGroupId { index, why }));
    checked.collect()
}

/// The groups that a connection states, in order and without duplicates: up to [`STATED_GROUPS`] ids.
pub(crate) fn stated_groups(listed: Vec<Listed<GroupId>>) -> Result<Vec<GroupId>, Error> {
    let (given, limit) = (listed.len(), STATED_GROUPS);
    if given > limit {
        return Err(Error::TooManyStatedGroups { given, limit });
    }
    let mut groups = Vec::with_capacity(given);
    for (index, Listed(group)) in listed.into_iter().enumerate() {
        let group = group.map_err(|why| Error::StatedGroup { index, why })?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_has_one_to_limit_valid_ids(texts in vec("[a-z]{1,3}|[\0-a]{0,2}", 0..6), limit in 1_usize..6) {
            let bad = texts.iter().position(|text| GroupId::new(text).is_err());
            let read = group_ids(texts.iter().map(|text| Listed::from(&**text)).collect(), limit);
            match read {
                Ok(groups) => {
                    let groups: Vec<_> = groups.iter().map(GroupId::as_str).collect();
                    prop_assert_eq!(&groups, &texts);
                    prop_assert!((1..=limit).contains(&texts.len()) && bad.is_none());
                }
                Err(Error::NoGroupIds) => prop_assert!(texts.is_empty()),
                Err(Error::TooManyGroupIds { given, .. }) => {
                    prop_assert!(given == texts.len() && given > limit);
                }
                Err(Error::ListedGroupId { index, .. }) => prop_assert_eq!(Some(index), bad),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn a_connection_states_up_to_ten_valid_ids(texts in vec("[a-z]{1,3}|[\0-a]{0,2}", 0..13)) {
            let bad = texts.iter().position(|text| GroupId::new(text).is_err());
            match stated_groups(texts.iter().map(|text| Listed::from(&**text)).collect()) {
                Ok(groups) => {
                    let groups: Vec<_> = groups.iter().map(GroupId::as_str).collect();
                    let mut distinct: Vec<&str> = Vec::new();
                    for text in &texts {
                        if !distinct.contains(&&**text) {
                            distinct.push(text);
                        }
                    }
                    prop_assert_eq!(groups, distinct);
                    prop_assert!(texts.len() <= 10 && bad.is_none());
                }
                Err(Error::TooManyStatedGroups { given, limit: 10 }) => {
                    prop_assert!(given == texts.len() && given > 10);
                }
                Err(Error::StatedGroup { index, .. }) => prop_assert_eq!(Some(index), bad),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
