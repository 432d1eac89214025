//! How many shards `balance` wants.

use std::collections::BTreeMap;

use ballast_balance::{Balance, Memory, Parameters};
use ballast_policy_kit::{Advice, Policy as _, View, ViewNode, parse_parameters};

const SLOTS: usize = 16384;
const MINUTE_MS: u64 = 60_000;

/// So many nodes that work as much as so many cores can, and hold so many gigabytes of ten each may.
fn view(nodes: usize, cores: f64, gigabytes: f64, at_ms: u64) -> View {
    let even = |all: f64| vec![all / SLOTS as f64; SLOTS];
    View {
        window_s: 10,
        taken_at_ms: at_ms,
        nodes: (0..nodes).map(|node| ViewNode { address: format!("n{node}:1"), ..ViewNode::default() }).collect(),
        owners: (0..SLOTS).map(|slot| u32::try_from(slot * nodes / SLOTS).expect("small")).collect(),
        slot_columns: BTreeMap::from([
            ("cpu-usec".to_owned(), even(cores * 1e6).into()),
            ("bytes".to_owned(), even(gigabytes * 1e9).into()),
        ]),
        node_columns: BTreeMap::from([("memory-max".to_owned(), vec![10e9; nodes].into())]),
        ..View::default()
    }
}

fn advice(view: &View, memory: &mut Memory) -> Advice {
    Balance::advise(view, &Parameters::default(), memory).expect("advice")
}

#[test]
fn the_resource_that_is_nearest_to_its_end_decides() {
    let shards = |cores: f64, gigabytes: f64| advice(&view(4, cores, gigabytes, 0), &mut Memory::default()).shards;
    assert_eq!(shards(2.2, 20.0), 4, "55 % and 50 %");
    assert_eq!(shards(3.0, 20.0), 6, "75 % of cpu: 3 cores at 55 %");
    assert_eq!(shards(1.0, 32.0), 6, "80 % of memory: 32 GB at 5.5 GB each");
    assert_eq!(shards(1.0, 10.0), 3, "three would use a third of both");
    assert_eq!(shards(1.0, 16.0), 4, "three would use more than half of their memory");
    let little = advice(&view(4, 1.1, 10.0, 0), &mut Memory::default());
    assert_eq!(little.retire.len(), 4);
    assert!(little.reason.contains("28% of cpu is used by 4 shards; one less would use 37%"), "{}", little.reason);
}

#[test]
fn nodes_that_drain_do_not_count_and_are_not_chosen_again() {
    let mut seen = view(4, 0.9, 3.0, 0);
    seen.nodes[1].tags = vec!["draining".to_owned()];
    let advice = advice(&seen, &mut Memory::default());
    assert_eq!((advice.shards, advice.retire.contains(&1)), (3, false), "{advice:?}");
}

#[test]
fn the_largest_zone_gives_first_and_whoever_holds_least() {
    let mut seen = view(5, 0.5, 5.0, 0);
    for (node, zone) in seen.nodes.iter_mut().zip(["a", "b", "b", "b", "a"]) {
        node.zone = zone.to_owned();
    }
    // The third has half of the slots of the others.
    let mut owners = seen.owners.to_vec();
    owners.iter_mut().filter(|owner| **owner == 2).step_by(2).for_each(|owner| *owner = 0);
    seen.owners = owners.into();
    assert_eq!(advice(&seen, &mut Memory::default()).retire, [2, 1, 3, 4, 0]);
}

#[test]
fn thresholds_that_would_call_for_each_other_are_refused() {
    let refusal = parse_parameters::<Balance>(r#"{"size": {"fill-to": 0.8}}"#).expect_err("above grow-above");
    assert!(refusal.contains("fill-to 0.8 < grow-above 0.7"), "{refusal}");
}

/// A week by the minute: four times the load at noon of what there is at midnight, and noise; advice is followed after so many
/// minutes. How often the number of shards changed, how often it turned back within two hours, and the fullest moment.
fn week(load: impl Fn(u64) -> f64, out_after: u32, in_after: u32) -> (usize, usize, f64) {
    let mut memory = Memory::default();
    let (mut nodes, mut longer, mut shorter) = (4_usize, 0, 0);
    let mut changes: Vec<(u64, bool)> = Vec::new();
    let mut fullest: f64 = 0.0;
    for minute in (0..7 * 24 * 60).step_by(10) {
        let cores = load(minute);
        fullest = fullest.max(cores / nodes as f64);
        let wanted = advice(&view(nodes, cores, 4.0, minute * MINUTE_MS), &mut memory).shards as usize;
        (longer, shorter) =
            (if wanted > nodes { longer + 10 } else { 0 }, if wanted < nodes { shorter + 10 } else { 0 });
        if longer >= out_after {
            nodes = wanted;
            changes.push((minute, true));
            (longer, shorter) = (0, 0);
        } else if shorter >= in_after && nodes > 3 {
            nodes -= 1;
            changes.push((minute, false));
            (longer, shorter) = (0, 0);
        }
    }
    let back = changes.windows(2).filter(|pair| pair[0].1 != pair[1].1 && pair[1].0 - pair[0].0 < 120).count();
    (changes.len(), back, fullest)
}

/// Evenly distributed between -1 and 1, the same for the same minute.
fn noise(minute: u64) -> f64 {
    let mixed = (minute + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    mixed as f64 / f64::from(1 << 23) - 1.0
}

fn daily(minute: u64) -> f64 {
    let turn = minute as f64 / (24.0 * 60.0) * std::f64::consts::TAU;
    (2.5 - 1.5 * turn.cos()) * (1.0 + 0.1 * noise(minute))
}

#[test]
fn a_week_of_days_and_nights_is_followed_without_flapping() {
    let (changes, back, fullest) = week(daily, 10, 30);
    println!("{changes} changes, {back} turned back, at most {fullest:.2} full");
    assert_eq!(back, 0, "never in right after out, or out right after in");
    // Three to eight shards and back, each day.
    assert!((20..=80).contains(&changes), "{changes} changes");
    assert!(fullest < 0.95, "{fullest}");
}

#[test]
fn a_load_that_is_only_noisy_changes_nothing() {
    let (changes, ..) = week(|minute| 2.2 * (1.0 + 0.2 * noise(minute)), 10, 30);
    assert_eq!(changes, 0);
}

#[test]
fn yesterday_is_believed_only_while_it_comes_true() {
    let expects = |load: &dyn Fn(u64) -> f64| {
        let mut memory = Memory::default();
        let mut believed = 0;
        for minute in (0..4 * 24 * 60).step_by(15) {
            let reason = advice(&view(6, load(minute), 4.0, minute * MINUTE_MS), &mut memory).reason;
            believed += usize::from(reason.contains("as yesterday"));
        }
        believed
    };
    assert!(expects(&daily) > 20, "days that are alike: {}", expects(&daily));
    // The same days, but each an odd number of hours later than the one before.
    let wanders = |minute: u64| daily(minute + minute / (24 * 60) * 7 * 60);
    assert_eq!(expects(&wanders), 0);
    // Nothing but noise around a level.
    assert_eq!(expects(&|minute| 3.0 * (1.0 + 0.2 * noise(minute))), 0);
}
