//! The address of a node of a cluster.

use std::fmt;

/// The host and the port of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::store::redis) struct NodeAddress {
    pub(in crate::store::redis) host: String,
    pub(in crate::store::redis) port: u16,
}

impl NodeAddress {
    /// The address that the node at `asked` announces. A node that does not know its own host announces none, and then
    /// has the host that was asked.
    ///
    /// `None` if the node cannot be reached under this address: `?` stands for a host name that the node has not
    /// configured.
    pub(in crate::store::redis) fn announced(host: &str, port: u16, asked: &str) -> Option<Self> {
        let host = match host {
            "?" => return None,
            "" => asked,
            host => host,
        };
        let host = host.to_owned();
        (port != 0 && !host.is_empty()).then_some(Self { host, port })
    }

    /// Reads `host:port` as [`NodeAddress::announced`]. An IPv6 address has no brackets.
    pub(in crate::store::redis) fn parse(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::announced(host, port.parse().ok()?, asked)
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        NodeAddress::parse(text, "seed.example").map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(parsed("127.0.0.1:7000").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(
            parsed("node-1.example:7000").as_deref(),
            Some("node-1.example:7000")
        );
        assert_eq!(parsed("::1:7000").as_deref(), Some("[::1]:7000"));
    }

    #[test]
    fn a_node_without_a_host_has_the_host_that_was_asked() {
        assert_eq!(parsed(":7000").as_deref(), Some("seed.example:7000"));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_none() {
        for text in ["?:7000", "host", "host:", "host:0", "host:65536", "", ":"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
