//! Broken and malicious clients.

mod connections;
mod floods;
mod heads;
mod http2;
mod lazy_reader;
mod memory;
mod slow_heads;
mod slow_reader;
mod smuggling;
mod snapshots;
mod talkative_reader;
mod unread_answers;
