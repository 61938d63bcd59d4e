//! The service on a Redis Cluster, whose nodes die, freeze, fail over, join and leave, and whose slots move.

mod ground;
