//! The contract's side of the kit: compiled for WebAssembly only.
//!
//! Everything is asked lazily: the daemon lowers only the columns that the policy names.

// The bindings that wit-bindgen writes are its own business.
#[allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::cast_possible_wrap)]
mod bindings {
    #[cfg(not(feature = "scaling"))]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "stateful-slot-policy",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "ballast_policy_kit::guest",
        generate_all,
    });
    #[cfg(feature = "scaling")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "full-slot-policy",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "ballast_policy_kit::guest",
        generate_all,
    });
}

pub use bindings::*;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Columns, Failure, Policy, Proposal, View, ViewNode, parse_parameters};
use bindings::ballast::policy::{cluster, log, types};
#[cfg(feature = "scaling")]
use bindings::exports::ballast::policy::scaling;

/// How much a line matters: the daemon drops what is above its own level.
pub use bindings::ballast::policy::log::Level;

/// Writes a line to the daemon's log under the policy's name.
pub fn write_log(level: Level, message: &str) {
    log::log(level, message);
}

/// What a policy keeps between calls.
pub struct Instance<P: Policy> {
    parameters: P::Parameters,
    memory: P::Memory,
    /// What the last plan was made by: advice is asked about the same.
    view: Option<View>,
}

impl<P: Policy> Default for Instance<P> {
    fn default() -> Self {
        Self { parameters: P::Parameters::default(), memory: P::Memory::default(), view: None }
    }
}

/// The functions of the contract over one [`Instance`]; [`crate::export!`] wires them.
impl<P: Policy> Instance<P> {
    /// `policy.describe`.
    #[must_use]
    pub fn describe() -> types::Description {
        install_panic_hook();
        let description = P::describe();
        types::Description {
            name: description.name.to_owned(),
            version: description.version.to_owned(),
            summary: description.summary.to_owned(),
            needs: description.needs.into_iter().map(str::to_owned).collect(),
            parameters_schema: description.parameters_schema,
        }
    }

    /// `policy.configure`.
    ///
    /// # Errors
    /// As [`parse_parameters`].
    pub fn configure(this: &RefCell<Self>, parameters: &str) -> Result<(), String> {
        install_panic_hook();
        let parameters = parse_parameters::<P>(parameters)?;
        this.borrow_mut().parameters = parameters;
        Ok(())
    }

    /// `policy.plan`.
    ///
    /// # Errors
    /// As [`Policy::plan`].
    pub fn plan(this: &RefCell<Self>) -> Result<types::Proposal, types::Failure> {
        install_panic_hook();
        let Self { parameters, memory, view } = &mut *this.borrow_mut();
        let seen = pull(&P::columns(parameters));
        let answer = P::plan(&seen, parameters, memory).map(lower_proposal).map_err(lower_failure);
        // Without advice to give, it would only hold memory.
        *view = cfg!(feature = "scaling").then_some(seen);
        answer
    }

    /// `scaling.advise`.
    ///
    /// # Errors
    /// As [`Policy::advise`].
    #[cfg(feature = "scaling")]
    pub fn advise(this: &RefCell<Self>) -> Result<scaling::Advice, types::Failure> {
        install_panic_hook();
        let Self { parameters, memory, view } = &mut *this.borrow_mut();
        let seen = view.take().unwrap_or_else(|| pull(&P::columns(parameters)));
        let crate::Advice { shards, retire, reason } = P::advise(&seen, parameters, memory).map_err(lower_failure)?;
        Ok(scaling::Advice { shards, retire, reason })
    }

    /// `state.save`.
    #[must_use]
    pub fn save(this: &RefCell<Self>) -> Vec<u8> {
        serde_json::to_vec(&this.borrow().memory).unwrap_or_default()
    }

