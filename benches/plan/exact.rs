//! Small clusters, where the fewest bytes can be found: ours beside the optimum by HiGHS.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use ballast_search::{Goals, Problem, View, ViewNode, solve};
use serde_json::json;

use crate::cases::{column, weight};

pub(crate) fn table() {
    println!("\nThe optimum by HiGHS at the very maximum that our plan reaches, two resources:");
    println!("{:<28} {:>13} {:>9} {:>9} {:>9} {:>12}", "case", "excess", "bytes", "÷optimum", "÷least", "optimum");
    for (slots, nodes) in [(60, 3), (120, 4), (300, 5)] {
        for skew in [0.0, 0.8] {
            for out in [false, true] {
                row(slots, nodes, skew, out);
            }
        }
    }
}

fn row(slots: usize, nodes: usize, skew: f64, out: bool) {
    let used = nodes - usize::from(out);
    let columns = [("cpu-usec", column(skew, 1, slots)), ("bytes", column(0.5, 2, slots))];
    let view = View {
        window_s: 10,
        nodes: (0..nodes).map(|node| ViewNode { address: format!("n{node}"), ..ViewNode::default() }).collect(),
        owners: (0..slots).map(|slot| u32::try_from(slot * used / slots).unwrap()).collect(),
        slot_columns: columns.into_iter().map(|(name, values)| (name.to_owned(), values.into())).collect(),
        node_columns: BTreeMap::from([("weight".to_owned(), (0..nodes).map(weight).collect())]),
        ..View::default()
    };
    let goals = Goals { resources: super::resources().into_iter().take(2).collect(), ..Goals::default() };
    let problem = Problem::of(&view, &goals).unwrap();
    let solution = solve(&problem, &goals);
    let report = &solution.report;
    let name = format!("{slots} slots, {nodes} nodes, zipf {skew} {}", if out { "out" } else { "even" });
    let optimum = optimum(&problem, &problem.owners_after(&solution.moves));
    println!(
        "{name:<28} {:>5.2} -> {:>4.2} {:>9.0} {:>9} {:>9} {optimum:>12.0}",
        report.excess_before,
        report.excess_after,
        report.bytes,
        super::ratio(report.bytes, optimum),
        super::ratio(report.bytes, report.bytes_least),
    );
}

/// The fewest bytes by which no node is above the highest that any is by `owners`.
fn optimum(problem: &Problem, owners: &[u32]) -> f64 {
    let limits: Vec<Vec<f64>> = (problem.resources.iter())
        .map(|resource| {
            let loads = problem.node_loads(resource, owners);
            let highest = loads.iter().zip(&resource.capacity).map(|(load, room)| load / room).fold(0.0, f64::max);
            resource.capacity.iter().map(|room| room * highest * (1.0 + 1e-9)).collect()
        })
        .collect();
    let loads: Vec<&Vec<f64>> = problem.resources.iter().map(|resource| &resource.loads).collect();
    let task = json!({"owners": problem.owners, "bytes": problem.bytes, "loads": loads, "limits": limits});
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/plan/exact.py");
    let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/solver");
    let mut solver = Command::new("python3")
        .arg(program)
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    solver.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let output = solver.wait_with_output().unwrap();
    assert!(output.status.success(), "exact.py failed: run `make bench-plan`, which fetches HiGHS");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
