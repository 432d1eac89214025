//! What a policy proposes and the guard thinks of it: the difference that it would make, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::nodes;
use super::outcome::refused;
use super::screen::table;
use super::state;
use crate::clock::now_ms;
use crate::config::Config;
use crate::guard::{self, Ledger, Limits, Verdict};
use crate::model::{
    Address, NodeId, NodeIndex, Plan, PolicyId, Prediction, Refusal, SlotId, SlotSet, Snapshot, resource, units,
};
use crate::policy::{LoadedPolicy, Policy as _, PolicyHost, Settings, Source, embedded_names};

/// Who decides, and how long to look beforehand.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Choice {
    /// An embedded policy or a file; without it, the configured one, or balance
    #[arg(long, value_name = "NAME|FILE")]
    policy: Option<String>,
    /// The policy's own parameters
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// How long to look at the load before deciding
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration::parse)]
    pub(super) sample: Duration,
}

impl Choice {
    /// The policy, ready to be asked: the one that was named, or else the configured one. Compiling takes milliseconds to
    /// seconds, in a child process.
    pub(super) fn load(&self, config: &Config) -> anyhow::Result<LoadedPolicy> {
        let settings = &config.policy.settings;
        match self.named(settings)? {
            Some(policy) => Ok(policy),
            None => self.load_from(&config.policy.source, &config.policy.parameters, settings),
        }
    }

    /// The policy that was named, if one was.
    pub(super) fn named(&self, settings: &Settings) -> anyhow::Result<Option<LoadedPolicy>> {
        // Parameters belong to the policy that they were written for.
        self.policy.as_ref().map(|name| self.load_from(&source_of(name)?, "{}", settings)).transpose()
    }

    fn load_from(&self, source: &Source, parameters: &str, settings: &Settings) -> anyhow::Result<LoadedPolicy> {
        let parameters = self.parameters.as_deref().unwrap_or(parameters);
        let host = PolicyHost::new(settings.clone())?;
        let cannot = || format!("policy {source} cannot be used");
        let mut policy = host.load(source, parameters).with_context(cannot)?;
        if let Some(impatient) = impatient(&policy.description().parameters_schema, parameters) {
            policy.configure(&impatient).with_context(cannot)?;
        }
        Ok(policy)
    }
}

/// `parameters` with `patience` 0, where `schema` knows that key and nobody set it: who gives a command has waited long enough.
fn impatient(schema: &str, parameters: &str) -> Option<String> {
    let schema: serde_json::Value = serde_json::from_str(schema).ok()?;
    let mut parameters: serde_json::Map<String, serde_json::Value> = serde_json::from_str(parameters).ok()?;
    let waits = schema["properties"].get("patience").is_some() && !parameters.contains_key("patience");
    parameters.insert("patience".to_owned(), 0.into());
    waits.then(|| serde_json::Value::from(parameters).to_string())
}

/// The policy that a person names: an embedded one, or a file.
pub(super) fn source_of(name: &str) -> anyhow::Result<Source> {
    let embedded = embedded_names();
    if embedded.contains(&name) {
        return Ok(Source::Embedded(name.to_owned()));
    }
    let file = PathBuf::from(name);
    if file.is_file() {
        return Ok(Source::File(file));
    }
    let hint = format!("embedded policies: {}; anything else is taken for a file", embedded.join(", "));
    Err(refused(format!("there is no policy '{name}'"), hint))
}

/// The plan, with what a person gave as `reason` before the policy's own.
pub(super) fn with_reason(mut plan: Plan, reason: Option<&str>) -> Plan {
    if let Some(reason) = reason {
        plan.moves.iter_mut().for_each(|step| step.reason = format!("{reason}: {}", step.reason));
    }
    plan
}

/// A plan with its review.
pub(super) struct Proposal {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) plan: Plan,
    pub(super) verdict: Verdict,
}

impl Proposal {
    /// Asks the policy, and the guard about its answer. What a person gave as `reason` goes before the policy's.
    pub(super) fn ask(
        policy: &mut LoadedPolicy,
        snapshot: Arc<Snapshot>,
        limits: &Limits,
        reason: Option<&str>,
    ) -> anyhow::Result<Self> {
        let plan = policy.plan(&snapshot).context("the policy gave no plan")?;
        Ok(Self::review(with_reason(plan, reason), snapshot, limits))
    }

    /// Asks the guard only.
    pub(super) fn review(plan: Plan, snapshot: Arc<Snapshot>, limits: &Limits) -> Self {
        let ours = if snapshot.open_slots.is_empty() { SlotSet::default() } else { state::unfinished(&snapshot) };
        let ledger = Ledger { our_open_slots: ours, ..Ledger::default() };
        let verdict = guard::review(&plan, &snapshot, limits, &ledger, now_ms());
        Self { snapshot, plan, verdict }
    }

    /// Whether the policy would leave everything as it is.
    pub(super) fn is_content(&self) -> bool {
        self.plan.moves.is_empty()
    }

