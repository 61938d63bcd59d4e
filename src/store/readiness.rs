/// Whether a store accepts calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The store accepts the calls of all users.
    Ready,
    /// The store accepts calls. The text says which part of the users cannot be served, or how far a move is.
    ReadyWithReason(String),
    /// The store accepts no call. The text is the cause.
    NotReady(String),
}
