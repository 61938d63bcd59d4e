//! What a refusal of a node means for the command that it refused.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::node_address::NodeAddress;

/// Why a node did not run a command, if another node or a later attempt may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Refused {
    /// Another node serves the slot now.
    Moved(u16, NodeAddress),
    /// The slot is on its way to another node, which has the keys already.
    Ask(NodeAddress),
    /// The slot is on its way to another node, and each of the two nodes has some of the keys.
    TryAgain,
    /// The cluster does not serve the slot now, or serves no slot at all.
    ClusterDown { everywhere: bool },
    /// The node does not know the script.
    UnknownScript,
}

impl Refused {
    /// The meaning of `error` in a reply of the node at the host `asked`; `None` for every other error.
    pub(in crate::store::redis) fn of(error: &RedisError, asked: &str) -> Option<Self> {
        let ErrorKind::Server(kind) = error.kind() else {
            return None;
        };
        match kind {
            ServerErrorKind::Moved => {
                let (address, slot) = error.redirect_node()?;
                Some(Self::Moved(slot, NodeAddress::parse(address, asked)?))
            }
            ServerErrorKind::Ask => {
                let (address, _) = error.redirect_node()?;
                Some(Self::Ask(NodeAddress::parse(address, asked)?))
            }
            ServerErrorKind::TryAgain => Some(Self::TryAgain),
            ServerErrorKind::ClusterDown => {
                let detail = error.detail().unwrap_or_default();
                let everywhere = detail.contains("cluster is down");
                Some(Self::ClusterDown { everywhere })
            }
            ServerErrorKind::NoScript => Some(Self::UnknownScript),
            ServerErrorKind::ResponseError => Self::in_script(error.detail()?),
            _ => None,
        }
    }

    /// The meaning of the error of a command that a script ran.
    fn in_script(detail: &str) -> Option<Self> {
        if detail.contains("attempted to access a non local key") {
            return Some(Self::TryAgain);
        }
        let is_down = detail.contains("command while the cluster is down");
        is_down.then_some(Self::ClusterDown { everywhere: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reply: &str) -> Option<Refused> {
        let reply = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes());
        let error = reply.and_then(redis::Value::extract_error);
        Refused::of(&error.expect_err("an error"), "seed")
    }

    fn address(host: &str, port: u16) -> NodeAddress {
        NodeAddress {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_redirection_names_the_node() {
        let to = address("127.0.0.1", 7002);
        assert_eq!(
            refused("MOVED 3999 127.0.0.1:7002"),
            Some(Refused::Moved(3999, to.clone()))
        );
        assert_eq!(refused("ASK 3999 127.0.0.1:7002"), Some(Refused::Ask(to)));
        assert_eq!(
            refused("MOVED 0 :7003"),
            Some(Refused::Moved(0, address("seed", 7003)))
        );
        assert_eq!(refused("MOVED 0 ?:7003"), None);
        assert_eq!(refused("MOVED"), None);
    }

    #[test]
    fn a_slot_on_its_way_and_a_cluster_that_is_down_are_temporary() {
        for reply in [
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "ERR Script attempted to access a non local key in a cluster node script: f, on @user_script:1.",
        ] {
            assert_eq!(refused(reply), Some(Refused::TryAgain), "{reply}");
        }
        for (reply, everywhere) in [
            ("CLUSTERDOWN Hash slot not served", false),
            ("CLUSTERDOWN The cluster is down", true),
            (
                "ERR Script attempted to execute a write command while the cluster is down and readonly",
                true,
            ),
        ] {
            assert_eq!(
                refused(reply),
                Some(Refused::ClusterDown { everywhere }),
                "{reply}"
            );
        }
        assert_eq!(
            refused("NOSCRIPT No matching script."),
            Some(Refused::UnknownScript)
        );
    }

    #[test]
    fn other_errors_are_final() {
        for reply in [
            "ERR syntax error",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
        ] {
            assert_eq!(refused(reply), None, "{reply}");
        }
    }
}
