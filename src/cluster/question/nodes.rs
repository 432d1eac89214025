//! `CLUSTER NODES`: the cluster as one node knows it.
//!
//! One line per node, without quoting (<https://redis.io/docs/latest/commands/cluster-nodes/>):
//! `id host:port@bus,hostname,aux=… flags primary ping pong epoch link slots… [slot->-id] [slot-<-id]`.

use super::single;
use crate::cluster::{Command, Question, Reply, ReplyError};
use crate::model::{Address, LinkState, NodeId, NodeRecord, OpenDirection, OpenSlot, Role, SlotId, SlotSet};

/// The cluster as the asked node knows it, itself included.
#[derive(Debug, Clone)]
pub struct ClusterNodes {
    /// Whom we ask: a node that has met nobody yet does not know its own host, so this one stands in.
    pub asked: Address,
}

impl ClusterNodes {
    /// Asks `node`.
    #[must_use]
    pub fn of(node: &Address) -> Self {
        Self { asked: node.clone() }
    }

    /// Reads the text of `CLUSTER NODES`.
    ///
    /// # Errors
    /// [`ReplyError::Unexpected`] with the line that is none.
    pub fn parse(&self, text: &str) -> Result<Vec<NodeRecord>, ReplyError> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| {
                record(line, &self.asked).ok_or_else(|| Reply::Bytes(line.into()).unexpected("a line of CLUSTER NODES"))
            })
            .collect()
    }
}

impl Question for ClusterNodes {
    type Answer = Vec<NodeRecord>;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("CLUSTER NODES")]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<NodeRecord>, ReplyError> {
        self.parse(&single(replies)?.text()?)
    }
}

fn record(line: &str, asked: &Address) -> Option<NodeRecord> {
    let mut words = line.split_ascii_whitespace();
    let id: NodeId = words.next()?.parse().ok()?;
    let (mut address, hostname) = endpoint(words.next()?)?;
    let flags: Vec<&str> = words.next()?.split(',').collect();
    let has = |flag: &str| flags.contains(&flag);
    let myself = has("myself");
    let primary = words.next()?;
    let (_ping, _pong) = (words.next()?, words.next()?);
    let config_epoch = words.next()?.parse().ok()?;
    let _link = words.next()?;

    if myself && address.host.is_empty() {
        address.host.clone_from(&asked.host);
    }
    let role = if has("slave") || has("replica") { Role::Replica { of: primary.parse().ok() } } else { Role::Primary };
    let state = if has("handshake") || has("noaddr") {
        LinkState::Unknown
    } else if has("fail") {
        LinkState::Failed
    } else if has("fail?") {
        LinkState::Suspect
    } else {
        LinkState::Ok
    };

    let (mut slots, mut open) = (Vec::new(), Vec::new());
    for word in words {
        if let Some(flag) = word.strip_prefix('[') {
            open.push(open_slot(flag.strip_suffix(']')?, &id)?);
        } else {
            let (start, end) = word.split_once('-').unwrap_or((word, word));
            let (start, end): (SlotId, SlotId) = (start.parse().ok()?, end.parse().ok()?);
            slots.extend((start.number()..=end.number()).filter_map(SlotId::new));
        }
    }
    let slots = slots.into_iter().collect::<SlotSet>();
    Some(NodeRecord { id, address, hostname, myself, role, state, config_epoch, slots, open })
}

/// `host:port@bus,hostname,aux=…`: host empty and port 0 for `noaddr`; IPv6 without brackets; no bus port before 4.0.
fn endpoint(word: &str) -> Option<(Address, Option<String>)> {
    let mut parts = word.split(',');
    let place = parts.next()?;
    let place = place.split_once('@').map_or(place, |(place, _bus)| place);
    let (host, port) = place.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let hostname = parts.next().filter(|name| !name.is_empty() && !name.contains('=')).map(str::to_owned);
    Some((Address::new(host, port.parse().ok()?), hostname))
}

