//! The store on Redis. Each call that may be a transition is one Lua script in `scripts/`. Most pings only extend a
//! key, many in one script call.

mod arguments;
mod batches;
mod calls;
mod cluster;
mod connection;
mod format;
mod former_members;
mod logged_causes;
mod node;
mod routing;
mod scripts;
mod store;
mod subscription;

pub use self::store::RedisStore;
pub(super) use self::subscription::Subscription;
