//! The wall clock. Only shells read it; to everything that decides, time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time, milliseconds, by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in milliseconds as people read it, to the minute: `2026-11-28 14:05 UTC`.
#[must_use]
pub fn utc(at_ms: u64) -> String {
    // After the year 9999 there is nothing to plan for.
    const LATEST_MS: u64 = 253_402_300_799_000;
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(LATEST_MS));
    let text = humantime::format_rfc3339_seconds(at).to_string();
    format!("{} UTC", text[..16].replace('T', " "))
}
