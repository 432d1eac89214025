//! `ballast fix`: mends what `ballast check` finds, one step at a time, after showing what and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::carry_out::{Hands, Manner};
use super::check::{Told, is_healthy, told};
use super::look::Eye;
use super::nodes;
use super::outcome::{Exit, Outcome, refused};
use super::screen::Screen;
use super::target::{Connection, Target};
use crate::examine::{Audit, Evidence, Finding, Party, findings, listen};
use crate::migration::Double;
use crate::model::{Problem, SlotSet, Snapshot};
use crate::repair::{self, Assignments, Performed, Prescription, Refusal, Repair};

/// Which cluster, and what to take for granted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Gives slots that nobody owns to this primary, by address or id: 0-99=10.0.0.1:7000. May be given several times
    #[arg(long, value_name = "SLOTS=NODE")]
    assign: Vec<String>,
    /// Goes on although somebody seems to be moving slots
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    manner: Manner,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
}

/// What was done, and what is left.
#[derive(Debug, Default, Serialize)]
struct Fix {
    healthy: bool,
    steps: Vec<Step>,
    /// What a person has to decide or do.
    left: Vec<Refusal>,
}

/// One repair, and what came of it.
#[derive(Debug, Serialize)]
struct Step {
    what: String,
    why: String,
    commands: String,
    /// Whether it was carried out to its end.
    whole: bool,
    outcome: String,
    #[serde(flatten)]
    repair: Repair,
}

/// What is done in one round may bring up more: a slot that is closed, then keys that are astray. Twice as many rounds as
/// the longest such chain.
const ROUNDS: usize = 6;
/// Gossip settles within a second or two what is only a matter of time.
const GOSSIP: Duration = Duration::from_secs(6);
/// Whoever moves slots changes something within a second.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    screen.can_ask(args.yes)?;
    let connection = args.target.connect(screen)?;
    let snapshot = Eye::new(&connection).glance().await?;
    let assigned = assignments(&args.assign, &snapshot)?;
    let hands = Hands::open(&connection, &snapshot, &args.manner)?;
    // What we began ourselves is ended by what the journal says of it; this is no guess, so nobody is asked.
    hands.recover(&snapshot, screen).await?;

    let mut fix = Fix::default();
    let mut evidence = settled(&connection).await?;
    // Even when all looks well: between two slots a mover leaves no trace but the owners.
    if !args.force {
        sleep(BETWEEN_LOOKS).await;
        let again = look(&connection, Audit::Everything).await?;
        if let Some(sign) = repair::at_work(&evidence, &again) {
            return Err(refused(
                format!("somebody is moving slots: {sign}"),
                "wait until the daemon or tool is done or stopped; --force goes on regardless",
            ));
        }
        evidence = again;
    }
    let mut refusals = Vec::new();
    for round in 0..ROUNDS {
        let prescription = repair::prescribe(&evidence, &assigned);
        refusals.clone_from(&prescription.refusals);
        if prescription.repairs.is_empty() {
            break;
        }
        screen.note(&shown(&prescription, round));
        if !screen.confirm("Do this?", args.yes)? {
            screen.note("nothing more was done");
            return Ok(Exit::Refused);
        }
        let mut progress = false;
        for repair in prescription.repairs {
            let step = one(repair, &assigned, &connection, &hands, &mut fix.left).await?;
            screen.note(&format!("{}: {}", step.what, step.outcome));
            progress |= step.whole;
            fix.steps.push(step);
        }
        evidence = settled(&connection).await?;
        if !progress {
            break;
        }
    }
    // Slots of ours that were held and are mended now.
    hands.recover(&snapshot, screen).await?;
    evidence = settled(&connection).await?;
    let last = told(&snapshot, &evidence);
    fix.healthy = is_healthy(&last);
    fix.left.extend(refusals);
    fix.left.extend(last.iter().filter(|told| told.is_unhealthy()).map(as_left));
    dedup(&mut fix.left);
    screen.show("Fix", &fix, || text(&fix, &last))?;
    let mended = fix.steps.iter().any(|step| step.whole);
    Ok(match (fix.healthy, mended) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::Partly,
        (false, false) => Exit::Unhealthy,
    })
}

async fn look(connection: &Connection, audit: Audit) -> anyhow::Result<Evidence> {
    Ok(listen(&*connection.cluster, &connection.config.cluster.seeds, &audit).await?)
}

/// A look at everything, when gossip has settled what it settles by itself.
async fn settled(connection: &Connection) -> anyhow::Result<Evidence> {
    let deadline = Instant::now() + GOSSIP;
    // A disagreement that no claim stands behind is not waited for: of a slot that nobody owns, gossip has no news.
    let passing = |finding: &Finding| {
        matches!(
            finding,
            Finding::Contested { .. }
                | Finding::Seen(
                    Problem::EpochCollision { .. }
                        | Problem::UnknownNode { .. }
                        | Problem::NodeSuspected { failed: false, .. }
                )
        )
    };
    while findings(&look(connection, Audit::OpenSlots).await?).iter().any(passing) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    look(connection, Audit::Everything).await
}

/// Carries out one repair, if the cluster still asks for it.
async fn one(
    repair: Repair,
    assigned: &Assignments,
    connection: &Connection,
    hands: &Hands,
    left: &mut Vec<Refusal>,
) -> anyhow::Result<Step> {
    let audit = match &repair {
        // Who inherits a slot depends on who holds keys of those that nobody owns.
        Repair::Unhide { .. } | Repair::Assign { .. } => Audit::Everything,
        _ => Audit::Slots(repair.slots()),
    };
    let evidence = look(connection, audit).await?;
    let (whole, outcome) = if repair::prescribe(&evidence, assigned).repairs.contains(&repair) {
        match repair::perform(&repair, &evidence, &hands.quiet()).await {
            Ok(performed) => {
                let outcome = in_words(&performed);
                let whole = performed.left.is_empty() && performed.different.is_empty();
                let choices = performed.different.iter().map(|(double, stray, owner)| choice(double, stray, owner));
                left.extend(choices);
                (whole, outcome)
            }
            Err(reason) => (false, format!("not done: {reason}")),
        }
    } else {
        (false, "not done: the cluster has changed since this was planned".to_owned())
    };
    Ok(Step { what: repair.to_string(), why: repair.why(), commands: repair.commands(), whole, outcome, repair })
}

