//! Where one-shot commands keep their journal: the user's state directory, one folder per cluster.
//!
//! A cluster has no name of its own. It is known by its nodes: a folder remembers those that it saw, and a cluster that
//! still has one of them is the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::migration::Journal as _;
use crate::model::{NodeId, SlotSet, Snapshot};
use crate::store::Store;

/// In a cluster's folder: the ids of its nodes, one a line.
const NODES: &str = "nodes";

/// The state of the cluster in `snapshot`, held by this process.
pub(super) fn open(snapshot: &Snapshot) -> anyhow::Result<Store> {
    open_in(&home().join("clusters"), snapshot)
}

/// The slots that an earlier command began to move and did not finish, for those who only look. A journal that cannot be
/// read now, say because another command holds it, tells of none.
pub(super) fn unfinished(snapshot: &Snapshot) -> SlotSet {
    let store = find(&home().join("clusters"), &members(snapshot)).and_then(|folder| Store::open(&folder).ok());
    let intents = store.and_then(|store| store.unfinished().ok()).unwrap_or_default();
    intents.iter().flat_map(|(_, intent)| intent.slots.iter()).collect()
}

fn members(snapshot: &Snapshot) -> BTreeSet<&NodeId> {
    snapshot.members().map(|(id, _)| id).collect()
}

fn home() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("ballast")
}

fn open_in(clusters: &Path, snapshot: &Snapshot) -> anyhow::Result<Store> {
    let members = members(snapshot);
    let first = members.first().context("the cluster has no nodes")?;
    let folder = find(clusters, &members).unwrap_or_else(|| clusters.join(first.as_str()));
    let store = Store::open(&folder)?;
    let lines: String = members.iter().map(|id| format!("{id}\n")).collect();
    std::fs::write(folder.join(NODES), lines).with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(store)
}

/// The folder of a cluster that had one of these nodes.
fn find(clusters: &Path, members: &BTreeSet<&NodeId>) -> Option<PathBuf> {
    let folders = std::fs::read_dir(clusters).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders.into_iter().find(|folder| {
        let known = std::fs::read_to_string(folder.join(NODES)).unwrap_or_default();
        known.lines().filter_map(|line| line.parse::<NodeId>().ok()).any(|id| members.contains(&id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;

    #[test]
    fn a_cluster_is_known_again_by_any_of_its_nodes() {
        let home = tempfile::tempdir().expect("temporary directory");
        let path_of = |snapshot: &Snapshot| open_in(home.path(), snapshot).expect("opens").path().to_owned();
        let mut snapshot = synthetic(3, 1);
        let first = path_of(&snapshot);
        snapshot.primaries.remove(0);
        snapshot.primaries.push(synthetic(9, 1).primaries[8].clone());
        assert_eq!(path_of(&snapshot), first, "one node left and one came");
        snapshot.primaries = vec![synthetic(9, 1).primaries[8].clone()];
        snapshot.replicas.clear();
        assert_eq!(path_of(&snapshot), first, "the newcomer was remembered");
        snapshot.primaries = vec![synthetic(30, 1).primaries[29].clone()];
        assert_ne!(path_of(&snapshot), first, "another cluster");
    }
}
