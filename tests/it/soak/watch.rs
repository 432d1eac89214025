//! Who owns which slot, several times a second, by the word of the owners themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballast::clock::now_ms;
use ballast::cluster::Command;
use ballast::lab::{Link, NodeView, Role, parse_nodes};
use ballast::model::{Address, NodeId, SLOT_COUNT, SlotId};
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::ledger::{Change, Following, Sightings};

/// Between two looks. Twice as often as a daemon could begin another cycle, at the least.
const LOOK: Duration = Duration::from_millis(250);

/// A node that does not answer for so long is asked again the next time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks until dropped.
pub(super) struct Watch {
    shared: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Whom to ask, at their own addresses: no cut is in the way.
    nodes: Vec<Address>,
    owners: Owners,
}

/// The owner of each slot when it was last certain, and since when.
#[derive(Default)]
struct Owners {
    owners: Vec<Option<(NodeId, u64)>>,
    sightings: Sightings,
}

impl Watch {
    pub(super) fn begin() -> Self {
        let shared: Arc<Mutex<Seen>> = Arc::default();
        let seen = shared.clone();
        let looking = tokio::spawn(async move {
            let mut links = BTreeMap::new();
            let mut tick = interval(LOOK);
            loop {
                tick.tick().await;
                let nodes = seen.lock().expect("no holder panics").nodes.clone();
                let began_ms = now_ms();
                let views = ask(&nodes, &mut links).await;
                seen.lock().expect("no holder panics").owners.learn(&views, began_ms, now_ms());
            }
        });
        Self { shared, looking }
    }

    /// From now on these.
    pub(super) fn ask(&self, nodes: Vec<Address>) {
        self.shared.lock().expect("no holder panics").nodes = nodes;
    }

    pub(super) fn sightings(&self) -> Sightings {
        self.shared.lock().expect("no holder panics").owners.sightings.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// What each node that answers says of itself.
async fn ask(nodes: &[Address], links: &mut BTreeMap<Address, Link>) -> Vec<NodeView> {
    links.retain(|address, link| nodes.contains(address) && link.is_open());
    let mut views = Vec::new();
    for address in nodes {
        if !links.contains_key(address)
            && let Ok(link) = Link::connect(address, None).await
        {
            links.insert(address.clone(), link);
        }
        let Some(link) = links.get(address) else { continue };
        let said = link.call(&[Command::new("CLUSTER NODES")], PATIENCE).await;
        let text = said.ok().and_then(|mut replies| replies.pop()?.text().ok()).unwrap_or_default();
        views.extend(parse_nodes(&text).into_iter().find(|node| node.flags.iter().any(|flag| flag == "myself")));
    }
    views
}

impl Owners {
    /// Takes in what nodes said of themselves between two instants.
    fn learn(&mut self, views: &[NodeView], began_ms: u64, ended_ms: u64) {
        self.owners.resize(SLOT_COUNT, None);
        for view in views {
            if let Role::Replica(Some(primary)) = &view.role {
                self.sightings.follows(Following { primary: primary.clone(), replica: view.id.clone() }, ended_ms);
            }
        }
        for slot in SlotId::all() {
            let mut claims = views.iter().filter(|view| view.role == Role::Primary && view.slots.contains(slot));
            // While a slot changes hands, nobody claims it for an instant, or two do: the next look tells.
            let (Some(owner), None) = (claims.next(), claims.next()) else { continue };
            let known = &mut self.owners[slot.index()];
            if let Some((before, last_ms)) = known
                && *before != owner.id
            {
                let (from, to) = (before.clone(), owner.id.clone());
                self.sightings.changes.push(Change { slot, from, to, after_ms: *last_ms, by_ms: ended_ms });
            }
            *known = Some((owner.id.clone(), began_ms));
        }
    }
}
