//! The loop: one owner of state.
//!
//! Others ask by [`Handle`] and read [`Status`]; what happens goes out as [`Notice`]s. This module decides when to look,
//! whom to ask and whether to act; how to look, plan, review and move, others know. It knows no HTTP and no terminal.

mod alarm;
mod approval;
mod command;
mod conduct;
mod config_watch;
mod daemon;
mod deciders;
mod drains;
mod feed;
mod given;
mod keeper;
mod marks;
mod peers;
mod probes;
mod promise;
mod promotion;
mod restart;
mod scale;
mod shadows;
mod signals;
mod standby;
mod standing;
mod status;
mod supervisor;
mod terminable;
mod turn;

pub use approval::Waiting;
pub use command::{Answer, Command, Handle, Notice};
pub use daemon::{RunError, run};
pub use drains::{Drain, DrainStatus, DrainWish};
pub use given::Given;
pub use marks::marks;
pub use peers::LeaseStatus;
pub use scale::Scale;
pub use shadows::ShadowStatus;
pub use status::{
    Activity, Balance, ConfigStatus, CycleSummary, NodeRow, PolicyStatus, RefusalSummary, Reload, Status, Totals,
    WaitingStatus, node_rows,
};
pub use terminable::terminable;