    /// The proposal as scripts read it.
    pub(super) fn document(&self) -> Shown<'_> {
        let address = |id: &NodeId| {
            let index = self.snapshot.index_of(id).expect("the guard approves moves between primaries of the snapshot");
            self.snapshot.primaries[index as usize].address.clone()
        };
        Shown {
            policy: &self.plan.policy,
            generation: self.snapshot.generation,
            taken_at_ms: self.snapshot.taken_at_ms,
            summary: &self.plan.summary,
            proposed: self.plan.moves.len(),
            moves: self
                .verdict
                .approved
                .moves()
                .iter()
                .map(|approved| ShownMove {
                    slot: approved.slot,
                    from: &approved.from,
                    from_address: address(&approved.from),
                    to: &approved.to,
                    to_address: address(&approved.to),
                    reason: &approved.reason,
                })
                .collect(),
            bytes: self.bytes(),
            refusals: &self.verdict.refusals,
            predictions: &self.verdict.predictions,
            nodes: self.effects(),
        }
    }

    /// Bytes that the approved moves carry.
    fn bytes(&self) -> u64 {
        let slots = self.verdict.approved.moves().iter().map(|approved| approved.slot);
        sum(&self.snapshot, resource::BYTES, slots) as u64
    }

    /// Each primary before and after.
    fn effects(&self) -> Vec<Effect> {
        let count = self.snapshot.primaries.len();
        let by_node = |name: &str| self.snapshot.sum_by_primary(name).unwrap_or_else(|| vec![0.0; count]);
        let (cpu, bytes) = (by_node(resource::CPU_USEC), by_node(resource::BYTES));
        let mut effects: Vec<Effect> = (0..)
            .zip(&self.snapshot.primaries)
            .map(|(index, node): (NodeIndex, _)| {
                let slots = self.snapshot.slots_of(index).len();
                let (cpu, bytes) = (cpu[index as usize] / 1e6, bytes[index as usize]);
                Effect { address: node.address.clone(), slots: [slots, slots], cpu: [cpu, cpu], bytes: [bytes, bytes] }
            })
            .collect();
        for approved in self.verdict.approved.moves() {
            let one = [approved.slot];
            let cpu = sum(&self.snapshot, resource::CPU_USEC, one) / 1e6;
            let bytes = sum(&self.snapshot, resource::BYTES, one);
            for (id, sign) in [(&approved.from, -1.0), (&approved.to, 1.0)] {
                let Some(effect) = self.snapshot.index_of(id).and_then(|index| effects.get_mut(index as usize)) else {
                    continue;
                };
                effect.slots[1] = if sign < 0.0 { effect.slots[1] - 1 } else { effect.slots[1] + 1 };
                effect.cpu[1] += sign * cpu;
                effect.bytes[1] += sign * bytes;
            }
        }
        effects
    }

    /// The proposal as people read it, with who made it.
    pub(super) fn text(&self) -> String {
        let age_s = now_ms().saturating_sub(self.snapshot.taken_at_ms) as f64 / 1000.0;
        let primaries = self.snapshot.primaries.len();
        format!("Policy {}   {primaries} primaries, seen {age_s:.0} s ago\n{}", self.plan.policy, self.body())
    }

    /// What would move, what that would do, and what was held back.
    pub(super) fn body(&self) -> String {
        let mut text = String::new();
        if !self.plan.summary.is_empty() {
            let _ = writeln!(text, "{}", self.plan.summary);
        }
        let approved = self.verdict.approved.moves();
        if !approved.is_empty() {
            text.push_str(&self.batches());
            text.push_str(&self.effects_table());
            let _ = writeln!(text, "Plan: {} slots, {}.", approved.len(), units::size::format(self.bytes()));
        } else if self.is_content() {
            text.push_str("Nothing to move.\n");
        }
        let shown = |prediction: &Prediction| {
            let now = format!("{:.2}", prediction.imbalance_before);
            let then =
                if approved.is_empty() { String::new() } else { format!(" -> {:.2}", prediction.imbalance_after) };
            format!("{now}{then} (floor {:.2})", prediction.floor)
        };
        if !self.verdict.predictions.is_empty() {
            let all = self.verdict.predictions.iter().map(|(name, prediction)| format!("{name} {}", shown(prediction)));
            let _ = writeln!(text, "Imbalance: {}.", all.collect::<Vec<_>>().join(", "));
        }
        text.push_str(&refusals(&self.verdict.refusals));
        text
    }

    /// Approved moves by pair of primaries.
    fn batches(&self) -> String {
        let mut pairs: BTreeMap<(NodeIndex, NodeIndex), Vec<SlotId>> = BTreeMap::new();
        for approved in self.verdict.approved.moves() {
            if let (Some(from), Some(to)) =
                (self.snapshot.index_of(&approved.from), self.snapshot.index_of(&approved.to))
            {
                pairs.entry((from, to)).or_default().push(approved.slot);
            }
        }
        let rows: Vec<Vec<String>> = pairs
            .into_iter()
            .map(|((from, to), slots)| {
                let bytes = sum(&self.snapshot, resource::BYTES, slots.iter().copied());
                vec![
                    "~".to_owned(),
                    nodes::address(from, &self.snapshot),
                    nodes::address(to, &self.snapshot),
                    slots.len().to_string(),
                    units::size::format(bytes as u64),
                ]
            })
            .collect();
        table(3, &[" ", "FROM", "TO", "SLOTS", "DATA"], &rows)
    }

    fn effects_table(&self) -> String {
        let change = |shown: [String; 2]| if shown[0] == shown[1] { shown[0].clone() } else { shown.join(" -> ") };
        let rows: Vec<Vec<String>> = self
            .effects()
            .iter()
            .map(|effect| {
                vec![
                    effect.address.to_string(),
                    change(effect.slots.map(|slots| slots.to_string())),
                    change(effect.cpu.map(|cpu| format!("{:.0}%", cpu.max(0.0) * 100.0))),
                    change(effect.bytes.map(|bytes| units::size::format(bytes.max(0.0) as u64))),
                ]
            })
            .collect();
        table(1, &["EFFECT", "SLOTS", "CPU", "DATA"], &rows)
    }
}

