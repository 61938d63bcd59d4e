//! The store on Redis. Each call that may be a transition is one Lua script in `scripts/`. Most pings only extend a key,
//! many in one script call.

mod arguments;
mod batchers;
mod beat;
mod call_batcher;
mod clock;
mod codec;
mod connection;
mod coverage;
mod deliveries;
mod grant;
mod groups;
mod history;
mod instances;
mod keys;
mod lane;
mod lanes;
mod layout;
mod load_shedder;
mod lookups;
mod moving;
mod node;
mod node_address;
mod pages;
mod ping_batcher;
mod pulse;
mod pursuit;
mod ready;
mod redirect;
mod refresh;
mod replies;
mod route;
mod scripts;
mod slots;
mod stated;
mod store;
mod subscription;
mod supervision;
mod sweep;
mod sweep_round;
mod table;
mod tags;
mod topology;
mod transitions;

pub use self::store::RedisStore;
pub(super) use self::subscription::Subscription;
