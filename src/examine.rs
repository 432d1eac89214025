//! Examines a cluster's health: asks every node, and names what is wrong and what to do about it.
//!
//! `listen` asks, and only asks: nothing is said to any server that changes it. What was heard is [`Evidence`]; all
//! else is pure: who owns a slot by what everybody says (`claim`), what an open slot looks like (`shape`), and the
//! [`Finding`]s. How to mend them is `repair`'s knowledge.

mod claim;
mod evidence;
mod finding;
mod listen;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod weigh;

pub use claim::Claim;
pub use evidence::{Evidence, Held, Party, Testimony};
pub use finding::{Finding, Severity};
pub use listen::{Audit, ExamineError, listen};
pub use shape::{Shape, shapes};
pub(crate) use weigh::astray;
pub use weigh::{STUCK_AFTER_MS, findings, is_stuck};
