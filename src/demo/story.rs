//! The story, in order: uneven load is evened, an empty primary is used, the policy is replaced, a broken one refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::sleep;

use super::Options;
use super::daemon::{CYCLE, Cycle, Daemon, Status, Totals};
use super::measure::{Look, imbalance};
use super::narrator::Narrator;
use super::report::{Act, DemoReport, NodeFigures, is_even};
use crate::lab::load::{Client, KeySpace, Latency, Load, LoadSettings, Phase, find_duplicates, verify};
use crate::lab::{Kind, LocalCluster, Program};
use crate::model::units::counted;
use crate::model::{SLOT_COUNT, SlotId, SlotSet};
use crate::policy::embedded_policy;

const KEYS: usize = 30_000;

/// Whom the keys belong to: each tenant's share a slot. One slot in sixteen holds keys, and gets some requests each
/// second, as slots do on a cluster that is worth evening: from one in ten seconds nobody learns what a slot takes.
const TENANTS: usize = 1000;

/// The same keys and the same sequence of requests each time.
const SEED: u64 = 2;

/// Every so many of the first primary's slots is hot: enough of them that the load can be parted.
const HOT_EVERY: usize = 8;

/// The part of the requests that go to the hot slots only.
const HOT_SHARE: f64 = 0.5;

/// The part of requests that are scripts: work enough that the servers' load stands out from the machine's noise.
const SCRIPTS: f64 = 0.4;

/// Between two looks at the daemon's status. Short, since latency is told apart by what the status says.
const LOOK: Duration = Duration::from_millis(25);

/// Cycles in a row that have to find nothing to do before the load counts as settled.
const CALM_CYCLES: u64 = 2;

/// Over how long the servers' counters are compared: with the default rate, five thousand requests to each server.
const MEASURING: Duration = Duration::from_secs(9);

/// With `--keep`: whoever watches ends it.
const KEPT: Duration = Duration::from_secs(365 * 86_400);

/// Characters of an explanation that a line has room for.
const EXPLANATION: usize = 160;

/// Everything that the story is played on. Dropped, all of it goes: the daemon first, then the load, then the servers.
struct Stage<'a> {
    narrator: &'a Narrator,
    daemon: Daemon,
    load: Load,
    keys: Arc<KeySpace>,
    client: Arc<Client>,
    cluster: LocalCluster,
    /// The cycle told of last.
    told: u64,
    _home: TempDir,
}

