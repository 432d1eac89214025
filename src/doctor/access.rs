//! May our user say all that Ballast says? Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::line::{Fix, Line, Topic, names, places};
use super::rights::{For, Right, grants, is_old, rights};
use super::seen::{Node, Rights};
use crate::cluster::capability::{Server, ServerKind, Version};
use crate::cluster::question::Ruling;
use crate::model::Address;
use crate::model::units::counted;

/// Which rights are missing somewhere, and how much that matters. In this order, the worst comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Lack {
    harm: Harm,
    user: String,
    rights: Vec<&'static str>,
    /// Keys are out of reach, whatever the commands.
    keys: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// Slots would not be seen or moved.
    Moves,
    /// The same, and no right mends it: the server does not know the commands.
    Absent,
    /// It goes on, in this way.
    Less(&'static str),
    /// Atomic migrations would fail: the servers' own user lacks it.
    Replicates,
    /// `ballast verify` would fail.
    Verifies,
    /// `ballast drain --forget` would empty a node, and it would stay.
    Retires,
    /// Standby nodes would not join.
    Grows,
}

/// What is to be said about `user`, ours.
pub(super) fn found(nodes: &[Node], user: &str) -> Vec<Line> {
    let mut lacks: BTreeMap<Lack, Vec<Address>> = BTreeMap::new();
    let mut untold: BTreeMap<(String, bool), Vec<Address>> = BTreeMap::new();
    let (mut allowed, mut ruled, mut read) = (BTreeSet::new(), 0, 0);
    for node in nodes {
        let Some(server) = node.server() else { continue };
        match &node.rights {
            Rights::Untold(why) => {
                untold.entry((why.clone(), is_old(server))).or_default().push(node.address.clone());
            }
            Rights::Ruled(_) => ruled += 1,
            Rights::Read(_) => read += 1,
        }
        let judged = judge(node, server, user);
        allowed.extend(judged.allowed);
        for lack in judged.lacks {
            lacks.entry(lack).or_default().push(node.address.clone());
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    let hurts = lacks.keys().any(|lack| matches!(lack.harm, Harm::Moves | Harm::Absent | Harm::Less(_)));
    if ruled + read > 0 && !hurts {
        let how = match (ruled, read) {
            (_, 0) => "",
            (0, _) => " (by its rules: no ACL DRYRUN before Redis 7.0)",
            _ => " (where there is no ACL DRYRUN, by its rules)",
        };
        let where_ = counted(ruled + read, "node", "nodes");
        lines.push(Line::ok(
            Topic::Access,
            format!(
                "user {user} may run the {} that Ballast needs on {where_}{how}",
                counted(allowed.len(), "command", "commands")
            ),
        ));
    }
    lines.extend(lacks.into_iter().map(|(lack, addresses)| lack.line(&places(&addresses, nodes.len()))));
    lines.extend(
        untold.into_iter().map(|((why, old), addresses)| unasked(user, &why, old, &places(&addresses, nodes.len()))),
    );
    lines
}

/// What one node grants and does not.
struct Judged {
    allowed: Vec<&'static str>,
    lacks: Vec<Lack>,
}

fn judge(node: &Node, server: Server, user: &str) -> Judged {
    let mut judged = Judged { allowed: Vec::new(), lacks: Vec::new() };
    let no_keys = keys_denied(&node.rights);
    let mut lacking: BTreeMap<Harm, Vec<&'static str>> = BTreeMap::new();
    let purposes = [For::Moves, For::Verifies, For::Retires, For::Grows];
    let ours = purposes.into_iter().flat_map(|purpose| rights(server, purpose));
    for right in ours.filter(|right| !node.can.as_ref().is_some_and(|can| right.is_idle(can))) {
        let name = right.name_on(server);
        if right.without.is_none() && right.purpose == For::Moves && is_absent(&node.rights, right) {
            lacking.entry(Harm::Absent).or_default().push(name);
        }
        match (allows(&node.rights, right, server), right.purpose) {
            (Some(false), _) => lacking.entry(harm(right, server)).or_default().push(name),
            (Some(true), For::Moves) => judged.allowed.push(name),
            _ => {}
        }
    }
    if no_keys {
        lacking.entry(Harm::Moves).or_default();
    }
    let keys = |harm: &Harm| no_keys && *harm == Harm::Moves;
    judged.lacks.extend(lacking.into_iter().map(|(harm, mut rights)| {
        rights.dedup();
        Lack { user: user.to_owned(), rights, keys: keys(&harm), harm }
    }));
    if let Some((peer, granted)) = &node.peers {
        let lacking = rights(server, For::Replicates).filter(|right| allows(granted, right, server) == Some(false));
        let lacking: Vec<&'static str> = lacking.map(|right| right.name).collect();
        let keys = keys_denied(granted);
        if keys || !lacking.is_empty() {
            judged.lacks.push(Lack { user: peer.clone(), rights: lacking, keys, harm: Harm::Replicates });
        }
    }
    judged
}

fn harm(right: &Right, server: Server) -> Harm {
    // How many databases are to be emptied, only CONFIG tells there.
    let many_databases = server.kind == ServerKind::Valkey && server.version >= Version(9, 0, 0);
    match (right.purpose, right.name, right.without) {
        (For::Verifies, ..) => Harm::Verifies,
        (For::Retires, ..) => Harm::Retires,
        (For::Grows, ..) => Harm::Grows,
        (_, "config|get", _) if !many_databases => Harm::Less("settings of the servers are taken to be the defaults"),
        (_, _, Some(less)) => Harm::Less(less),
        _ => Harm::Moves,
    }
}

fn allows(rights: &Rights, right: &Right, server: Server) -> Option<bool> {
    match rights {
        Rights::Ruled(rulings) => match rulings.get(right.trial)? {
            Ruling::Allowed => Some(true),
            // Keys are another matter, told once.
            Ruling::Denied(why) if is_about_keys(why) => None,
            Ruling::Denied(_) => Some(false),
            Ruling::Unknown(_) => None,
        },
        Rights::Read(rules) => rules.allow(right.name_on(server)),
        Rights::Untold(_) => None,
    }
}

fn is_absent(rights: &Rights, right: &Right) -> bool {
    matches!(rights, Rights::Ruled(rulings) if matches!(rulings.get(right.trial), Some(Ruling::Unknown(_))))
}

fn keys_denied(rights: &Rights) -> bool {
    match rights {
        Rights::Ruled(rulings) => {
            rulings.values().any(|ruling| matches!(ruling, Ruling::Denied(why) if is_about_keys(why)))
        }
        Rights::Read(rules) => !rules.all_keys,
        Rights::Untold(_) => false,
    }
}

/// `… has no permissions to access the 'x' key`, in the words of all versions.
fn is_about_keys(denial: &str) -> bool {
    denial.contains("permissions to access")
}

impl Lack {
    fn line(self, at: &str) -> Line {
        let Self { user, rights, keys, harm } = self;
        let mut missing: Vec<String> = rights.iter().map(|right| spoken(right)).collect();
        if keys {
            missing.push("all keys (~*)".to_owned());
        }
        let missing = if harm == Harm::Verifies { names(&missing) } else { missing.join(", ") };
        let keys = if keys { "~* " } else { "" };
        let say = format!("ACL SETUSER {user} {keys}{}", grants(rights));
        let fix = Fix::write("on each of these nodes, then ACL SAVE where there is an ACL file:", [say.trim_end()]);
        match harm {
            Harm::Moves => Line::fail(Topic::Access, format!("user {user} lacks {missing} on {at}"), fix),
            Harm::Absent => Line::fail(
                Topic::Access,
                format!("{missing}: not known to {at}, whose version should have it"),
                Fix::of(
                    "take 'rename-command' for it out of that server's configuration, and say 'no' to users by ACLs instead",
                ),
            ),
            Harm::Less(less) => Line::warn(Topic::Access, format!("user {user} lacks {missing} on {at}: {less}"), fix),
            Harm::Replicates => Line::fail(
                Topic::Access,
                format!(
                    "user {user}, as whom servers log in to each other, lacks {missing} on {at}: atomic migrations fail (valkey#2783)"
                ),
                fix,
            ),
            Harm::Retires => Line::skip(
                Topic::Access,
                format!("`ballast drain --forget` could not take nodes out: user {user} lacks {missing} on {at}"),
                fix,
            ),
            Harm::Grows => Line::skip(
                Topic::Access,
                format!("standby nodes could not be let in (scaling.standby): user {user} lacks {missing} on {at}"),
                fix,
            ),
            Harm::Verifies => Line::skip(
                Topic::Access,
                format!("`ballast verify` would be refused: user {user} lacks {missing} on {at}"),
                fix,
            ),
        }
    }
}

/// `CLUSTER NODES` for `cluster|nodes`; a category keeps its name.
fn spoken(right: &str) -> String {
    if right.starts_with('@') { right.to_owned() } else { right.replace('|', " ").to_uppercase() }
}

fn unasked(user: &str, why: &str, old: bool, at: &str) -> Line {
    let ask = if old { "acl|getuser" } else { "acl|dryrun" };
    Line::skip(
        Topic::Access,
        format!("what user {user} may do was not told by {at}: {why}"),
        Fix::write(
            "docs/access.md lists what it needs; to have that examined, let it ask, or run doctor as an administrator:",
            [format!("ACL SETUSER {user} +{ask}")],
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::super::rights::RIGHTS;
    use super::super::seen::node;
    use super::*;
    use crate::cluster::question::Rules;

    const SEVEN: &str = "redis_version:7.0.15";

    /// A server that rules: everything is allowed but `denied`.
    fn ruled(denied: &[&str], words: &str) -> Rights {
        let ruling = |right: &Right| {
            if denied.contains(&right.name) { Ruling::Denied(words.to_owned()) } else { Ruling::Allowed }
        };
        Rights::Ruled(RIGHTS.iter().map(|right| (right.trial, ruling(right))).collect())
    }

    const NO_COMMAND: &str = "User ballast has no permissions to run the command";

    fn with(info: &str, rights: Rights) -> Node {
        Node { rights, ..node(1, info, &[]) }
    }

    fn write(line: &Line) -> &str {
        line.fix.as_ref().and_then(|fix| fix.write.first()).map_or("", String::as_str)
    }

    #[test]
    fn a_user_that_may_everything_is_one_line() {
        let lines = found(&[with(SEVEN, ruled(&[], "")), with(SEVEN, ruled(&[], ""))], "ballast");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].found, "user ballast may run the 17 commands that Ballast needs on 2 nodes");
    }

    #[test]
    fn a_missing_command_is_named_with_the_line_that_grants_it() {
        let poor = with(SEVEN, ruled(&["cluster|setslot", "migrate"], NO_COMMAND));
        let lines = found(&[poor, with(SEVEN, ruled(&[], ""))], "ballast");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].verdict, Verdict::Fail);
        assert_eq!(lines[0].found, "user ballast lacks CLUSTER SETSLOT, MIGRATE on 10.0.0.1:7001");
        assert_eq!(write(&lines[0]), "ACL SETUSER ballast +cluster|setslot +migrate");
    }

    #[test]
    fn a_command_that_was_renamed_away_is_no_matter_of_rights() {
        let Rights::Ruled(mut rulings) = ruled(&[], "") else { panic!("it rules") };
        rulings.insert("MIGRATE 127.0.0.1 7000 x 0 1000", Ruling::Unknown("Command 'MIGRATE' not found".into()));
        let lines = found(&[with(SEVEN, Rights::Ruled(rulings))], "ballast");
        assert_eq!((lines.len(), lines[0].verdict, write(&lines[0])), (1, Verdict::Fail, ""), "{lines:?}");
        assert!(lines[0].found.starts_with("MIGRATE: not known to 10.0.0.1:7001"), "{lines:?}");
    }

    #[test]
    fn what_only_helps_is_a_warning_and_what_only_verifies_none() {
        let lines = found(&[with(SEVEN, ruled(&["multi", "scan"], NO_COMMAND))], "ballast");
        let told: Vec<(Verdict, &str)> = lines.iter().map(|line| (line.verdict, write(line))).collect();
        let expected = [(Verdict::Warn, "ACL SETUSER ballast +multi"), (Verdict::Skip, "ACL SETUSER ballast +scan")];
        assert_eq!(told, expected);
        assert!(lines[0].found.contains("one by one"), "{lines:?}");
    }

    #[test]
    fn keys_out_of_reach_are_told_once() {
        let words = "User ballast has no permissions to access the 'x' key";
        let keyed = ["migrate", "restore-asking", "type", "dump"];
        let lines = found(&[with(SEVEN, ruled(&keyed, words))], "ballast");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((lines[0].verdict, write(&lines[0])), (Verdict::Fail, "ACL SETUSER ballast ~*"));
        assert!(lines[0].found.contains("all keys"), "{lines:?}");
    }

    #[test]
    fn what_the_server_counts_itself_need_not_be_allowed() {
        let lines = found(&[with("valkey_version:8.0.1", ruled(&["object|freq"], NO_COMMAND))], "ballast");
        assert_eq!(lines.iter().map(|line| line.verdict).collect::<Vec<_>>(), [Verdict::Ok], "{lines:?}");
    }

    #[test]
    fn an_old_server_is_judged_by_the_rules_of_the_user() {
        let rules = |commands: &str| {
            let commands = commands.split(' ').map(str::to_owned).collect();
            Rights::Read(Rules { commands, all_keys: true })
        };
        let lines = found(&[with("redis_version:6.2.5", rules("+@all"))], "default");
        assert!(lines[0].verdict == Verdict::Ok && lines[0].found.contains("no ACL DRYRUN before"), "{lines:?}");
        let lines = found(&[with("redis_version:6.2.5", rules("+@all -migrate"))], "ballast");
        assert_eq!(write(&lines[0]), "ACL SETUSER ballast +migrate");
    }

    #[test]
    fn a_server_that_does_not_tell_is_skipped_with_the_way_to_have_it_told() {
        for (info, right) in [(SEVEN, "acl|dryrun"), ("redis_version:6.2.5", "acl|getuser")] {
            let lines = found(&[with(info, Rights::Untold("NOPERM".into()))], "ballast");
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0].verdict, Verdict::Skip);
            assert_eq!(write(&lines[0]), format!("ACL SETUSER ballast +{right}"));
        }
    }

    #[test]
    fn the_servers_own_user_has_to_write_on_valkey_9() {
        let mut nine = with("valkey_version:9.1.2", ruled(&[], ""));
        nine.peers = Some(("replicator".into(), ruled(&["@write", "cluster|syncslots"], NO_COMMAND)));
        let lines = found(&[nine], "ballast");
        assert_eq!(lines.iter().map(|line| line.verdict).collect::<Vec<_>>(), [Verdict::Ok, Verdict::Fail]);
        assert_eq!(write(&lines[1]), "ACL SETUSER replicator +cluster|syncslots +@write");
        assert!(lines[1].found.contains("valkey#2783"), "{lines:?}");
    }
}
