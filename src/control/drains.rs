//! The nodes that somebody wants emptied, until they are empty or gone. Pure.

use serde::{Deserialize, Serialize};

use crate::config::NodeRule;
use crate::model::{Address, CycleReport, Mode, NoPrimary, NodeId, SlotId, Snapshot, means, resource};
use crate::retire::{self, Away, Next};
use crate::scaling::{Scaling, Victim, rest_suffices, victims};

/// Who asks for drains that nobody asked for by hand.
pub(super) const BY_SCALING: &str = "scaling";

/// So long an emptied node waits for members that do not answer: a server that is started again is back by then, and who is
/// gone for good does not keep others from leaving.
const AWAY_MS: u64 = 300_000;

/// A node that is to be emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Who.
    pub id: NodeId,
    /// Where it was reached when that was asked for.
    pub address: Address,
    /// What it announced as its host name then, if it did.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Unix time, milliseconds.
    pub since_ms: u64,
    /// Who asked.
    pub who: String,
    /// The reason given.
    pub why: String,
    /// Whether the cluster is to forget it once it is empty.
    pub forget: bool,
    /// Whether it was seen without slots since.
    #[serde(default)]
    pub emptied: bool,
    /// Unix time since which it is empty and members are away that would be told when it leaves, milliseconds; 0 while none is.
    #[serde(default)]
    pub away_since_ms: u64,
}

impl Drain {
    /// Whether members that do not answer are still to be waited for before it leaves.
    pub(super) const fn patience(&self, now_ms: u64) -> Away {
        if self.away_since_ms > 0 && now_ms.saturating_sub(self.away_since_ms) > AWAY_MS {
            Away::LeftBehind
        } else {
            Away::WaitedFor
        }
    }

    /// Whether a person who says `name` means its node.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        means(name, &self.id, self.hostname.as_deref(), &self.address)
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// What was asked for.
    #[serde(flatten)]
    pub drain: Drain,
    /// Slots that it still owns; absent while the cluster was not seen.
    pub slots_left: Option<usize>,
    /// Keys in them, where that is known.
    pub keys_left: Option<f64>,
    /// Bytes in them, where that is known.
    pub bytes_left: Option<f64>,
    /// Why it does not go on, for people; absent while it does, and when it is done.
    pub blocked_by: Option<String>,
}

/// What is asked of a drain that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainWish {
    /// The node: its address, its id or the beginning of that.
    pub node: String,
    /// Whether the cluster is to forget it once it is empty.
    pub forget: bool,
    /// Whether it is to begin though the rest is too small for it.
    pub force: bool,
    /// Who asks.
    pub who: String,
    /// Why.
    pub why: String,
}

/// All of them, in the order in which they were asked for. Kept in the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Drains(Vec<Drain>);

impl Drains {
    /// Begins to drain a node, or, asked once more, changes whether it is to be forgotten. The new drain.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) fn begin(
        &mut self,
        wish: DrainWish,
        seen: Option<&Snapshot>,
        scaling: &Scaling,
        now_ms: u64,
    ) -> Result<&Drain, String> {
        let snapshot = seen.ok_or("the cluster was not seen yet")?;
        let index = primary(&wish.node, snapshot)?;
        let node = &snapshot.primaries[index];
        let DrainWish { forget, force, who, why, .. } = wish;
        if let Some(known) = self.0.iter().position(|drain| drain.id == node.id) {
            let drain = &mut self.0[known];
            drain.forget |= forget;
            // What somebody asked for by hand does not end because more shards are wanted.
            if drain.who == BY_SCALING && who != BY_SCALING {
                (drain.who, drain.why) = (who, why);
            }
            return Ok(drain);
        }
        if !force {
            if scaling.victim == Victim::HighestOrdinal {
                let victims = victims(scaling.victim, &[], snapshot)?;
                if !victims.contains(&node.id) {
                    let other = snapshot.primary(&victims[0]).map(|node| node.address.to_string()).unwrap_or_default();
                    return Err(format!(
                        "scaling.victim is highest-ordinal: what is taken away would be {other}; --force drains it all the same"
                    ));
                }
            }
            rest_suffices(index, snapshot, scaling).map_err(|why| format!("{why}; --force drains it all the same"))?;
        }
        let (id, address, hostname) = (node.id.clone(), node.address.clone(), node.hostname.clone());
        self.0.push(Drain {
            id,
            address,
            hostname,
            since_ms: now_ms,
            who,
            why,
            forget,
            emptied: false,
            away_since_ms: 0,
        });
        Ok(&self.0[self.0.len() - 1])
    }

    /// Whether a node that is called so drains.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|drain| drain.is_called(name))
    }

    /// Lets a node have slots again. What was asked for before.
    ///
    /// # Errors
    /// When there is no such drain.
    pub(super) fn end(&mut self, name: &str) -> Result<Drain, String> {
        let found = self.0.iter().position(|drain| drain.is_called(name));
        found.map(|place| self.0.remove(place)).ok_or_else(|| format!("'{name}' is not being drained"))
    }

    /// What was seen: those that are empty now for the first time, and those that have left the cluster.
    pub(super) fn see(&mut self, snapshot: &Snapshot, now_ms: u64) -> (Vec<Drain>, Vec<Drain>) {
        let mut emptied = Vec::new();
        let away = retire::is_anyone_away(snapshot);
        for drain in &mut self.0 {
            let slots = snapshot.index_of(&drain.id).map_or(0, |index| snapshot.slots_of(index).len());
            if slots == 0 && !drain.emptied && !snapshot.has_failed(&drain.id) {
                // One that died with slots has lost them to its replica: nobody emptied it.
                emptied.push(drain.clone());
            }
            drain.emptied = slots == 0;
            drain.away_since_ms = match (drain.emptied && away, drain.away_since_ms) {
                (false, _) => 0,
                (true, 0) => now_ms,
                (true, since_ms) => since_ms,
            };
        }
        let gone = |drain: &Drain| retire::next(&drain.id, snapshot, drain.patience(now_ms)) == Next::Gone;
        let (left, stay) = std::mem::take(&mut self.0).into_iter().partition(gone);
        self.0 = stay;
        (emptied, left)
    }

    /// As rules of the operator, for the collector.
    pub(super) fn rules(&self) -> impl Iterator<Item = NodeRule> {
        self.0.iter().map(|drain| NodeRule { drain: true, ..NodeRule::of(drain.id.as_str()) })
    }

    /// Those that were asked for by `who`.
    pub(super) fn of(&self, who: &str) -> impl Iterator<Item = &Drain> {
        self.0.iter().filter(move |drain| drain.who == who)
    }

    /// Whether anything drains that is not done.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(|drain| drain.forget || !drain.emptied)
    }

    /// Those that are to be forgotten.
    pub(super) fn leaving(&self) -> Vec<Drain> {
        self.0.iter().filter(|drain| drain.forget).cloned().collect()
    }

    /// How far each has come, by the last cycle.
    pub(super) fn status(
        &self,
        seen: Option<&Snapshot>,
        last: Option<&CycleReport>,
        mode: Mode,
        now_ms: u64,
    ) -> Vec<DrainStatus> {
        self.0.iter().map(|drain| of_drain(drain, seen, last, mode, now_ms)).collect()
    }
}

