//! What a connection states, as text in Redis: `id TTL away groups`; see `connections.lua`.

use std::fmt::Write;

use crate::model::{ConnectionId, Stated, millis};

/// Separates ids in a list; `SEPARATOR` in `groups.lua`.
pub(in crate::store::redis) const SEPARATOR: &str = "\u{1f}";

/// Appends the text to `to`.
pub(in crate::store::redis) fn push(to: &mut String, connection: &ConnectionId, stated: &Stated) {
    to.push_str(connection.as_str());
    if let Some(ttl) = stated.ttl {
        // A write into memory cannot fail.
        let _ = write!(to, " {}", millis(ttl));
    }
    if stated.away {
        to.push_str(" away");
    }
    for group in &stated.groups {
        to.push_str(SEPARATOR);
        to.push_str(group.as_str());
    }
}

/// Whether the connection is the unnamed one and states nothing. The key of its user has only the number of a grant.
pub(in crate::store::redis) fn is_usual(connection: &ConnectionId, stated: &Stated) -> bool {
    connection.is_unnamed() && *stated == Stated::default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::GroupId;

    #[test]
    fn the_text_has_what_differs_from_the_settings() {
        let tab = ConnectionId::new("tab-1").expect("an id");
        let ttl = Some(Duration::from_secs(150));
        for (ttl, away, expected) in [
            (None, false, "tab-1"),
            (ttl, false, "tab-1 150000"),
            (None, true, "tab-1 away"),
            (ttl, true, "tab-1 150000 away"),
        ] {
            let mut text = String::new();
            let stated = Stated {
                ttl,
                away,
                ..Stated::default()
            };
            push(&mut text, &tab, &stated);
            assert_eq!(text, expected);
            let is_default = is_usual(&ConnectionId::unnamed(), &stated);
            assert_eq!(is_default, expected == "tab-1");
            assert!(!is_usual(&tab, &stated));
        }
    }

    #[test]
    fn the_groups_come_last() {
        let groups = ["doc 1", "doc-2"].map(|id| GroupId::new(id).expect("an id"));
        let stated = Stated {
            away: true,
            groups: groups.into(),
            ..Stated::default()
        };
        let mut text = String::new();
        push(&mut text, &ConnectionId::unnamed(), &stated);
        assert_eq!(text, "1 away\u{1f}doc 1\u{1f}doc-2");
        assert!(!is_usual(&ConnectionId::unnamed(), &stated));
    }
}
