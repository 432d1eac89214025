//! Nodes as people name them, and as tables show them.

use super::outcome::refused;
use super::screen::table;
use crate::control::{NodeRow, node_rows};
use crate::model::{NoPrimary, NodeIndex, Snapshot, units};

/// The primary that `name` means: its address, its id or the beginning of that.
pub(super) fn primary(name: &str, snapshot: &Snapshot) -> anyhow::Result<NodeIndex> {
    snapshot.primary_called(name).map_err(|why| match why {
        NoPrimary::Several => refused(format!("'{name}' means several primaries"), "give more digits of its id"),
        NoPrimary::Replica => refused(format!("'{name}' is a replica"), "slots live on primaries; name its primary"),
        NoPrimary::Nobody => {
            refused(format!("no primary is called '{name}'"), "'ballast check' lists their addresses and ids")
        }
    })
}

/// The address of a primary.
pub(super) fn address(index: NodeIndex, snapshot: &Snapshot) -> String {
    snapshot.primaries.get(index as usize).map_or_else(|| format!("#{index}"), |node| node.address.to_string())
}

/// One line per primary.
pub(super) fn listing(snapshot: &Snapshot) -> String {
    let rows: Vec<Vec<String>> = node_rows(snapshot).iter().map(row).collect();
    table(2, &["PRIMARY", "ID", "SLOTS", "KEYS", "DATA", "CPU", "REPLICAS", "VERSION", "TAGS"], &rows)
}

fn row(node: &NodeRow) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(|| "?".into(), |value| format!("{value:.0}"));
    let tags: Vec<&str> = node.tags.iter().map(|tag| tag.as_str()).filter(|tag| !["primary"].contains(tag)).collect();
    vec![
        node.address.to_string(),
        node.id.short().to_owned(),
        node.slots.to_string(),
        number(node.keys),
        node.bytes.map_or_else(|| "?".into(), |bytes| units::size::format(bytes as u64)),
        node.cpu.map_or_else(|| "?".into(), |cpu| format!("{:.0}%", cpu * 100.0)),
        number(node.replicas),
        node.version.clone(),
        tags.join(","),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;

    #[test]
    fn primaries_are_named_by_address_or_by_the_beginning_of_their_id() {
        let mut snapshot = synthetic(3, 1);
        snapshot.primaries[2].id = "f00d".repeat(10).parse().expect("an id");
        let address = snapshot.primaries[1].address.to_string();
        assert_eq!(primary(&address, &snapshot).expect("known"), 1);
        assert_eq!(primary("F00D", &snapshot).expect("known"), 2);
        for (name, reason) in
            [("0000", "means several"), ("f00", "no primary is called"), ("h:1", "no primary is called")]
        {
            assert!(primary(name, &snapshot).expect_err(name).to_string().contains(reason), "{name}");
        }
        let replica = snapshot.replicas[0].address.to_string();
        assert!(primary(&replica, &snapshot).expect_err("a replica").to_string().contains("is a replica"));
    }
}
