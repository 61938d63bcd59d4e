//! What Redis holds, as text: the names of the keys, the values, the entries of the history, and how replies are read.

pub(super) mod codec;
pub(super) mod grant;
pub(super) mod keys;
pub(super) mod layout;
pub(super) mod replies;
pub(super) mod stated;
pub(super) mod tags;
