/// Whether a store accepts calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The store accepts the calls of all users.
    Ready,
    /// The store accepts the calls of a part of the users. The text is the cause.
    Degraded(String),
    /// The store accepts no call. The text is the cause.
    NotReady(String),
}