fn of_drain(
    drain: &Drain,
    seen: Option<&Snapshot>,
    last: Option<&CycleReport>,
    mode: Mode,
    now_ms: u64,
) -> DrainStatus {
    let place = |snapshot: &Snapshot| snapshot.index_of(&drain.id);
    let left = |column| {
        let snapshot = seen?;
        let by_node = snapshot.sum_by_primary(column)?;
        let index = place(snapshot)? as usize;
        Some(by_node[index]).filter(|value| value.is_finite())
    };
    let slots_left = seen.map(|snapshot| place(snapshot).map_or(0, |index| snapshot.slots_of(index).len()));
    DrainStatus {
        drain: drain.clone(),
        slots_left,
        keys_left: left(resource::KEYS),
        bytes_left: left(resource::BYTES),
        blocked_by: blocked(drain, slots_left, seen, last, mode, now_ms),
    }
}

/// Why a drain does not go on.
fn blocked(
    drain: &Drain,
    slots_left: Option<usize>,
    seen: Option<&Snapshot>,
    last: Option<&CycleReport>,
    mode: Mode,
    now_ms: u64,
) -> Option<String> {
    let done = slots_left == Some(0) && !drain.forget;
    if done {
        return None;
    }
    if !mode.acts() {
        return Some(format!("nothing moves in mode {mode}"));
    }
    if let Some(problem) = seen.and_then(|snapshot| snapshot.blockers().next()) {
        return Some(problem.to_string());
    }
    if let Some(snapshot) = seen.filter(|_| slots_left == Some(0)) {
        return match retire::next(&drain.id, snapshot, drain.patience(now_ms)) {
            Next::Wait(why) => Some(why),
            _ => None,
        };
    }
    // A plan that was made before it drained says nothing about it.
    let last = last.filter(|report| report.started_at_ms > drain.since_ms && slots_left > Some(0))?;
    if last.approved.iter().any(|step| step.from == drain.id) {
        return None;
    }
    let of_drain = |slot: u16| {
        let owner = SlotId::new(slot).and_then(|slot| seen?.owner_of(slot));
        owner.is_some_and(|owner| owner.id == drain.id)
    };
    let refusal = last.refusals.iter().find(|refusal| refusal.slots.iter().any(|slot| of_drain(*slot)));
    Some(match refusal {
        Some(refusal) => format!("the guard holds its slots back ({}): {}", refusal.check, refusal.reason),
        None => format!("the policy proposes to move none of its slots: {}", said(last)),
    })
}

fn said(report: &CycleReport) -> String {
    let summary = report.plan.as_ref().map(|plan| plan.summary.clone()).unwrap_or_default();
    if summary.is_empty() { report.outcome.as_str().to_owned() } else { summary }
}

/// The primary that is called so.
fn primary(name: &str, snapshot: &Snapshot) -> Result<usize, String> {
    snapshot.primary_called(name).map(|index| index as usize).map_err(|why| match why {
        NoPrimary::Several => format!("'{name}' means several primaries: give more digits of its id"),
        NoPrimary::Replica => format!("'{name}' is a replica: it owns no slot that it could be rid of"),
        NoPrimary::Nobody => {
            let known: Vec<String> = snapshot.primaries.iter().map(|node| node.address.to_string()).collect();
            format!("no primary is called '{name}': there are {}", known.join(", "))
        }
    })
}

#[cfg(test)]
mod tests;
