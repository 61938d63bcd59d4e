/// The number of a server that holds partitions. A process never gives a number to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The only server of a store that is not a Redis Cluster.
    pub const ONLY: Self = Self(0);
}
