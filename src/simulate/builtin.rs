//! The scenarios that the program carries.

use super::scenario::{Scenario, ScenarioError};

/// By name, in the order in which they are best read: what should change nothing first.
const SCENARIOS: &[(&str, &str)] = &[
    ("static", include_str!("../../scenarios/static.toml")),
    ("zipf", include_str!("../../scenarios/zipf.toml")),
    ("moving-hot-spot", include_str!("../../scenarios/moving-hot-spot.toml")),
    ("diurnal", include_str!("../../scenarios/diurnal.toml")),
    ("flash-crowd", include_str!("../../scenarios/flash-crowd.toml")),
    ("drift", include_str!("../../scenarios/drift.toml")),
    ("giant", include_str!("../../scenarios/giant.toml")),
    ("node-loss", include_str!("../../scenarios/node-loss.toml")),
    ("flip", include_str!("../../scenarios/flip.toml")),
    ("opposition", include_str!("../../scenarios/opposition.toml")),
    ("memory", include_str!("../../scenarios/memory.toml")),
    ("scale-out", include_str!("../../scenarios/scale-out.toml")),
    ("scale-in", include_str!("../../scenarios/scale-in.toml")),
    ("week", include_str!("../../scenarios/week.toml")),
    ("zones", include_str!("../../scenarios/zones.toml")),
];

/// The names of all built-in scenarios.
#[must_use]
pub fn builtin_names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

/// The built-in scenario called `name`, if there is one. That it cannot be read would be a bug of ours.
#[must_use]
pub fn builtin(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    let (name, text) = SCENARIOS.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::read(name, text))
}