pub(super) async fn play(options: &Options, narrator: &Narrator) -> anyhow::Result<DemoReport> {
    let begun = Instant::now();
    let (server, cluster, client, keys) = set_up(options, narrator).await?;
    let load = start_load(options, &server, &client, &keys);
    let first = Look::take(&cluster).await?;
    let measuring = Duration::from_secs_f64(options.seconds as f64 / 12.0).min(MEASURING);
    sleep(measuring).await;
    let before = Look::take(&cluster).await?.figures_since(&first);
    let imbalance_before = imbalance(&before);
    narrator.line(&format!("before: the busiest primary has {imbalance_before:.2} times the mean load"));

    let home = tempfile::Builder::new().prefix("ballast-demo-").tempdir().context("cannot make a directory")?;
    let policy = embedded_policy("balance").ok_or_else(|| anyhow!("this build carries no policy called balance"))?;
    let daemon = Daemon::start(home.path(), &cluster.addresses(), policy)?;
    narrator.line(&format!("watch it at {}", daemon.page()));
    narrator.line(&format!("its configuration is {}", home.path().join("daemon.toml").display()));
    let mut stage = Stage { narrator, daemon, load, keys, client, cluster, told: 0, _home: home };

    let end = begun + Duration::from_secs(options.seconds);
    // The last two acts take some cycles each. What is left of the time the first two share, the second what the first
    // leaves of it.
    let short = CYCLE * 5;
    let left = || end.saturating_duration_since(Instant::now()).saturating_sub(measuring + short * 2);
    let mut acts = vec![stage.evens_the_load(left() / 2).await?];
    acts.push(stage.uses_a_newcomer(left()).await?);
    acts.push(stage.takes_a_new_policy(policy, short).await?);
    acts.push(stage.refuses_a_broken_policy(policy, short).await?);

    let after = stage.measure_until_even(measuring, end).await?;
    if options.keep {
        narrator.line("the story is over; everything goes on until Ctrl-C");
        stage.follow(KEPT, |_| false).await?;
    }
    let status = stage.daemon.status().await?.context("the daemon does not answer")?;
    let memory = stage.daemon.peak_memory_mib();
    let Stage { daemon, load, keys, client, cluster, .. } = stage;
    let ending = Instant::now();
    daemon.end().await?;
    let open = cluster.open_slots().await?;
    acts.push(Act {
        name: "ends on SIGTERM with no slot open",
        done: open.is_empty(),
        seconds: ending.elapsed().as_secs_f64(),
        detail: format!("{} slots are open", open.len()),
    });

    narrator.line("the load ends; every key is read");
    let load = load.stop().await;
    let verification = verify(&client, &keys).await.map_err(|trouble| anyhow!(trouble))?;
    for example in &verification.examples {
        narrator.line(&format!("lost: {example}"));
    }
    let placement = find_duplicates(&client, &keys).await?;
    let latency = |phase| {
        let found = load.latency.iter().find(|(of, _)| *of == phase);
        found.map_or(Latency::default(), |(_, latency)| *latency)
    };
    let Totals { policy_calls, slots_moved, keys_moved, bytes_moved } = status.totals;
    Ok(DemoReport {
        api_version: "ballast/v1",
        kind: "Demo",
        server: server.to_string(),
        seconds: begun.elapsed().as_secs_f64(),
        imbalance_before,
        imbalance_after: imbalance(&after),
        floor: floor(&status),
        slots_moved,
        keys_moved,
        bytes_moved,
        writes_checked: verification.checked,
        writes_lost: verification.lost + load.stale,
        keys_misplaced: (placement.duplicated.len() + placement.missing.len()) as u64,
        requests_failed: load.failed,
        first_failure: load.complaint,
        policy_digest: status.policy.id.map(|policy| policy.digest).unwrap_or_default(),
        policy_calls,
        latency_idle: latency(Phase::Idle),
        latency_migrating: latency(Phase::Migrating),
        daemon_memory_mib: memory,
        acts,
        before,
        after,
    })
}

/// Starts the servers and fills them.
async fn set_up(
    options: &Options,
    narrator: &Narrator,
) -> anyhow::Result<(Program, LocalCluster, Arc<Client>, Arc<KeySpace>)> {
    let program = match &options.server {
        Some(path) => Program::at(path)?,
        None => Kind::Valkey91.program()?,
    };
    let (primaries, replicas) = (usize::from(options.primaries), usize::from(options.replicas));
    narrator.line(&format!(
        "starting {program}: {primaries} primaries, {} of each",
        counted(replicas, "replica", "replicas")
    ));
    let builder = LocalCluster::of_programs(vec![program.clone()]).primaries(primaries).replicas(replicas);
    let cluster = builder.start().await?;
    let client = Client::connect(&cluster.addresses(), None).await?;
    let hot: SlotSet = SlotId::all().take(SLOT_COUNT / primaries).step_by(HOT_EVERY).collect();
    let keys = KeySpace::of_tenants(KEYS, TENANTS, SEED, hot);
    let filled = keys.fill(&client).await.map_err(|trouble| anyhow!(trouble))?;
    let mib = filled.bytes as f64 / f64::from(1 << 20);
    narrator.line(&format!("filled with {} keys of five types, {mib:.0} MiB", filled.keys));
    Ok((program, cluster, Arc::new(client), Arc::new(keys)))
}

fn start_load(options: &Options, server: &Program, client: &Arc<Client>, keys: &Arc<KeySpace>) -> Load {
    let settings = LoadSettings {
        rate: f64::from(options.rate),
        hot_share: HOT_SHARE,
        scripts: SCRIPTS,
        declared_scripts: server.reads_declared_scripts(),
        seed: SEED,
        ..LoadSettings::default()
    };
    Load::start(client.clone(), keys.clone(), &settings)
}

