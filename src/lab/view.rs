//! What one node says of the cluster: `CLUSTER NODES`, read without the daemon's own reader. Pure.

use crate::model::{Address, NodeId, SlotSet};

/// What a node is, as another one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows that primary, if it knows whom.
    Replica(Option<NodeId>),
}

/// One line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Who.
    pub id: NodeId,
    /// Where.
    pub address: Address,
    /// What.
    pub role: Role,
    /// The words of the third column: `myself`, `master`, `fail?`, `handshake`, …
    pub flags: Vec<String>,
    /// Whether the answering node's link to it stands.
    pub connected: bool,
    /// The slots that it owns.
    pub slots: SlotSet,
    /// Open slots as written, without brackets: `42->-ID` and `42-<-ID`.
    pub open: Vec<String>,
}

impl NodeView {
    /// Whether the answering node has nothing against it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let bad = |flag: &String| matches!(flag.as_str(), "fail" | "fail?" | "handshake" | "noaddr");
        (self.connected || self.flags.iter().any(|flag| flag == "myself")) && !self.flags.iter().any(bad)
    }
}

/// Reads `CLUSTER NODES`. Lines that are none (of a node without an address, say) are left out.
#[must_use]
pub fn parse_nodes(text: &str) -> Vec<NodeView> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<NodeView> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, primary, _ping, _pong, _epoch, link, slots @ ..] = words.as_slice() else { return None };
    // host:port@bus[,hostname]
    let address = address.split(['@', ',']).next()?.parse().ok()?;
    let flags: Vec<String> = flags.split(',').map(str::to_owned).collect();
    let role =
        if flags.iter().any(|flag| flag == "master") { Role::Primary } else { Role::Replica(primary.parse().ok()) };
    let (open, owned): (Vec<&str>, Vec<&str>) = slots.iter().partition(|slot| slot.starts_with('['));
    Some(NodeView {
        id: id.parse().ok()?,
        address,
        role,
        flags,
        connected: *link == "connected",
        slots: owned.join(" ").parse().ok()?,
        open: open.iter().map(|slot| slot.trim_matches(['[', ']']).to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_with_their_slots_and_open_slots() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "{a} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460 5462 [42->-{b}]\n\
             {b} 127.0.0.1:7001@17001,host-b slave,fail? {a} 0 1700000000000 1 disconnected\n"
        );
        let nodes = parse_nodes(&text);
        assert_eq!(nodes[0].slots.to_string(), "0-5460 5462");
        assert_eq!(nodes[0].open, [format!("42->-{b}")]);
        assert!(nodes[0].is_well());
        assert_eq!(nodes[1].role, Role::Replica(a.parse().ok()));
        assert!(!nodes[1].is_well());
    }
}
