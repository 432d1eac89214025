//! How many shards there should be: asks the policy, and lets nodes of the standby pool join when more are due.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::super::Notice;
use super::super::drains::BY_SCALING;
use super::super::keeper::key;
use super::super::standby::Pool;
use super::{Crew, Orders, Turn};
use crate::clock::now_ms;
use crate::join;
use crate::model::{Address, Mode, NodeId, ScalingReport, Snapshot, Tag};
use crate::policy::{PolicyFailure, ScalingAdvice};
use crate::scaling::{Due, Follow, Scaler};
use crate::store::Event;
use crate::telemetry::chain;

/// A node that was introduced is seen by all within seconds; after so long it counts as not having joined.
const JOINING_MS: u64 = 60_000;

/// Shards that are due, and those that have been introduced and are not seen yet.
#[derive(Debug, Default)]
pub(in crate::control) struct Sizing {
    pub(in crate::control) scaler: Scaler,
    introduced: BTreeMap<Address, u64>,
    pool: Pool,
}

impl Sizing {
    pub(in crate::control) fn new(scaler: Scaler) -> Self {
        Self { scaler, introduced: BTreeMap::new(), pool: Pool::default() }
    }
}

/// A node that is to be emptied because fewer shards are wanted, with the next best ones.
pub(in crate::control) struct Fewer {
    pub(in crate::control) retire: Vec<NodeId>,
    pub(in crate::control) reason: String,
}

/// Takes note of what the policy advises.
pub(super) async fn hear(
    crew: &mut Crew,
    orders: &Orders,
    turn: &mut Turn,
    snapshot: &Snapshot,
    advice: Option<Result<Option<ScalingAdvice>, PolicyFailure>>,
) {
    let advice = match advice {
        Some(Ok(advice)) => advice,
        Some(Err(failure)) => {
            info!(cycle = orders.cycle, reason = %failure, "the policy gives no advice about the number of shards");
            turn.no_advice = true;
            None
        }
        None => None,
    };
    let stays = snapshot.primaries.iter().filter(|node| !node.is(Tag::Draining)).count();
    let shards = u32::try_from(stays).unwrap_or(u32::MAX);
    let settings = &orders.config.scaling;
    let before = crew.sizing.scaler.clone();
    // A node that is not seen well may be full: fewer shards are no advice then.
    let amiss = snapshot.blockers().next().is_some();
    let wanted = advice.as_ref().map(|advice| advice.shards).filter(|wanted| !amiss || *wanted >= shards);
    let due = crew.sizing.scaler.hear(now_ms(), shards, wanted, settings);
    if crew.sizing.scaler != before {
        let (keeper, scaler) = (orders.keeper.clone(), crew.sizing.scaler.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.put(key::SCALER, &scaler)).await {
            warn!(error = %chain(&error), "a restart will not know since when shards are wanted");
        }
    }
    let Some(advice) = advice else { return };
    let acts = settings.follow == Follow::Auto && orders.mode == Mode::Auto;
    // Those that drain for want of work, and have some left, stay instead.
    let stay = orders.leaving.borrow().iter().filter(|drain| drain.who == BY_SCALING && !drain.emptied).count();
    let growth = match due {
        Due::More(more) if acts => {
            turn.stay = true;
            more.saturating_sub(u32::try_from(stay).unwrap_or(u32::MAX))
        }
        _ => 0,
    };
    let waits = match &due {
        Due::Nothing(why) => why.clone(),
        _ if settings.follow != Follow::Auto => Some("scaling.follow is advise: nothing is done about it".to_owned()),
        _ if !acts => Some(format!("nothing is done about it in mode {}", orders.mode)),
        _ => None,
    };
    let reason = advice.reason.clone();
    if due == Due::Fewer && acts {
        let retire = advice.retire.iter().filter_map(|index| snapshot.primaries.get(*index as usize));
        turn.fewer = Some(Fewer { retire: retire.map(|node| node.id.clone()).collect(), reason: reason.clone() });
    }
    turn.report.scaling = Some(ScalingReport { shards, wanted: advice.shards, growth, reason, waits });
}

/// Introduces nodes of the standby pool, as many as are due and have not been introduced yet.
pub(super) async fn arrivals(crew: &mut Crew, orders: &Orders, turn: &Turn, snapshot: &Snapshot) {
    let growth = turn.report.scaling.as_ref().map_or(0, |scaling| scaling.growth) as usize;
    let now_ms = now_ms();
    let known = |at: &Address| snapshot.members().any(|(_, address)| address == at);
    crew.sizing.introduced.retain(|at, since_ms| !known(at) && *since_ms + JOINING_MS > now_ms);
    count_standby(crew.sizing.pool.clone(), orders, snapshot);
    let missing = growth.saturating_sub(crew.sizing.introduced.len());
    // A blank node has no part in what moves meanwhile.
    if missing == 0 || orders.mode != Mode::Auto || orders.stop.is_asked() {
        return;
    }
    if let Some(problem) = snapshot.blockers().next() {
        info!(%problem, "no node joins while the cluster is not healthy");
        return;
    }
    let Some(existing) = snapshot.primaries.first().map(|node| node.address.clone()) else { return };
    let pool = crew.sizing.pool.clone().addresses(&orders.config.scaling.standby).await;
    let mut free: Vec<Address> = pool.into_iter().filter(|at| !known(at)).collect();
    free.retain(|at| !crew.sizing.introduced.contains_key(at));
    let mut joined = 0;
    for at in free {
        if joined == missing {
            break;
        }
        match introduce(crew, &existing, &at, snapshot).await {
            Ok(()) => {
                info!(node = %at, "a node of the standby pool joins the cluster");
                orders.tell(Event::Introduced { address: at.clone() });
                crew.sizing.introduced.insert(at, now_ms);
                joined += 1;
            }
            // Known to the others by another address: it has joined, and is no more to be counted on.
            Err(join::JoinError::Member { .. }) => {}
            Err(error) => warn!(node = %at, error = %chain(&error), "a node of the standby pool does not join"),
        }
    }
    if joined < missing {
        info!(missing = missing - joined, "more shards are wanted than the standby pool has");
    }
}

/// Tells how many nodes of the standby pool are not in the cluster. On a task of its own: a name server that does not answer must not
/// keep the turn waiting for a number to show.
fn count_standby(pool: Pool, orders: &Orders, snapshot: &Snapshot) {
    let (standby, notify) = (orders.config.scaling.standby.clone(), orders.notify.clone());
    let members: BTreeSet<Address> = snapshot.members().map(|(_, address)| address.clone()).collect();
    tokio::spawn(async move {
        let pool = pool.addresses(&standby).await;
        notify(Notice::Standby(pool.iter().filter(|at| !members.contains(at)).count()));
    });
}

async fn introduce(crew: &Crew, existing: &Address, new: &Address, snapshot: &Snapshot) -> Result<(), join::JoinError> {
    let cluster = &*crew.cluster;
    join::examine(cluster, new, snapshot).await?;
    join::copy_functions(cluster, existing, new).await?;
    join::meet(cluster, existing, new).await
}
