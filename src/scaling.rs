//! How many shards there should be, who goes when there are too many, and whether the rest can bear it.
//!
//! ```text
//!  a policy's advice, cycle by cycle ─→ Scaler: has it lasted? ─→ Due: more, one less, nothing and why
//!                                                                  └ one less: victims, each if rest_suffices
//! ```
//!
//! Pure: the daemon does what it says to a cluster, the simulator to a model of one.

mod room;
mod scaler;
mod settings;
mod victims;

pub(crate) use room::rest_suffices;
pub(crate) use scaler::{Due, Scaler};
pub use settings::{Follow, Scaling, Standby, Victim};
pub(crate) use victims::{ordinal, victims};
