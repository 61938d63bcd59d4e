//! The store on Redis. Each call that may be a transition is one Lua script. Most pings only extend a key, many in one
//! script call.

mod clock;
mod codec;
mod connection;
mod connections;
mod grant;
mod groups;
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
