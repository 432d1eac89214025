//! Whether a plan is worth its moves: what it spares and what it costs, both in seconds of servers.
//!
//! A server whose main thread is busy for a part `u` of the time has `u/(1−u)` commands waiting or running on average (the
//! M/M/1 queue), which is also how many seconds its clients spend in each second. Evening spares the difference. Moving keeps
//! both ends busy for each key and each byte, at what was measured on real servers.
//!
//! How long the imbalance would have lasted nobody knows. Who acts once it has cost as much as moving does pays at most twice
//! what somebody who knew would have paid: the rule for renting or buying skis (Karlin et al., *Competitive snoopy caching*, 1988).

use crate::problem::Problem;
use crate::view::Move;

/// Seconds that a key keeps a server busy, whatever its size: `MIGRATE` at the source, `RESTORE` at the target.
const KEY_S: f64 = 9e-6;
/// Seconds that a byte does.
const BYTE_S: f64 = 10e-9;
/// Busier than this counts as this: queues of a server that is never idle have no mean.
const BUSY_MAX: f64 = 0.98;

/// Seconds that clients would wait less in each second with slots placed as in `owners`, as far as loads are to be trusted; 0
/// when it is not known how busy servers are.
pub(crate) fn spared(problem: &Problem, owners: &[u32]) -> f64 {
    let cpu = problem.active().find(|resource| resource.name() == "cpu");
    let Some((cpu, full)) = cpu.and_then(|cpu| Some((cpu, cpu.full.as_ref()?))) else { return 0.0 };
    let waiting = |owners: &[u32]| -> f64 {
        let busy =
            problem.node_loads(cpu, owners).into_iter().zip(full).map(|(load, full)| (load / full).min(BUSY_MAX));
        busy.map(|busy| busy / (1.0 - busy)).sum()
    };
    (waiting(&problem.owners) - waiting(owners)) * cpu.confidence
}

/// Seconds that `moves` keep servers busy, both ends together.
pub(crate) fn effort(problem: &Problem, moves: &[Move]) -> f64 {
    let slots = moves.iter().map(|step| usize::from(step.slot));
    let of = |slot: usize| problem.keys.get(slot).unwrap_or(&0.0) * KEY_S + problem.bytes[slot] * BYTE_S;
    2.0 * slots.map(of).sum::<f64>()
}
