//! The contract's side of the policy: asks the daemon, and answers it. What to move is decided in `even_memory`.

mod even_memory;

use std::cell::Cell;

use ballast::policy::{cluster, log, types};
use even_memory::{Node, Parameters, View};
use exports::ballast::policy::policy::{Description, Failure, Guest, Proposal};

wit_bindgen::generate!({ path: "wit", world: "slot-policy" });

thread_local! {
    static PARAMETERS: Cell<Parameters> = Cell::default();
}

struct EvenMemory;

export!(EvenMemory);

impl Guest for EvenMemory {
    fn describe() -> Description {
        // A panic in WebAssembly is a bare `unreachable`: without this nobody would learn its message.
        std::panic::set_hook(Box::new(|panic| log::log(log::Level::Error, &panic.to_string())));
        Description {
            name: "even-memory".into(),
            version: "0.1.0".into(),
            summary: "moves slots from the fullest node to the emptiest until memory is even".into(),
            needs: vec!["slot/bytes".into()],
            parameters_schema: even_memory::SCHEMA.into(),
        }
    }

    fn configure(text: String) -> Result<(), String> {
        PARAMETERS.set(Parameters::parse(&text)?);
        Ok(())
    }

    fn plan() -> Result<Proposal, Failure> {
        let Some(bytes) = cluster::slot_metric("bytes") else {
            return Err(Failure::NotReady("slot/bytes is not there yet".into()));
        };
        let nodes = cluster::nodes().iter().map(|node| Node::of_tags(&node.tags)).collect();
        let in_flight = cluster::in_flight().iter().map(|step| (step.slot, step.target)).collect();
        let plan = even_memory::plan(View { nodes, owners: cluster::owners(), bytes, in_flight }, PARAMETERS.get());
        let lower =
            |step: &even_memory::Move| types::Move { slot: step.slot, target: step.target, reason: step.reason.into() };
        Ok(Proposal {
            moves: plan.moves.iter().map(lower).collect(),
            summary: plan.summary,
            gauges: plan.imbalance.map(|imbalance| ("imbalance".into(), imbalance)).into_iter().collect(),
        })
    }
}