/// What the guard held back, one line each.
pub(super) fn refusals(refusals: &[Refusal]) -> String {
    let mut text = String::new();
    for refusal in refusals {
        let _ = writeln!(text, "Held back: {} slots ({}): {}", refusal.slots.len(), refusal.check, refusal.reason);
    }
    text
}

fn sum(snapshot: &Snapshot, column: &str, slots: impl IntoIterator<Item = SlotId>) -> f64 {
    let Some(column) = snapshot.slot_column(column) else { return 0.0 };
    slots.into_iter().map(|slot| column[slot.index()]).filter(|value| value.is_finite()).sum()
}

/// The slots of the approved moves.
pub(super) fn slots_of(verdict: &Verdict) -> SlotSet {
    verdict.approved.moves().iter().map(|approved| approved.slot).collect()
}

/// A proposal as a document.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    policy: &'a PolicyId,
    generation: u64,
    taken_at_ms: u64,
    summary: &'a str,
    proposed: usize,
    moves: Vec<ShownMove<'a>>,
    bytes: u64,
    refusals: &'a [Refusal],
    predictions: &'a BTreeMap<String, Prediction>,
    nodes: Vec<Effect>,
}

#[derive(Serialize)]
struct ShownMove<'a> {
    slot: SlotId,
    from: &'a NodeId,
    from_address: Address,
    to: &'a NodeId,
    to_address: Address,
    reason: &'a str,
}

/// A primary before and after.
#[derive(Serialize)]
struct Effect {
    address: Address,
    slots: [usize; 2],
    /// Share of one core.
    cpu: [f64; 2],
    bytes: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;
    use crate::model::ProposedMove;

    fn proposal(moves: &[(u16, u32)]) -> Proposal {
        let mut snapshot = synthetic(3, 1);
        snapshot.taken_at_ms = now_ms();
        let moves =
            moves.iter().map(|(slot, target)| ProposedMove { slot: *slot, target: *target, reason: String::new() });
        let policy = PolicyId { name: "test".into(), version: "1".into(), digest: "ab".repeat(32) };
        let plan = Plan { policy, generation: 1, moves: moves.collect(), summary: "warm".into(), gauges: Vec::new() };
        Proposal::review(plan, Arc::new(snapshot), &Limits::default().for_one_shot())
    }

    #[test]
    fn a_command_waits_for_nothing_unless_told_to() {
        let schema = r#"{"properties": {"patience": {"type": "number"}}}"#;
        assert_eq!(impatient(schema, r#"{"trigger": 1.3}"#).expect("set"), r#"{"patience":0,"trigger":1.3}"#);
        assert_eq!(impatient(schema, r#"{"patience": 2}"#), None, "somebody set it");
        assert_eq!(impatient(r#"{"properties": {}}"#, "{}"), None, "it does not know the key");
        assert_eq!(impatient("", "{}"), None, "it tells no schema");
    }

    #[test]
    fn a_proposal_shows_what_moves_what_it_changes_and_what_was_held_back() {
        let proposal = proposal(&[(0, 1), (1, 1), (5461, 2), (2, 0)]);
        let text = proposal.text();
        for words in [
            "Policy test 1 sha256:abababababab   3 primaries",
            "~  10.0.0.1:7000  10.0.0.1:7001      2",
            "5462 -> 5459",
            "Plan: 3 slots",
            "Imbalance: cpu 1.",
            "Held back: 1 slots (known): the target owns these slots already",
        ] {
            assert!(text.contains(words), "'{words}' is missing in:\n{text}");
        }
        let document = serde_json::to_value(proposal.document()).expect("serialises");
        assert_eq!(document["moves"].as_array().map(Vec::len), Some(3));
        assert_eq!(document["moves"][0]["to_address"], "10.0.0.1:7001");
        assert_eq!(document["nodes"][0]["slots"], serde_json::json!([5462, 5459]));
        assert_eq!(document["refusals"][0]["check"], "known");
    }

    #[test]
    fn a_content_policy_has_nothing_to_move() {
        let proposal = proposal(&[]);
        assert!(proposal.is_content());
        assert!(proposal.text().contains("Nothing to move."), "{}", proposal.text());
    }
}
