//! Prints how good plans are and what they cost: `cargo run --release -p ballast-search --example quality`.
//!
//! Clusters of 3 to 1000 nodes, four resources, Zipf loads; from even ranges, and after a tenth of the nodes joined empty.
//! The peer beside it is the greedy that most rebalancers use: largest slot that fits from the hottest to the coldest node.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

use ballast_search::{Goals, Problem, Resource, ResourceGoal, View, ViewNode, solve};

const SLOTS: usize = 16384;

/// A small generator, so that the table is the same everywhere.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Loads of keys with Zipf popularity, hashed to slots.
fn column(skew: f64, seed: u64) -> Vec<f64> {
    let mut lot = Lot(seed);
    let mut slots = vec![0.0; SLOTS];
    for rank in 1..=1_000_000 {
        slots[(lot.next() * SLOTS as f64) as usize] += 1.0 / f64::from(rank).powf(skew);
    }
    let total: f64 = slots.iter().sum();
    slots.iter().map(|load| load / total * 1e6).collect()
}

fn view(nodes: usize, used: usize, skew: f64) -> View {
    let columns = [
        ("cpu-usec", column(skew, 1)),
        ("bytes", column(0.0, 2)),
        ("net-in", column(skew / 2.0, 3)),
        ("ops", column(skew, 4)),
    ];
    View {
        window_s: 10,
        nodes: (0..nodes).map(|node| ViewNode { address: format!("n{node}"), ..ViewNode::default() }).collect(),
        owners: (0..SLOTS).map(|slot| u32::try_from(slot * used / SLOTS).unwrap_or(0)).collect(),
        slot_columns: columns.into_iter().map(|(name, values)| (name.to_owned(), values.into())).collect(),
        node_columns: BTreeMap::from([(
            "weight".to_owned(),
            (0..nodes).map(|node| if node % 4 == 3 { 2.0 } else { 1.0 }).collect(),
        )]),
        ..View::default()
    }
}

/// The share of bytes that hottest-to-coldest moves for the first resource, and the imbalance ÷ floor that it reaches.
fn greedy(problem: &Problem, target: f64) -> (f64, f64) {
    let resource: &Resource = &problem.resources[0];
    let (floor, _) = ballast_search::floor(problem, resource);
    let mut owners = problem.owners.clone();
    let mut loads = problem.node_loads(resource, &owners);
    let mean = problem.mean_utilisation(resource);
    let height = |loads: &[f64], node: usize| loads[node] / resource.capacity[node] / mean;
    let mut moved = 0.0;
    for _ in 0..SLOTS {
        let by_height = |one: &usize, other: &usize| height(&loads, *one).total_cmp(&height(&loads, *other));
        let (Some(hot), Some(cold)) = ((0..loads.len()).max_by(by_height), (0..loads.len()).min_by(by_height)) else {
            break;
        };
        if height(&loads, hot) <= target * floor {
            break;
        }
        let gap = (height(&loads, hot) - height(&loads, cold)) / 2.0 * mean * resource.capacity[cold];
        let fits = (0..SLOTS).filter(|slot| owners[*slot] as usize == hot && resource.loads[*slot] <= gap);
        let Some(slot) = fits.max_by(|one, other| resource.loads[*one].total_cmp(&resource.loads[*other])) else {
            break;
        };
        loads[hot] -= resource.loads[slot];
        loads[cold] += resource.loads[slot];
        owners[slot] = u32::try_from(cold).unwrap_or(0);
        moved += problem.bytes[slot];
    }
    (moved / problem.bytes.iter().sum::<f64>(), problem.imbalance_of(resource, &owners) / floor)
}

fn main() {
    println!(
        "skew nodes start  cpu before  after  floor  excess  moves  bytes %     ms   work  giants  stop    greedy: bytes %  excess"
    );
    for skew in [0.0, 0.8, 0.99] {
        for nodes in [3_usize, 10, 30, 100, 300, 1000] {
            for (start, used) in [("even", nodes), ("out", nodes - nodes.div_ceil(10))] {
                let view = view(nodes, used, skew);
                let named = ["cpu", "memory", "network", "ops"].map(ResourceGoal::named);
                let resources =
                    named.into_iter().map(|goal| ResourceGoal { trigger: 1.1, target: 1.05, ..goal }).collect();
                let goals = Goals { resources, ..Goals::default() };
                let Ok(problem) = Problem::of(&view, &goals) else { continue };
                let started = Instant::now();
                let report = solve(&problem, &goals).report;
                let ms = started.elapsed().as_secs_f64() * 1e3;
                let cpu = &report.resources[0];
                let share = 100.0 * report.bytes / problem.bytes.iter().sum::<f64>();
                let (greedy_share, greedy_excess) = greedy(&problem, 1.05);
                println!(
                    "{skew:4} {nodes:5} {start:>5}  {:10.3} {:6.3} {:6.3}  {:6.3}  {:5}  {share:7.2} {ms:6.1} {:5.1}M {:6}  {:8} {:15.2} {:7.3}",
                    cpu.before,
                    cpu.after,
                    cpu.floor,
                    report.excess_after,
                    report.moves,
                    report.work as f64 / 1e6,
                    report.giants.len(),
                    format!("{:?}", report.stop),
                    100.0 * greedy_share,
                    greedy_excess,
                );
            }
        }
    }
}
