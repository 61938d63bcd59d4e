//! What an operator sets and sees: settings, start, drain, logs, health, dashboard, proxies, and the access to Redis.

mod dashboard;
mod demo;
mod drain;
mod image;
mod keep_alive;
mod lambda;
mod lifecycle;
mod metrics;
mod monitoring;
mod operations;
mod partitions;
mod pipes;
mod platforms;
pub(crate) mod proxies;
pub(crate) mod redis_acl;
mod redis_tls;
mod redis_warnings;
mod traces;
mod variables;
pub(crate) mod webhooks;
