//! Which users count as members of a group.

/// Which users are the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// The users that are members now.
    Now,
    /// The users whose membership is announced: also those whose departure is due or held.
    Announced,
}

impl Members {
    /// The name of the variant in scripts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Announced => "announced",
        }
    }
}