impl Stage<'_> {
    async fn evens_the_load(&mut self, patience: Duration) -> anyhow::Result<Act> {
        let mut act = self.act("the policy evens the load", patience, settled()).await?;
        // How even it is in the end, the report measures; on a busy machine the daemon may still be making sure of it.
        act.done = self.slots_moved().await? > 0;
        Ok(act)
    }

    async fn uses_a_newcomer(&mut self, patience: Duration) -> anyhow::Result<Act> {
        let place = self.cluster.add_primary().await?;
        let newcomer = self.cluster.nodes[place].id.clone();
        self.narrator.line(&format!("{} joins, empty", self.cluster.nodes[place].server.address()));
        let moved_before = self.slots_moved().await?;
        let mut settled = settled();
        let done = move |status: &Status| status.totals.slots_moved > moved_before && settled(status);
        let mut act = self.act("an empty primary joins and is used", patience, done).await?;
        let slots = Look::take(&self.cluster).await?.slots_of(&newcomer);
        act.done = slots > 0;
        act.detail = format!("{}; the newcomer has {slots} slots", act.detail);
        Ok(act)
    }

    async fn takes_a_new_policy(&mut self, policy: &[u8], patience: Duration) -> anyhow::Result<Act> {
        let newer = another_build(policy);
        let digest = hex::encode(Sha256::digest(&newer));
        self.narrator.line(&format!("the policy file is replaced by another build, sha256:{}", &digest[..12]));
        self.daemon.replace_policy(&newer)?;
        let name = "the next cycle uses a replaced policy file";
        let used = |cycle: &Cycle| cycle.policy.as_ref().is_some_and(|policy| policy.digest == digest);
        self.act(name, patience, |status| status.last_cycle.as_ref().is_some_and(used)).await
    }

    async fn refuses_a_broken_policy(&mut self, policy: &[u8], patience: Duration) -> anyhow::Result<Act> {
        let before = self.daemon.status().await?.context("the daemon does not answer")?.policy;
        self.narrator.line("a policy file that breaks off in the middle is dropped in");
        self.daemon.replace_policy(&policy[..policy.len() / 2])?;
        let name = "a broken policy file is refused, the old one goes on";
        let mut refused_in: Option<(u64, String)> = None;
        let done = |status: &Status| {
            let cycle = status.last_cycle.as_ref().map_or(0, |cycle| cycle.cycle);
            let refusal = status.policy.last_reload.as_ref();
            let refusal = refusal.filter(|reload| !reload.accepted && before.last_reload.as_ref() != Some(*reload));
            if let (None, Some(reload)) = (&refused_in, refusal) {
                refused_in = Some((cycle, reload.detail.clone()));
            }
            // One whole cycle later it still decides.
            refused_in.as_ref().is_some_and(|(refused, _)| {
                let deciding = status.last_cycle.as_ref().and_then(|cycle| cycle.policy.as_ref());
                cycle > refused + 1 && deciding == before.id.as_ref() && status.policy.id == before.id
            })
        };
        let mut act = self.act(name, patience, done).await?;
        if let Some((_, reason)) = refused_in {
            act.detail = reason;
            self.narrator.line(&format!("refused: {}", act.detail));
        }
        Ok(act)
    }

    async fn slots_moved(&mut self) -> anyhow::Result<u64> {
        Ok(self.daemon.status().await?.map_or(0, |status| status.totals.slots_moved))
    }

    /// What the servers do now, over at least `measuring`. As long as that is not even and there is time, over more of it,
    /// from anew when slots moved meanwhile: what is noise becomes less, what is uneven stays.
    async fn measure_until_even(&mut self, measuring: Duration, end: Instant) -> anyhow::Result<Vec<NodeFigures>> {
        let mut moved = self.slots_moved().await?;
        let mut earlier = Look::take(&self.cluster).await?;
        loop {
            let followed = self.follow(measuring, |_| false).await?;
            let look = Look::take(&self.cluster).await?;
            let figures = look.figures_since(&earlier);
            let moved_before = std::mem::replace(&mut moved, self.slots_moved().await?);
            let even = is_even(imbalance(&figures), followed.status.as_ref().map_or(1.0, floor));
            if even || Instant::now() + measuring > end {
                return Ok(figures);
            }
            if moved != moved_before {
                earlier = look;
            }
        }
    }

    /// Follows the daemon until `done`, or patience ends.
    async fn act(
        &mut self,
        name: &'static str,
        patience: Duration,
        done: impl FnMut(&Status) -> bool,
    ) -> anyhow::Result<Act> {
        let begun = Instant::now();
        let last = self.follow(patience, done).await?;
        let detail = match &last.status {
            None => "the daemon does not answer".to_owned(),
            Some(status) => standing(status),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let how = if last.done { "done" } else { "going on without waiting longer" };
        self.narrator.line(&format!("{how}: {name} ({seconds:.1} s; {detail})"));
        Ok(Act { name, done: last.done, seconds, detail })
    }

    /// Reads the status again and again, tells of each cycle, and lets the load know when slots move.
    async fn follow(&mut self, patience: Duration, mut done: impl FnMut(&Status) -> bool) -> anyhow::Result<Followed> {
        let deadline = Instant::now() + patience;
        let mut followed = Followed { done: false, status: None };
        while Instant::now() < deadline && !followed.done {
            if let Some(status) = self.daemon.status().await? {
                self.load.enter(if status.activity == "migrating" { Phase::Migrating } else { Phase::Idle });
                if let Some(cycle) = status.last_cycle.as_ref().filter(|cycle| cycle.cycle > self.told) {
                    self.told = cycle.cycle;
                    self.tell(cycle, &status);
                }
                self.narrator.now(|| standing(&status));
                followed = Followed { done: done(&status), status: Some(status) };
            }
            sleep(LOOK).await;
        }
        Ok(followed)
    }

    /// A line for a cycle in which something happened.
    fn tell(&self, cycle: &Cycle, status: &Status) {
        let Cycle { cycle: number, outcome, slots_moved, keys_moved, .. } = cycle;
        match outcome.as_str() {
            "no-change" => {}
            // A policy is compiled in the daemon's first seconds.
            "policy-failed" if cycle.policy.is_none() && status.policy.id.is_none() => {}
            "executed" => self.narrator.line(&format!(
                "cycle {number}: {slots_moved} slots and {keys_moved} keys moved; {}",
                standing(status)
            )),
            "planned" if status.mode != "auto" => self
                .narrator
                .line(&format!("cycle {number}: nothing moves, the mode is {}: {}", status.mode, status.mode_reason)),
            other => {
                let refusal = cycle.refusals.first().map(|refusal| format!("{}: {}", refusal.check, refusal.reason));
                let why =
                    cycle.reason.as_deref().or(refusal.as_deref()).or(cycle.summary.as_deref()).unwrap_or_default();
                self.narrator.line(&format!("cycle {number}: {other}; {}", start_of(why)));
            }
        }
    }
}

