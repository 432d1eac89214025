//! Hours in the life of a daemon, in minutes: events at random instants, and all promises at once.
//!
//! A daemon in mode auto keeps a cluster with replicas even, under a load that checks what it wrote. Primaries join and leave,
//! files change, the daemon is killed and paused, shards fail over, replicas die, nodes get out of reach, and clients come to
//! prefer other keys, in a sequence that the seed decides. In the end no acknowledged write is lost, every key is on one primary
//! alone, no slot is open, nothing moved that the daemon did not write down, and its memory is as it was.
//!
//! `make soak SOAK=2h SEED=1`; five minutes unless told otherwise. Everything that is provoked here leaves an acknowledged write
//! where it is, so that whatever is missing was lost by a move: replicas take over when they are told to and else not, primaries
//! do not die, and cuts are shorter than what the servers take for a death.

mod ledger;
mod memory;
mod script;
mod stage;
mod watch;

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use ballast::clock::now_ms;
use ballast::lab::load::LoadReport;
use ballast::lab::{Kind, Role};
use ballast::model::NodeId;
use ballast::model::units;
use ballast::store::Store;
use tokio::time::{Instant, sleep};

use crate::daemon::Losses;
use crate::support::turn;
use ledger::{Verdict, judge};
use memory::Life;
use script::Script;
use stage::{KEYS, Stage, Toll, cluster_of, home_of, since};

/// By the seed: one after the other.
const KINDS: [Kind; 4] = [Kind::Valkey91, Kind::Redis86, Kind::Redis70, Kind::Valkey80];

