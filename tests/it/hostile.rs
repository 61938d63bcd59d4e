//! Clients that are broken, or mean harm.

mod connections;
mod lazy_reader;
mod slow_heads;
mod slow_reader;
mod smuggling;
mod talkative_reader;
mod unread_files;
