//! Nodes as one of them describes the cluster: who they are, what they own, what is half-moved.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::slot::{SlotId, SlotSet};

/// A node's 40-character hexadecimal name within its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// A text that is no node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a node id: 40 hexadecimal digits are expected")]
pub struct InvalidNodeId(pub String);

impl NodeId {
    /// Digits of an id that are enough to name a node, if no other begins with them.
    const DIGITS_MIN: usize = 4;

    /// Whether a person who says `name` means this node, which is reached at `address`: by that, its id or the beginning of it.
    #[must_use]
    pub fn is_meant(&self, name: &str, address: &Address) -> bool {
        let lower = name.to_ascii_lowercase();
        address.to_string() == name || (lower.len() >= Self::DIGITS_MIN && self.as_str().starts_with(&lower))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(InvalidNodeId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(text: String) -> Result<Self, InvalidNodeId> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.to_string()
    }
}

/// Where a node answers: host and client port. IPv6 hosts are kept without brackets and shown with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// Client port.
    pub port: u16,
}

/// A text that is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an address: host:port is expected")]
pub struct InvalidAddress(pub String);

impl Address {
    /// The address of `port` on `host`.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        if host.is_empty() { Err(invalid()) } else { Ok(Self::new(host, port)) }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// What a node is in its shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub enum Role {
    /// Takes writes; may own slots.
    Primary,
    /// Follows a primary; `of` is absent while the node does not know whom.
    Replica {
        /// The primary that it follows.
        of: Option<NodeId>,
    },
}

/// How the answering node sees another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Nothing is wrong.
    Ok,
    /// `fail?`: the answering node cannot reach it.
    Suspect,
    /// `fail`: a majority of primaries cannot reach it.
    Failed,
    /// `handshake` or `noaddr`: not (or no longer) a reachable member.
    Unknown,
}

/// Which way an open slot is moving, as its flag says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenDirection {
    /// `[slot-<-from]`: keys come from that node.
    Importing(NodeId),
    /// `[slot->-to]`: keys go to that node.
    Migrating(NodeId),
}

/// A slot with an importing or migrating flag on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSlot {
    /// The slot.
    pub slot: SlotId,
    /// The node that carries the flag.
    pub node: NodeId,
    /// Which way, and the other end.
    pub direction: OpenDirection,
}

/// One line of `CLUSTER NODES`: a node as the answering node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Who.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: Address,
    /// `cluster-announce-hostname`, where the server has it.
    pub hostname: Option<String>,
    /// Whether this is the answering node itself.
    pub myself: bool,
    /// Primary or replica.
    pub role: Role,
    /// How the answering node sees it.
    pub state: LinkState,
    /// The epoch of its slot claims; the higher one wins a conflict.
    pub config_epoch: u64,
    /// The slots that it claims, as far as the answering node knows.
    pub slots: SlotSet,
    /// Open slots: servers list them only on the `myself` line.
    pub open: Vec<OpenSlot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_what_they_write() {
        for text in ["127.0.0.1:7000", "[::1]:7000", "cache-1.internal:6379"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for text in ["localhost", ":7000", "h:0", "h:70000"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn node_ids_are_forty_hexadecimal_digits() {
        assert!("f".repeat(40).parse::<NodeId>().is_ok());
        assert!("f".repeat(39).parse::<NodeId>().is_err());
        assert!("g".repeat(40).parse::<NodeId>().is_err());
    }
}
