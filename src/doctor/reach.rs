//! Does every address lead to the node that is to be found there? Pure.

use super::line::{Fix, Line, Topic, names};
use super::seen::{End, Seen, Way};
use crate::model::NodeId;
use crate::model::units::counted;

/// What is to be said about the ways to the nodes.
pub(super) fn found(seen: &Seen, user: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = seen.ways.iter().filter_map(|way| trouble(way, seen, user)).collect();
    if lines.is_empty() {
        let seeds = seen.ways.iter().filter(|way| way.seed).count();
        lines.push(Line::ok(
            Topic::Nodes,
            format!(
                "{} reached, each where it is announced ({})",
                counted(seen.nodes.len(), "node", "nodes"),
                counted(seeds, "seed", "seeds")
            ),
        ));
    }
    lines
}

fn trouble(way: &Way, seen: &Seen, user: &str) -> Option<Line> {
    let address = &way.address;
    let line = |found: String, fix: Fix| Some(Line::fail(Topic::Nodes, found, fix));
    match &way.end {
        End::Node(id) if way.announced.is_empty() || way.announced.contains(id) => None,
        End::Node(id) => line(
            format!("{address} leads to node {}, but {} announces it", id.short(), shorts(way)),
            Fix::write(
                "two nodes behind one address, or a way that leads astray: each node has to announce an address of its own:",
                announce(),
            ),
        ),
        End::NoName(why) => line(
            format!("{address}: the name does not resolve on this machine: {why}"),
            Fix::of(if way.seed {
                "correct it in cluster.seeds, or in this machine's name service"
            } else {
                "nodes have to announce what this machine can resolve: cluster-announce-ip"
            }),
        ),
        End::Silence(why) if way.failed => line(
            format!("{address} ({}) does not answer, and the cluster counts it as failed: {why}", shorts(way)),
            Fix::of("start it again; a node that is gone for good: CLUSTER FORGET on every other node"),
        ),
        End::Silence(why) if !way.announced.is_empty() && !seen.nodes.is_empty() => line(
            format!("{address}, where {} announces itself, cannot be reached from here: {why}", shorts(way)),
            Fix::write(
                "announced addresses have to be reachable from this machine, through NAT and firewalls too; open the way, \
                 or have the node announce the address by which we reach it:",
                announce(),
            ),
        ),
        End::Silence(why) => line(
            format!("{address}, a seed, does not answer: {why}"),
            Fix::of(
                "is a node running there, and may this machine reach it? rediss:// in cluster.seeds is for servers that speak \
                 TLS, redis:// for those that do not",
            ),
        ),
        End::TurnedAway(why) => line(
            format!("{address} turned user {user} away: {why}"),
            Fix::of(
                "cluster.user and cluster.password_file have to be those of the servers; rediss:// where they speak TLS, \
                 with [cluster.tls] ca_file (docs/access.md)",
            ),
        ),
        End::Refusal { right, why } => line(
            format!("{address} refuses what everything begins with: {why}"),
            Fix::write("on that node, then see docs/access.md for the rest:", [format!("ACL SETUSER {user} +{right}")]),
        ),
        End::NoCluster => line(
            format!("{address} is no node of a cluster"),
            Fix::write(
                "in that server's configuration, or name another node in cluster.seeds:",
                ["cluster-enabled yes"],
            ),
        ),
    }
}

fn announce() -> [&'static str; 2] {
    ["CONFIG SET cluster-announce-ip ADDRESS", "CONFIG SET cluster-announce-port PORT"]
}

fn shorts(way: &Way) -> String {
    let ids: Vec<&str> = way.announced.iter().map(NodeId::short).collect();
    if ids.is_empty() { "a node".to_owned() } else { format!("node {}", names(&ids)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::line::Verdict;
    use super::super::seen::node;
    use super::*;
    use crate::model::Address;

    fn id(place: u16) -> NodeId {
        format!("{place:040}").parse().expect("an id")
    }

    fn way(port: u16, seed: bool, announced: &[u16], end: End) -> Way {
        let announced: BTreeSet<NodeId> = announced.iter().map(|place| id(*place)).collect();
        Way { address: Address::new("10.0.0.1", port), seed, announced, failed: false, end }
    }

    fn told(ways: Vec<Way>) -> Vec<Line> {
        let nodes = vec![node(1, "redis_version:7.0.15", &[])];
        found(&Seen { ways, nodes }, "ballast")
    }

    #[test]
    fn all_ways_that_lead_home_are_one_line() {
        let lines = told(vec![way(7001, true, &[1], End::Node(id(1))), way(9999, true, &[], End::Node(id(1)))]);
        assert_eq!(lines, [Line::ok(Topic::Nodes, "1 node reached, each where it is announced (2 seeds)")]);
    }

    #[test]
    fn an_announced_address_that_cannot_be_reached_names_the_trap() {
        let lines =
            told(vec![way(7001, true, &[1], End::Node(id(1))), way(7002, false, &[2], End::Silence("refused".into()))]);
        assert_eq!((lines.len(), lines[0].verdict), (1, Verdict::Fail));
        assert!(lines[0].found.starts_with("10.0.0.1:7002, where node 00000000 announces itself, cannot be reached"));
        let fix = lines[0].fix.as_ref().expect("a fix");
        assert!(fix.advice.contains("NAT") && fix.write[0].contains("cluster-announce-ip"), "{fix:?}");
    }

    #[test]
    fn an_address_that_leads_to_another_node_is_named() {
        let lines = told(vec![way(7001, false, &[2], End::Node(id(1)))]);
        assert!(lines[0].found.contains("leads to node") && lines[0].verdict == Verdict::Fail, "{lines:?}");
    }

    #[test]
    fn every_other_end_has_its_own_words() {
        let failed = Way { failed: true, ..way(7002, false, &[2], End::Silence("refused".into())) };
        for (way, found, fix) in [
            (failed, "counts it as failed", "CLUSTER FORGET"),
            (way(7000, true, &[], End::Silence("refused".into())), "a seed, does not answer", "cluster.seeds"),
            (way(7000, true, &[], End::NoName("unknown".into())), "does not resolve", "name service"),
            (way(7000, false, &[2], End::NoName("unknown".into())), "does not resolve", "cluster-announce-ip"),
            (way(7000, true, &[], End::TurnedAway("WRONGPASS".into())), "turned user ballast away", "password_file"),
            (way(7000, true, &[], End::NoCluster), "no node of a cluster", "another node"),
            (
                way(7000, true, &[], End::Refusal { right: "cluster|nodes", why: "NOPERM".into() }),
                "refuses what everything begins with",
                "on that node",
            ),
        ] {
            let lines = told(vec![way]);
            assert_eq!((lines.len(), lines[0].verdict), (1, Verdict::Fail));
            assert!(lines[0].found.contains(found), "{lines:?}");
            assert!(lines[0].fix.as_ref().is_some_and(|it| it.advice.contains(fix)), "{lines:?}");
        }
    }
}
