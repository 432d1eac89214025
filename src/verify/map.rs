//! Who owns which slot, by the word of all primaries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use crate::cluster::question::ClusterNodes;
use crate::cluster::{Cluster, ask};
use crate::collector::agree::{Silent, View, agree};
use crate::model::{
    Address, LinkState, NO_OWNER, NodeIndex, NodeRecord, OpenDirection, OpenSlot, Problem, Role, SlotId,
};

/// A node that says nothing for this long is not looked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Map {
    pub(super) primaries: Vec<NodeRecord>,
    owners: Vec<NodeIndex>,
    open: Vec<OpenSlot>,
    /// Primaries that did not say.
    pub(super) silent: Silent,
    /// What is wrong with the slots themselves: nobody owns them, or primaries disagree about who does.
    pub(super) problems: Vec<Problem>,
}

impl Map {
    /// Asks `known` and every primary that they know of. None if nobody answers; then `Err` says why, by node.
    pub(super) async fn look(cluster: &dyn Cluster, known: &[Address]) -> Result<Self, Silent> {
        let mut views: BTreeMap<Address, View> = BTreeMap::new();
        let mut silent = Silent::new();
        let mut next: BTreeSet<Address> = known.iter().cloned().collect();
        // Those that we know lead to all primaries; the third round is for clusters that merge while we look.
        for _ in 0..3 {
            let asked = next.iter().map(async |node| (node.clone(), view_of(cluster, node).await));
            for (node, view) in join_all(asked).await {
                match view {
                    Ok(view) => drop(views.insert(node, view)),
                    Err(reason) => drop(silent.insert(node, reason)),
                }
            }
            next = unasked_primaries(&views, &silent);
            if next.is_empty() {
                break;
            }
        }
        if views.is_empty() {
            return Err(silent);
        }
        let views: Vec<View> = views.into_values().collect();
        let topology = agree(&views, &silent);
        let of_slots =
            |problem: &Problem| matches!(problem, Problem::Disagreement { .. } | Problem::SlotsUncovered { .. });
        let primaries: BTreeSet<&Address> = topology.primaries.iter().map(|primary| &primary.address).collect();
        silent.retain(|node, _| primaries.contains(node));
        Ok(Self {
            problems: topology.problems.into_iter().filter(of_slots).collect(),
            primaries: topology.primaries,
            owners: topology.owners,
            open: topology.open,
            silent,
        })
    }

    /// Where the owner of `slot` answers, if somebody owns it.
    pub(super) fn owner(&self, slot: SlotId) -> Option<&Address> {
        let place = self.owners.get(slot.index()).copied().filter(|place| *place != NO_OWNER)?;
        Some(&self.primaries[place as usize].address)
    }

    /// Whether keys of `slot` are on their way to `node`.
    pub(super) fn is_importing(&self, node: &Address, slot: SlotId) -> bool {
        let Some(id) = self.primaries.iter().find(|primary| primary.address == *node).map(|primary| &primary.id) else {
            return false;
        };
        let towards = |open: &OpenSlot| match &open.direction {
            OpenDirection::Importing(_) => open.node == *id,
            OpenDirection::Migrating(to) => to == id,
        };
        self.open.iter().any(|open| open.slot == slot && towards(open))
    }

    /// Whether `node` carries a flag of an open slot.
    pub(super) fn has_open_slots(&self, node: &Address) -> bool {
        let here = |open: &OpenSlot| self.primaries.iter().any(|one| one.address == *node && one.id == open.node);
        self.open.iter().any(here)
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        self.primaries.iter().map(|primary| primary.address.clone()).collect()
    }
}

async fn view_of(cluster: &dyn Cluster, node: &Address) -> Result<View, String> {
    let records = ask(cluster, node, &ClusterNodes::of(node), PATIENCE).await.map_err(|error| error.to_string())?;
    View::new(records).ok_or_else(|| "it does not list itself".to_owned())
}

fn unasked_primaries(views: &BTreeMap<Address, View>, silent: &Silent) -> BTreeSet<Address> {
    let answered: BTreeSet<_> = views.values().map(|view| &view.myself.id).collect();
    let told = views.values().flat_map(|view| view.story.iter());
    told.filter(|record| record.role == Role::Primary && record.state != LinkState::Unknown)
        .filter(|record| !answered.contains(&record.id) && !silent.contains_key(&record.address))
        .map(|record| record.address.clone())
        .collect()
}