/// A soak that is as long has a daemon that lives for a minute.
const WHOLE: Duration = Duration::from_secs(280);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make soak"]
async fn whatever_happens_nothing_is_lost_and_all_that_moved_is_explained() {
    let _turn = turn().await;
    let seed: u64 = env::var("BALLAST_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let length = env::var("BALLAST_TEST_SOAK").unwrap_or_else(|_| "5m".into());
    let length = units::duration::parse(&length).unwrap_or_else(|why| panic!("BALLAST_TEST_SOAK: {why}"));
    let kind = KINDS[(seed.max(1) - 1) as usize % KINDS.len()];
    println!("BALLAST_TEST_SEED={seed} BALLAST_TEST_SOAK={}s: {kind}", length.as_secs());

    let cluster = cluster_of(kind).await;
    let home = home_of(&cluster);
    let mut stage = Stage::set(cluster, &home, seed).await;
    let mut script = Script::of(seed);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (began, began_ms) = (Instant::now(), now_ms());
    while began.elapsed() < length {
        let (gap, event) = script.next();
        // The instants are the point of this pause.
        sleep(gap).await;
        let at = since(began_ms);
        let effect = stage.happen(&event).await;
        println!("{at:>7.1} s  {event}: {effect}");
        *counts.entry(event.kind()).or_default() += 1;
        let report = stage.load.report();
        assert_eq!((report.failed, report.stale), (0, 0), "after {event}: {report:?}\n{}", stage.daemon().log());
    }
    let lasted = began.elapsed();
    stage.rest().await;
    println!("{:>7.1} s  all is at rest", since(began_ms));

    let open = open_slots(&stage).await;
    let store = Store::look(&home.path().join("state")).expect("the daemon kept its history there");
    let cycles = store.cycles_that_moved_since(0).expect("it can be read");
    let journal = store.journal(usize::MAX).expect("it can be read");
    let unfinished = journal.iter().filter(|entry| entry.ending.is_none()).count();
    let mended: Vec<_> = stage.toll.mended.iter().map(|(_, slots, span)| (slots, *span)).collect();
    let verdict = judge(&stage.watch.sightings(), &cycles, &journal, &mended);
    let by_a_person = stage.toll.mended.clone();
    let lives = stage.scale.lives();
    let Stage { client, keys, load, reports, toll, .. } = stage;
    let losses = Losses::after(load, &client, &keys).await;

    let told = [
        told_of_the_run(seed, kind, lasted),
        told_of_clients(&reports, &losses),
        told_of_moves(&verdict, cycles.len(), journal.len()),
        told_of_events(&counts, &toll),
        told_of_memory(&lives),
        vec![row(
            "open slots at the end, on primaries (on replicas)",
            format!("{} ({})", open[0].len(), open[1].len()),
        )],
    ];
    println!("\n| soak | |\n|---|---|\n{}", told.concat().join("\n"));

    losses.are_none(KEYS);
    assert_eq!(open[0], [], "on replicas: {:?}", open[1]);
    assert!(by_a_person.is_empty(), "a person had to mend {by_a_person:?}");
    assert_eq!(unfinished, 0, "the journal has an end of every migration: {journal:?}");
    assert!(verdict.unexplained.is_empty(), "{:#?}", verdict.unexplained);
    assert!(verdict.by_cycles > 0, "nothing moved");
    let judged = lives.iter().filter(|life| life.growth().is_some()).count();
    assert!(judged > 0 || lasted < WHOLE, "no daemon lived long enough to judge its memory by");
    assert!(lives.iter().all(Life::is_flat), "{:?}", lives.iter().map(Life::growth).collect::<Vec<_>>());
}

/// The flags that primaries carry, and those that replicas do: a source that comes back as one keeps its own, and takes no
/// word about them (valkey#998).
async fn open_slots(stage: &Stage<'_>) -> [Vec<(NodeId, String)>; 2] {
    let view = stage.cluster.view().await.expect("a view");
    let reigns = |id: &NodeId| view.iter().any(|node| node.id == *id && node.role == Role::Primary);
    let open = stage.cluster.open_slots().await.expect("all answer");
    let (on_primaries, on_replicas) = open.into_iter().partition(|(id, _)| reigns(id));
    [on_primaries, on_replicas]
}

fn row(what: &str, value: impl std::fmt::Display) -> String {
    format!("| {what} | {value} |")
}

fn told_of_the_run(seed: u64, kind: Kind, length: Duration) -> Vec<String> {
    vec![row("seed, servers", format!("{seed}, {kind}")), row("duration", format!("{} s", length.as_secs()))]
}

fn told_of_clients(reports: &[LoadReport], losses: &Losses) -> Vec<String> {
    let all = || reports.iter().chain([&losses.report]);
    let sum = |count: fn(&LoadReport) -> u64| all().map(count).sum::<u64>();
    let stall_ms = all().flat_map(|report| &report.latency).map(|(_, latency)| latency.max_ms).fold(0.0, f64::max);
    let lost = losses.verification.lost + sum(|report| report.stale);
    vec![
        row(
            "requests (refused for good or given up)",
            format!("{} ({})", sum(|report| report.requests), sum(|report| report.failed)),
        ),
        row("writes acknowledged (lost)", format!("{} ({lost})", sum(|report| report.writes))),
        row("keys on one primary (on two, on none)", {
            let placement = &losses.placement;
            format!("{} ({}, {})", placement.single, placement.duplicated.len(), placement.missing.len())
        }),
        row("longest wait of a client", format!("{stall_ms:.0} ms")),
    ]
}

fn told_of_moves(verdict: &Verdict, cycles: usize, migrations: usize) -> Vec<String> {
    let Verdict { by_cycles, by_journal, by_intent, by_successions, by_person, unexplained } = verdict;
    vec![
        row("cycles that moved slots, migrations", format!("{cycles}, {migrations}")),
        row("slots seen to move", by_cycles + by_journal + by_person + unexplained.len()),
        row("… explained by the report of their cycle", by_cycles),
        row("… by the journal alone (where it does not say which)", format!("{by_journal} ({by_intent})")),
        row("… by a person who mended them", by_person),
        row("… unexplained", unexplained.len()),
        row("slots whose primary was succeeded", by_successions),
    ]
}

fn told_of_events(counts: &BTreeMap<&str, usize>, toll: &Toll) -> Vec<String> {
    let Toll { daemon_starts, found_open, halts, crashes, mended, cancelled, not_succeeded, turned } = toll;
    let by_kind: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let mut told = vec![
        row("events", format!("{}: {}", counts.values().sum::<usize>(), by_kind.join(", "))),
        row("daemon starts", daemon_starts),
        row("flags open after kills", found_open),
        row("cycles cancelled for a policy that waited", cancelled),
        row("failovers that servers refused or gave up", not_succeeded),
        row("primaries that joined and that servers made replicas", turned),
        row("servers that crashed by themselves", crashes),
        row("times that Ballast halted", halts.len()),
        row("times that a person had to mend slots", mended.len()),
    ];
    told.extend(mended.iter().map(|(why, ..)| row("… because", why)));
    told.extend(halts.iter().map(|why| row("… because", why)));
    told
}

fn told_of_memory(lives: &[Life]) -> Vec<String> {
    let judged = lives.iter().filter_map(|life| Some((life, life.growth()?)));
    let told = judged.map(|(life, growth)| {
        let [first, median, most] = life.mib();
        let what = format!("memory of a daemon that lived {} s", life.seconds());
        row(
            &what,
            format!("{first:.0} MiB at first, median {median:.0}, at most {most:.0}; last third / second {growth:.2}"),
        )
    });
    told.collect()
}