/// `93-<-id` or `77->-id`.
fn open_slot(flag: &str, node: &NodeId) -> Option<OpenSlot> {
    let (slot, direction) = match flag.split_once("-<-") {
        Some((slot, from)) => (slot, OpenDirection::Importing(from.parse().ok()?)),
        None => {
            let (slot, to) = flag.split_once("->-")?;
            (slot, OpenDirection::Migrating(to.parse().ok()?))
        }
    };
    Some(OpenSlot { slot: slot.parse().ok()?, node: node.clone(), direction })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
    const B: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";
    const C: &str = "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f";

    fn parse(text: &str) -> Vec<NodeRecord> {
        ClusterNodes::of(&Address::new("10.0.0.9", 7000)).parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn one(line: &str) -> NodeRecord {
        parse(line).remove(0)
    }

    #[test]
    fn a_whole_cluster_is_read() {
        let nodes = parse(&format!(
            "{A} 127.0.0.1:30004@31004,host-4 slave {C} 0 1426238317239 4 connected\n\
             {B} 127.0.0.1:30002@31002,,shard-id=aaf1 master - 0 1426238316232 2 connected 5461-10922\n\
             {C} 127.0.0.1:30001@31001 myself,master - 0 0 7 connected 0-5459 5460 [93-<-{B}] [77->-{B}]\n"
        ));
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[0].role, Role::Replica { of: Some(C.parse().expect("id")) });
        assert_eq!(nodes[0].hostname.as_deref(), Some("host-4"));
        assert_eq!(nodes[1].hostname, None, "an empty host name and a shard id are no host name");
        assert_eq!((nodes[1].slots.len(), nodes[1].config_epoch, nodes[1].myself), (5462, 2, false));
        assert_eq!((nodes[2].slots.to_string().as_str(), nodes[2].myself), ("0-5460", true));
        let other: NodeId = B.parse().expect("id");
        let directions: Vec<_> = nodes[2].open.iter().map(|open| (open.slot.number(), &open.direction)).collect();
        assert_eq!(
            directions,
            [(93, &OpenDirection::Importing(other.clone())), (77, &OpenDirection::Migrating(other))]
        );
    }

    #[test]
    fn a_lonely_node_is_known_by_the_host_that_we_asked() {
        let node = one(&format!("{A} :7000@17000 myself,master - 0 0 0 connected"));
        assert_eq!(node.address, Address::new("10.0.0.9", 7000));
        assert!(node.slots.is_empty());
    }

    #[test]
    fn ipv6_hosts_come_without_brackets() {
        assert_eq!(
            one(&format!("{A} 2001:db8::7:7000@17000 master - 0 0 1 connected")).address.to_string(),
            "[2001:db8::7]:7000"
        );
        assert_eq!(one(&format!("{A} ::1:7000@17000,h master - 0 0 1 connected")).address, Address::new("::1", 7000));
    }

    #[test]
    fn trouble_is_told_by_flags() {
        for (flags, state) in [
            ("master", LinkState::Ok),
            ("master,fail?", LinkState::Suspect),
            ("master,fail", LinkState::Failed),
            ("slave,nofailover", LinkState::Ok),
            ("master,noaddr", LinkState::Unknown),
            ("master,fail,noaddr", LinkState::Unknown),
            ("handshake", LinkState::Unknown),
        ] {
            assert_eq!(one(&format!("{A} :0@0 {flags} - 1 1 0 disconnected")).state, state, "{flags}");
        }
        let orphan = one(&format!("{A} 10.0.0.1:7000@17000 slave - 0 0 0 connected"));
        assert_eq!(orphan.role, Role::Replica { of: None });
    }

    #[test]
    fn a_line_that_is_none_is_an_error_and_not_a_node_less() {
        let question = ClusterNodes::of(&Address::new("h", 1));
        for line in ["", "abc", &format!("{A} h:1@2 master - 0 0 1 connected 0-99999"), &format!("{A} h:1@2 master")] {
            let text = format!("{B} h:1@2 master - 0 0 1 connected 0-5\n{line}\n");
            let read = question.parse(&text);
            assert_eq!(read.is_ok(), line.is_empty(), "{line}: {read:?}");
        }
    }
}
