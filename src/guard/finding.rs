//! Why one move was held back, as a small value: a plan of many refused moves makes few sentences.

use super::Scene;
use crate::model::{NodeIndex, RefusalCheck, Tag, units};

/// What a check found. Ordered as the guard applies the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finding {
    NoSuchSlot,
    NoSuchTarget,
    NoOwner,
    AlreadyThere,
    MovesTwice,
    TooManyMoves { excess: usize },
    Unwilling { target: NodeIndex, tag: Tag },
    Busy,
    SlotRests,
    PairRests { from: NodeIndex, to: NodeIndex },
    LastSlot { from: NodeIndex },
    NoRoom { target: NodeIndex },
    UnknownRoom { target: NodeIndex },
    UnknownSize { target: NodeIndex },
    CycleMoves,
    NodeMoves { node: NodeIndex },
    CycleBytes,
    NodeBytes { node: NodeIndex },
    HourMoves,
    HourBytes,
    DayMoves,
    DayBytes,
    SmallGain,
}

impl Finding {
    pub(super) const fn check(self) -> RefusalCheck {
        match self {
            Self::NoSuchSlot | Self::NoSuchTarget | Self::NoOwner | Self::AlreadyThere => RefusalCheck::Known,
            Self::MovesTwice | Self::TooManyMoves { .. } => RefusalCheck::OneOwner,
            Self::Unwilling { .. } => RefusalCheck::Target,
            Self::Busy => RefusalCheck::OpenSlot,
            Self::SlotRests | Self::PairRests { .. } => RefusalCheck::CoolDown,
            Self::LastSlot { .. } => RefusalCheck::LastSlot,
            Self::NoRoom { .. } | Self::UnknownRoom { .. } | Self::UnknownSize { .. } => RefusalCheck::Room,
            Self::CycleMoves | Self::NodeMoves { .. } => RefusalCheck::MoveCap,
            Self::CycleBytes | Self::NodeBytes { .. } => RefusalCheck::ByteCap,
            Self::HourMoves | Self::HourBytes | Self::DayMoves | Self::DayBytes => RefusalCheck::Churn,
            Self::SmallGain => RefusalCheck::MinimumGain,
        }
    }

    /// The finding for people: what is the matter and, where there is one, which key decides.
    pub(super) fn reason(self, scene: &Scene<'_>) -> String {
        let limits = scene.limits;
        let name = |node: NodeIndex| &scene.snapshot.primaries[node as usize].address;
        match self {
            Self::NoSuchSlot => "the policy named slots that do not exist; slots are 0 to 16383".into(),
            Self::NoSuchTarget => {
                format!("the policy named a target that does not exist; there are {}", scene.snapshot.primaries.len())
            }
            Self::NoOwner => "nobody serves these slots, so nobody can hand them over".into(),
            Self::AlreadyThere => "the target owns these slots already".into(),
            Self::MovesTwice => "the plan moves these slots more than once; the first move counts".into(),
            Self::TooManyMoves { excess } => {
                format!(
                    "a plan moves each slot at most once, so it needs at most 16384 moves; {excess} more were left out"
                )
            }
            Self::Unwilling { target, tag } => format!("{} accepts no slots: it is {}", name(target), tag.as_str()),
            Self::Busy => "these slots are being moved already".into(),
            Self::SlotRests => format!(
                "these slots moved less than {} ago (limits.slot_cool_down)",
                humantime::format_duration(limits.slot_cool_down)
            ),
            Self::PairRests { from, to } => format!(
                "a migration from {} to {} failed less than {} ago (limits.pair_cool_down)",
                name(from),
                name(to),
                humantime::format_duration(limits.pair_cool_down)
            ),
            Self::LastSlot { from } => format!(
                "{} is not draining and must keep {} slots (limits.min_slots); mark it as draining to empty it",
                name(from),
                limits.min_slots
            ),
            Self::NoRoom { target } => format!(
                "{} has no memory for them with {:.0}% to spare (limits.memory_margin)",
                name(target),
                limits.memory_margin * 100.0
            ),
            Self::UnknownRoom { target } => format!(
                "how much memory {} has free is not known; set its maxmemory, or memory in [[node]], or \
                 limits.unknown_memory = \"allow\"",
                name(target)
            ),
            Self::UnknownSize { target } => {
                format!(
                    "how large these slots are is not known, so whether {} has room for them is not either",
                    name(target)
                )
            }
            Self::CycleMoves => {
                format!("{} slots move in this cycle already (limits.max_moves_per_cycle)", limits.max_moves_per_cycle)
            }
            Self::NodeMoves { node } => format!(
                "{} slots leave or enter {} in this cycle already (limits.max_moves_per_node)",
                limits.max_moves_per_node,
                name(node)
            ),
            Self::CycleBytes => format!(
                "more than {} would move in this cycle (limits.max_bytes_per_cycle)",
                units::size::format(limits.max_bytes_per_cycle)
            ),
            Self::NodeBytes { node } => format!(
                "more than {} would leave or enter {} in this cycle (limits.max_bytes_per_node)",
                units::size::format(limits.max_bytes_per_node),
                name(node)
            ),
            Self::DayMoves => {
                format!("{} slots in one day are enough (limits.max_moves_per_day)", limits.max_moves_per_day)
            }
            Self::DayBytes => format!(
                "{} in one day are enough (limits.max_bytes_per_day)",
                units::size::format(limits.max_bytes_per_day)
            ),
            Self::HourMoves => {
                format!("{} slots in one hour are enough (limits.max_moves_per_hour)", limits.max_moves_per_hour)
            }
            Self::HourBytes => format!(
                "{} in one hour are enough (limits.max_bytes_per_hour)",
                units::size::format(limits.max_bytes_per_hour)
            ),
            Self::SmallGain => format!(
                "no resource's imbalance would fall by {} or more (limits.min_gain): not worth the move",
                limits.min_gain
            ),
        }
    }
}
