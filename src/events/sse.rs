//! The bytes of a stream: Server-Sent Events (WHATWG HTML, section 9.2).

pub(super) mod cursor;
pub(super) mod frame;
pub(super) mod message;
pub(super) mod payload;
pub(super) mod refusal;
mod vector;
