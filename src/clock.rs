//! The wall clock. Only shells read it; to everything that decides, time is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time, milliseconds, by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