fn in_words(performed: &Performed) -> String {
    let mut words = performed.done.clone();
    if let Some((slot, reason)) = performed.left.first() {
        let _ = write!(words, "; {} slots are left: slot {slot}: {reason}", performed.left.len());
    }
    if !performed.different.is_empty() {
        let _ = write!(words, "; {} keys differ and stay", performed.different.len());
    }
    words
}

/// What a person has to type to decide between two values. Both nodes' words are given, since neither is the right one.
fn choice(double: &Double, stray: &Party, owner: &Party) -> Refusal {
    let Double { slot, database, key } = double;
    let at = |party: &Party| {
        party
            .address
            .as_ref()
            .map_or("redis-cli".to_owned(), |node| format!("redis-cli -h {} -p {} -n {database}", node.host, node.port))
    };
    let target = owner.address.as_ref().map_or(String::new(), |node| format!("{} {}", node.host, node.port));
    Refusal {
        what: format!("key '{key}' has one value on {owner}, which owns its slot {slot}, and another on {stray}"),
        why: format!(
            "look at both; to read {stray}'s, say there first: CLUSTER SETSLOT {slot} IMPORTING {id}, and ASKING before each \
             command. To keep {owner}'s: {here}, then ASKING and DEL '{key}'. To keep {stray}'s: {here}, then MIGRATE {target} \
             \"\" {database} 5000 REPLACE KEYS '{key}'. Then 'ballast fix' again",
            id = owner.id,
            here = at(stray),
        ),
    }
}

fn as_left(told: &Told) -> Refusal {
    Refusal { what: told.message.clone(), why: told.remedy.clone() }
}

fn dedup(left: &mut Vec<Refusal>) {
    let mut known = Vec::new();
    left.retain(|refusal| {
        let new = !known.contains(&refusal.what);
        known.push(refusal.what.clone());
        new
    });
}

fn shown(prescription: &Prescription, round: usize) -> String {
    let mut text = if round == 0 { "This would be done:\n".to_owned() } else { "What that brought up:\n".to_owned() };
    for (number, repair) in (1..).zip(&prescription.repairs) {
        let _ = writeln!(text, "{number}. {repair}\n    why: {}\n    how: {}", repair.why(), repair.commands());
    }
    for refusal in &prescription.refusals {
        let _ = writeln!(text, "not repaired: {}\n    {}", refusal.what, refusal.why);
    }
    text.push_str(
        "Each step looks again first. If a daemon runs on this cluster, pause it, so that it begins nothing meanwhile.",
    );
    text
}

fn text(fix: &Fix, last: &[Told]) -> String {
    let mut text = String::new();
    for refusal in &fix.left {
        let _ = writeln!(text, "! {}\n    {}", refusal.what, refusal.why);
    }
    text.extend(last.iter().filter(|told| !told.is_unhealthy()).map(Told::text));
    let whole = fix.steps.iter().filter(|step| step.whole).count();
    let _ = writeln!(
        text,
        "{whole} of {} repairs done. {}",
        fix.steps.len(),
        if fix.healthy { "The cluster is healthy." } else { "The cluster is not healthy." }
    );
    text
}

/// Reads `SLOTS=NODE`.
fn assignments(texts: &[String], snapshot: &Snapshot) -> anyhow::Result<Assignments> {
    let mut assigned = BTreeMap::new();
    for text in texts {
        let wrong =
            |why: String| refused(format!("--assign {text}: {why}"), "give SLOTS=NODE, such as 0-99=127.0.0.1:7000");
        let (slots, node) = text.split_once('=').ok_or_else(|| wrong("there is no '='".into()))?;
        let slots: SlotSet = slots.parse().map_err(|error| wrong(format!("{error}")))?;
        let node = nodes::primary(node, snapshot)?;
        let id = &snapshot.primaries[node as usize].id;
        assigned.extend(slots.iter().map(|slot| (slot, id.clone())));
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::synthetic::synthetic;

    #[test]
    fn assignments_name_slots_and_a_primary() {
        let snapshot = synthetic(3, 0);
        let node = snapshot.primaries[1].address.to_string();
        let assigned = assignments(&[format!("0-2,9={node}")], &snapshot).expect("read");
        assert_eq!(assigned.len(), 4);
        assert!(assigned.values().all(|id| *id == snapshot.primaries[1].id));
        for text in ["0-2", "x=y", "0-2=nobody"] {
            assert!(assignments(&[text.to_owned()], &snapshot).is_err(), "{text}");
        }
    }

    #[test]
    fn a_person_who_has_to_choose_is_told_both_ways() {
        let party = |name: char, port| Party {
            id: name.to_string().repeat(40).parse().expect("an id"),
            address: Some(crate::model::Address::new("h", port)),
        };
        let double = Double { slot: crate::model::SlotId::new(7).expect("a slot"), database: 0, key: "k".into() };
        let why = choice(&double, &party('a', 1), &party('b', 2)).why;
        for words in ["-p 1 -n 0", "DEL 'k'", "MIGRATE h 2 \"\" 0 5000 REPLACE KEYS 'k'", "IMPORTING bbbb"] {
            assert!(why.contains(words), "{words}: {why}");
        }
    }
}
