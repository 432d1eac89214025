//! The nouns: slots, nodes, snapshots, plans and reports, as every other module says them.
//!
//! Owned, printable, serialisable values over `std` and `serde`. Nothing here talks to a server,
//! reads a clock or knows how a value came to be.

mod migration;
mod mode;
mod plan;
mod report;
mod slot;
mod snapshot;
mod topology;
pub mod units;
mod verdict;

pub use migration::{MigrationReport, PaceReport, Protocol, Spent, Spread};
pub use mode::{Mode, Trigger};
pub use plan::{Move, Plan, PolicyId, ProposedMove};
pub use report::{CycleOutcome, CycleReport, Realised, ScalingReport, ShadowReport, Timings};
pub use slot::{InvalidSlot, SLOT_COUNT, SlotId, SlotSet};
pub(crate) use snapshot::means;
pub use snapshot::{
    AtomicJob, Column, MetricInfo, MetricSource, NO_OWNER, NoPrimary, NodeColumn, NodeIndex, Owners, Primary, Problem,
    Replica, Snapshot, SnapshotSummary, Tag, resource,
};
pub use topology::{
    Address, InvalidAddress, InvalidNodeId, LinkState, NodeId, NodeRecord, OpenDirection, OpenSlot, Role,
};
pub use verdict::{Prediction, Refusal, RefusalCheck};
