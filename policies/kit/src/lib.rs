//! The guest kit: a policy is a pure function from a view to a proposal.
//!
//! A policy implements [`Policy`] and says `export!(ThePolicy);`. The kit asks the daemon for the columns that the
//! policy names, reads its parameters and its memory, and sends panics to the daemon's log. Natively all of this is
//! plain values, so a policy's tests call [`Policy::plan`] as any function.
//!
//! It knows the contract in `wit/policy.wit`. It does not know how to plan: see `ballast-search`.

#[cfg(target_arch = "wasm32")]
pub mod guest;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use ballast_search::{Move, NO_OWNER, View, ViewNode};

/// A placement policy.
pub trait Policy {
    /// What a person may set; written as one JSON object. It should refuse unknown keys.
    type Parameters: Default + DeserializeOwned;
    /// What outlives a call, a reload and a restart.
    type Memory: Default + Serialize + DeserializeOwned;

    /// Who the policy is; the same every time.
    fn describe() -> Description;

    /// Makes full parameters of what a person wrote, where keys stand for others: the name of a preset.
    ///
    /// # Errors
    /// For people: which parameter, and what is accepted.
    fn expand(written: serde_json::Value) -> Result<serde_json::Value, String> {
        Ok(written)
    }

    /// Refuses parameters that are well-formed but make no sense.
    ///
    /// # Errors
    /// For people: which parameter, and what is accepted.
    fn check(parameters: &Self::Parameters) -> Result<(), String> {
        let _ = parameters;
        Ok(())
    }

    /// The columns that [`Policy::plan`] will look at; those that the daemon lacks are absent from the view.
    fn columns(parameters: &Self::Parameters) -> Columns;

    /// Which slots should live where?
    ///
    /// # Errors
    /// [`Failure`] when there can be no answer to this view.
    fn plan(view: &View, parameters: &Self::Parameters, memory: &mut Self::Memory) -> Result<Proposal, Failure>;

    /// How many shards should there be? Asked after [`Policy::plan`], with the same view, of policies with the feature
    /// `scaling`.
    ///
    /// # Errors
    /// [`Failure`] when there can be no answer to this view.
    fn advise(view: &View, parameters: &Self::Parameters, memory: &mut Self::Memory) -> Result<Advice, Failure> {
        let _ = (view, parameters, memory);
        Err(Failure::NotReady("this policy gives no advice".to_owned()))
    }
}

/// What a policy would tell an autoscaler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Primaries that should own slots, at least 1.
    pub shards: u32,
    /// Indexes of nodes to empty and give back, best first; empty when growing.
    pub retire: Vec<u32>,
    /// Why, for people.
    pub reason: String,
}

/// Names of columns to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// By slot: `cpu-usec`, `bytes`, …
    pub slots: Vec<String>,
    /// By node: `memory-max`, `weight`, …
    pub nodes: Vec<String>,
}

/// A policy's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proposal {
    /// In order of preference.
    pub moves: Vec<Move>,
    /// One line for people, given even when there are no moves.
    pub summary: String,
    /// Numbers to export as metrics, at most 16.
    pub gauges: Vec<(String, f64)>,
}

/// Why there is no proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The parameters make no sense with this cluster.
    BadParameters(String),
    /// Too little is known yet.
    NotReady(String),
    /// A bug or an impossible situation.
    Internal(String),
}

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Short, of `a-z`, `0-9`, `-`, `_`, `.`.
    pub name: &'static str,
    /// The policy's own version.
    pub version: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Metrics without which it makes no sense: `slot/keys`.
    pub needs: Vec<&'static str>,
    /// JSON Schema of the parameters; empty if there are none.
    pub parameters_schema: String,
}

/// Reads parameters, and checks them.
///
/// # Errors
/// For people: which parameter, and what is accepted.
pub fn parse_parameters<P: Policy>(text: &str) -> Result<P::Parameters, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let written = P::expand(serde_json::from_str(text).map_err(|error| error.to_string())?)?;
    let parameters = serde_json::from_value(written).map_err(|error| error.to_string())?;
    P::check(&parameters)?;
    Ok(parameters)
}
