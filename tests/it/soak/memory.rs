//! What a process holds in memory, second by second, and whether that is flat.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::interval;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks in a life that is judged, at least: in a shorter one caches still fill.
const JUDGED: usize = 60;

/// The last third of a life may hold so much more than the second one. A leak of a megabyte a minute is above it in every
/// life of more than a few minutes; the history's page cache and fragmentation are not.
const GROWTH: f64 = 1.2;

/// Looks at one process after the other, until dropped.
pub(super) struct Scale {
    lives: Arc<Mutex<Vec<Life>>>,
    looking: JoinHandle<()>,
}

/// One process, and its resident memory in KiB at each look.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    pid: u32,
    looks: Vec<u64>,
}

impl Scale {
    pub(super) fn begin() -> Self {
        let lives: Arc<Mutex<Vec<Life>>> = Arc::default();
        let seen = lives.clone();
        let looking = tokio::spawn(async move {
            let mut tick = interval(LOOK);
            loop {
                tick.tick().await;
                if let Some(life) = seen.lock().expect("no holder panics").last_mut() {
                    life.looks.extend(resident_kib(life.pid));
                }
            }
        });
        Self { lives, looking }
    }

    /// From now on this one.
    pub(super) fn weigh(&self, pid: u32) {
        self.lives.lock().expect("no holder panics").push(Life { pid, looks: Vec::new() });
    }

    pub(super) fn lives(&self) -> Vec<Life> {
        self.lives.lock().expect("no holder panics").clone()
    }
}

impl Drop for Scale {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// `None` for a process that is gone, or nothing but a name in the list of processes any more.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Life {
    pub(super) fn seconds(&self) -> usize {
        self.looks.len()
    }

    /// At first, half of the time, and at most, in MiB.
    pub(super) fn mib(&self) -> [f64; 3] {
        let at_most = self.looks.iter().copied().max().unwrap_or(0);
        let first = self.looks.first().copied().unwrap_or(0);
        [first, median(&self.looks), at_most].map(|kib| kib as f64 / 1024.0)
    }

    /// The median of the last third as a multiple of that of the second one; `None` in a life too short to tell.
    pub(super) fn growth(&self) -> Option<f64> {
        let third = self.looks.len() / 3;
        let (before, last) = (median(&self.looks[third..2 * third]), median(&self.looks[2 * third..]));
        (self.looks.len() >= JUDGED).then(|| last as f64 / before.max(1) as f64)
    }

    pub(super) fn is_flat(&self) -> bool {
        self.growth().is_none_or(|growth| growth <= GROWTH)
    }
}

fn median(looks: &[u64]) -> u64 {
    let mut sorted = looks.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_on_is_not_flat_and_what_fills_at_first_is() {
        let of = |looks: Vec<u64>| Life { pid: 1, looks };
        assert!(!of((0..120).map(|second| 50_000 + second * 500).collect()).is_flat(), "30 MiB a minute");
        assert!(of((0..120).map(|second| 90_000 - 40_000 / (second + 1)).collect()).is_flat(), "caches fill");
        assert!(of((0..50).map(|second| 1000 * second).collect()).is_flat(), "too short to tell");
    }

    #[test]
    fn the_memory_of_this_process_is_found() {
        assert!(resident_kib(std::process::id()) > Some(1000));
        assert_eq!(resident_kib(u32::MAX), None);
    }
}
