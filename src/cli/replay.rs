//! `ballast plan --at CYCLE`: decides once more as a daemon did, or asks another policy about the same view.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::archive::{Archive, unknown};
use super::outcome::refused;
use super::proposal::{Choice, Proposal};
use super::screen::Screen;
use crate::control::Given;
use crate::guard;
use crate::model::{CycleReport, Plan};
use crate::policy::{LoadedPolicy, Policy as _, PolicyHost, Settings, Source, embedded_names, embedded_policy};
use crate::store::Store;

/// More than any daemon gives: a policy that met no bound then meets none now, and decides the same.
fn ample() -> Settings {
    Settings { deadline_ms: 60_000, memory_mib: 4096, ..Settings::default() }
}

/// Decides by what `cycle` was decided by. Without another policy in `choice`, says whether the outcome is the same.
pub(super) fn propose(cycle: u64, archive: &Archive, choice: &Choice, screen: &Screen) -> anyhow::Result<Proposal> {
    let store = archive.open(screen)?;
    let report = store.cycle(cycle)?.ok_or_else(|| unknown(cycle))?;
    let (Some(snapshot), Some(given)) = (store.snapshot(cycle)?, store.given::<Given>(cycle)?) else {
        return Err(refused(
            format!("what cycle {cycle} was decided by is not kept (any more)"),
            "it is kept where moves were proposed, for the last state.keep_snapshots of such cycles",
        ));
    };
    let snapshot = Arc::new(snapshot);
    let ask = |mut policy: LoadedPolicy| policy.plan(&snapshot).context("the policy gave no plan");
    let plan = match choice.named(&ample())? {
        Some(other) => ask(other)?,
        None => {
            let plan = ask(decider(&given, &report, &store)?)?;
            screen.note(&sameness(&plan, &report));
            plan
        }
    };
    let verdict = guard::review(&plan, &snapshot, &given.limits, &given.ledger, given.reviewed_at_ms);
    Ok(Proposal { snapshot, plan, verdict })
}

/// The policy that decided, as it was when it was asked.
fn decider(given: &Given, report: &CycleReport, store: &Store) -> anyhow::Result<LoadedPolicy> {
    let name = report.policy.as_ref().map_or("the policy", |policy| &policy.name);
    let kept = store.policy_file(&given.policy)?;
    let host = PolicyHost::new(ample())?;
    let file = kept.or_else(|| {
        let mut embedded = embedded_names().into_iter().filter_map(embedded_policy);
        embedded.find(|file| PolicyHost::digest(file) == given.policy).map(<[u8]>::to_vec)
    });
    let file = file.ok_or_else(|| {
        refused(
            format!("the file of {name} (sha256:{}) was not kept", &given.policy[..12]),
            "--policy asks another one",
        )
    })?;
    let source = Source::File(PathBuf::from(format!("{name} of the history")));
    let mut policy = host.load_bytes(&source, file, &given.parameters).context("the policy cannot be used any more")?;
    if let Some(remembered) = &given.remembered {
        policy.restore(remembered);
    }
    Ok(policy)
}

/// Whether the policy says now what it said then.
fn sameness(plan: &Plan, report: &CycleReport) -> String {
    let then = report.plan.as_ref();
    if then.is_some_and(|then| then == plan) {
        return format!("cycle {}: the same plan once more, to the last bit", report.cycle);
    }
    let moves = then.map_or(0, |then| then.moves.len());
    format!(
        "cycle {}: NOT the plan of then, which had {moves} moves: this version decides differently, or the policy remembers what \
         it does not save",
        report.cycle
    )
}