/// The first words of a long explanation.
fn start_of(text: &str) -> String {
    match text.char_indices().nth(EXPLANATION) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

struct Followed {
    done: bool,
    status: Option<Status>,
}

/// Says of one status after the other whether the daemon found the load even, and nothing to do, for some cycles.
fn settled() -> impl FnMut(&Status) -> bool {
    let mut calm: Option<(u64, u64)> = None;
    move |status| {
        let Some(cycle) = &status.last_cycle else { return false };
        let even = cpu(status).is_some_and(|(imbalance, floor)| is_even(imbalance, floor));
        calm = match calm {
            _ if !even || cycle.outcome != "no-change" => None,
            None => Some((cycle.cycle, cycle.cycle)),
            Some((first, _)) => Some((first, cycle.cycle)),
        };
        calm.is_some_and(|(first, last)| last >= first + CALM_CYCLES - 1)
    }
}

/// Imbalance and floor of cpu, as the daemon sees them.
fn cpu(status: &Status) -> Option<(f64, f64)> {
    let balance = status.balance.get("cpu")?;
    Some((balance.imbalance?, balance.floor?))
}

fn floor(status: &Status) -> f64 {
    cpu(status).map_or(1.0, |(_, floor)| floor)
}

/// How things stand, in a line.
fn standing(status: &Status) -> String {
    let Totals { slots_moved, .. } = status.totals;
    match cpu(status) {
        Some((imbalance, floor)) => format!("imbalance {imbalance:.2}, at best {floor:.2}, {slots_moved} slots moved"),
        None => format!("no measure of the load yet, {slots_moved} slots moved"),
    }
}

/// The same policy with other bytes, as another build of it would have: a custom section at its end, which WebAssembly
/// leaves to whoever wants to leave a note.
fn another_build(policy: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"built-again";
    let mut bytes = policy.to_vec();
    // Section 0, its size, the size of its name, its name. Both sizes are below 128, one byte in LEB128.
    bytes.extend([0, NAME.len() as u8 + 1, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_is_valid_and_differs() {
        let module = wat::parse_str("(component)").expect("a component");
        let again = another_build(&module);
        assert_ne!(module, again);
        wasmparser::validate(&again).expect("still a component");
    }
}
