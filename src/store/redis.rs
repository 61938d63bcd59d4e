//! Presence in Redis: pings share a short script, and one script does anything that may be a transition.

mod clock;
mod codec;
mod connection;
mod connections;
mod grant;
mod keys;
mod load_shedder;
mod pages;
mod ping_batcher;
mod replies;
mod scripts;
mod store;
mod subscription;
mod sweep;

pub use self::store::RedisStore;
pub(super) use self::subscription::Subscription;
