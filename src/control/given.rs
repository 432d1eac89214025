//! What a decision hung on besides what was seen: with the snapshot, enough to decide once more.

use serde::{Deserialize, Serialize};

use crate::guard::{Ledger, Limits};
use crate::policy::SavedState;

/// What the policy and the guard were told in one cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// SHA-256 of the policy's file, 64 hexadecimal digits.
    pub policy: String,
    /// Its parameters.
    pub parameters: String,
    /// What it remembered before it was asked.
    pub remembered: Option<SavedState>,
    /// By which limits the guard judged.
    pub limits: Limits,
    /// What the guard remembered.
    pub ledger: Ledger,
    /// When the guard judged: Unix time, milliseconds.
    pub reviewed_at_ms: u64,
}
