//! The planning library: which slots should live where, how good that is, and how good anything could be.
//!
//! ```text
//! View ─Problem::of(goals)→ Problem ─solve(goals)→ Solution { moves, report }
//!                              └──assess──→ imbalance and floor of each resource
//! ```
//!
//! Pure and deterministic: no clock, no randomness but a seed, no I/O; effort is bounded in units of work, not in
//! time, so that a replay repeats it. The daemon runs it natively for its guard, its command line and the `search`
//! import of policies; a Rust policy may link it instead and gets the same plan.
//!
//! It knows slots, nodes and numbers. It does not know servers or protocols; what a move costs beyond bytes, `worth` says.
//!
//! # Words
//! *Utilisation* is load ÷ capacity. *Imbalance* of a resource is the largest utilisation ÷ the mean utilisation (all
//! load ÷ all capacity) over the primaries that count: draining ones do not, cordoned ones do. *Floor* is a proven
//! lower bound of the imbalance that any placement of these slots could reach. *Excess* is imbalance ÷ floor: the headline.

// Heights, loads, limits and capacities are parallel vectors: an index is what says that they belong together.
#![allow(clippy::needless_range_loop)]

mod bytes;
mod covering;
mod exchange;
mod fill;
mod floor;
mod giants;
mod goals;
mod measure;
mod order;
mod placing;
mod problem;
mod relieve;
mod report;
mod search;
mod shapes;
mod state;
mod view;
mod wire;
mod worth;

pub use floor::{FloorCause, floor};
pub use goals::{Goals, ResourceGoal, Veto};
pub use measure::{Assessment, imbalance};
pub use problem::{Duty, MAX_RESOURCES, Node, Problem, ProblemError, Resource};
pub use report::{Giant, Report, ResourceReport, Solution, Stop};
pub use search::{excess, solve};
pub use view::{Move, NO_OWNER, View, ViewNode};
pub use wire::solve_json;
