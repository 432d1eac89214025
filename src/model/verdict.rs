//! What the guard says of a plan: refusals with their reasons, and what the rest would do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A check of the guard, by the name that the configuration, logs and metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCheck {
    /// The cluster is healthy and all primaries agree.
    Health,
    /// The snapshot is young enough.
    Staleness,
    /// The plan answers this very snapshot.
    Generation,
    /// The move names a slot and a primary that exist, and moves something.
    Known,
    /// A slot moves at most once in a plan.
    OneOwner,
    /// The target accepts slots: not draining, cordoned, loading or suspect.
    Target,
    /// The slot is not open, nor in an atomic migration.
    OpenSlot,
    /// An open slot or a migration that is not ours stands in the cluster.
    Foreign,
    /// A node that nobody told us about owns slots.
    UnknownNode,
    /// The target has memory for it, with margin.
    Room,
    /// The source would own no slot, and is not draining.
    LastSlot,
    /// No more moves than allowed, per node and cycle.
    MoveCap,
    /// No more bytes than allowed, per node and cycle.
    ByteCap,
    /// The slot rested long enough since it last moved.
    CoolDown,
    /// The plan improves the balance enough to be worth it.
    MinimumGain,
    /// No more moves and bytes than allowed per hour.
    Churn,
}

impl RefusalCheck {
    /// Every check, in the order in which the guard applies them.
    pub const ALL: [Self; 16] = [
        Self::Health,
        Self::Staleness,
        Self::Generation,
        Self::Foreign,
        Self::UnknownNode,
        Self::Known,
        Self::OneOwner,
        Self::Target,
        Self::OpenSlot,
        Self::CoolDown,
        Self::LastSlot,
        Self::Room,
        Self::MoveCap,
        Self::ByteCap,
        Self::Churn,
        Self::MinimumGain,
    ];

    /// The check as logs, metrics and documentation write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Staleness => "staleness",
            Self::Generation => "generation",
            Self::Known => "known",
            Self::OneOwner => "one-owner",
            Self::Target => "target",
            Self::OpenSlot => "open-slot",
            Self::Foreign => "foreign",
            Self::UnknownNode => "unknown-node",
            Self::Room => "room",
            Self::LastSlot => "last-slot",
            Self::MoveCap => "move-cap",
            Self::ByteCap => "byte-cap",
            Self::CoolDown => "cool-down",
            Self::MinimumGain => "minimum-gain",
            Self::Churn => "churn",
        }
    }
}

impl fmt::Display for RefusalCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the guard held back moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which check.
    pub check: RefusalCheck,
    /// The slots that it held back; numbers as the policy gave them, for they may be no slots.
    pub slots: Vec<u16>,
    /// For people: what is the matter and, where there is one, what to do.
    pub reason: String,
}

/// What a policy's plan would do to one resource, by arithmetic over the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Largest utilisation ÷ mean over the primaries that count, as seen.
    pub imbalance_before: f64,
    /// The same after the approved moves.
    pub imbalance_after: f64,
    /// The least that any placement of these slots could reach.
    pub floor: f64,
}