    /// `state.restore`.
    ///
    /// # Errors
    /// When the bytes are no memory of this policy.
    pub fn restore(this: &RefCell<Self>, data: &[u8]) -> Result<(), String> {
        this.borrow_mut().memory = serde_json::from_slice(data).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Asks for the view, with these columns.
fn pull(columns: &Columns) -> View {
    let named = |names: &[String], ask: fn(&str) -> Option<Vec<f64>>| -> BTreeMap<String, Arc<[f64]>> {
        names.iter().filter_map(|name| Some((name.clone(), Arc::from(ask(name)?)))).collect()
    };
    View {
        generation: cluster::generation(),
        taken_at_ms: cluster::taken_at_ms(),
        window_s: cluster::window_s(),
        nodes: cluster::nodes().into_iter().map(lift_node).collect(),
        owners: Arc::from(cluster::owners()),
        slot_columns: named(&columns.slots, cluster::slot_metric),
        node_columns: named(&columns.nodes, cluster::node_metric),
        confidence: confidence(cluster::metrics()),
        in_flight: cluster::in_flight().into_iter().map(lift_move).collect(),
    }
}

/// How far to trust slot columns that were not counted.
fn confidence(metrics: Vec<types::Metric>) -> BTreeMap<String, f64> {
    let of_slots = |metric: types::Metric| Some((metric.name.strip_prefix("slot/")?.to_owned(), metric.confidence));
    metrics.into_iter().filter(|metric| metric.confidence < 1.0).filter_map(of_slots).collect()
}

fn lift_node(node: types::Node) -> ViewNode {
    ViewNode { id: node.id, address: node.address, zone: node.zone, tags: node.tags }
}

fn lift_move(step: types::Move) -> crate::Move {
    crate::Move { slot: step.slot, target: step.target, reason: step.reason }
}

fn lower_proposal(proposal: Proposal) -> types::Proposal {
    let lower = |step: crate::Move| types::Move { slot: step.slot, target: step.target, reason: step.reason };
    types::Proposal {
        moves: proposal.moves.into_iter().map(lower).collect(),
        summary: proposal.summary,
        gauges: proposal.gauges,
    }
}

fn lower_failure(failure: Failure) -> types::Failure {
    match failure {
        Failure::BadParameters(text) => types::Failure::BadParameters(text),
        Failure::NotReady(text) => types::Failure::NotReady(text),
        Failure::Internal(text) => types::Failure::Internal(text),
    }
}

/// A panic in WebAssembly is a bare `unreachable`: without this nobody would learn its message.
fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| log::log(Level::Error, &panic.to_string()))));
}

/// Exports a [`Policy`] as the world `stateful-slot-policy`, or `full-slot-policy` with the feature `scaling`. Say it once, at
/// the top level of the crate, under `#[cfg(target_arch = "wasm32")]`.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        mod exported {
            use super::*;
            use std::cell::RefCell;
            use $crate::guest::exports::ballast::policy::{policy, state};

            type Instance = $crate::guest::Instance<$policy>;

            thread_local! {
                static INSTANCE: RefCell<Instance> = RefCell::default();
            }

            struct Exported;

            impl policy::Guest for Exported {
                fn describe() -> policy::Description {
                    Instance::describe()
                }

                fn configure(parameters: String) -> Result<(), String> {
                    INSTANCE.with(|instance| Instance::configure(instance, &parameters))
                }

                fn plan() -> Result<policy::Proposal, policy::Failure> {
                    INSTANCE.with(Instance::plan)
                }
            }

            impl state::Guest for Exported {
                fn save() -> Vec<u8> {
                    INSTANCE.with(Instance::save)
                }

                fn restore(_saved_by: String, data: Vec<u8>) -> Result<(), String> {
                    INSTANCE.with(|instance| Instance::restore(instance, &data))
                }
            }

            $crate::export_scaling!();
            $crate::guest::export_bindings!(Exported with_types_in $crate::guest);
        }
    };
}

/// The part of [`export!`] that only policies with advice have.
#[cfg(not(feature = "scaling"))]
#[doc(hidden)]
#[macro_export]
macro_rules! export_scaling {
    () => {};
}

/// The part of [`export!`] that only policies with advice have.
#[cfg(feature = "scaling")]
#[doc(hidden)]
#[macro_export]
macro_rules! export_scaling {
    () => {
        impl $crate::guest::exports::ballast::policy::scaling::Guest for Exported {
            fn advise() -> Result<$crate::guest::exports::ballast::policy::scaling::Advice, policy::Failure> {
                INSTANCE.with(Instance::advise)
            }
        }
    };
}
