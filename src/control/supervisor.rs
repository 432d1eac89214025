//! Tells whoever started the daemon that it works and still does, where that is asked for: sd_notify(3) of systemd.
//!
//! The only user of sd-notify. The loop itself says that it lives: a task of its own would go on saying so beside a loop that does not.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// Who wants to be told.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// How often a sign of life is given; absent where none is asked for.
    every: Option<Duration>,
    next_at: Instant,
}

impl Supervisor {
    /// What the environment says of it. Twice within the time after which we would be taken for dead.
    pub(super) fn of_environment() -> Self {
        Self { every: watchdog_enabled().map(|patience| patience / 2), next_at: Instant::now() }
    }

    /// The faces answer, and the loop turns.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// A line for `systemctl status`. Whoever gives a reason with a line break says nothing else by it.
    pub(super) fn says(&self, line: &str) {
        tell(&[NotifyState::Status(&line.replace(char::is_control, " "))]);
    }

    /// What is open is closed, and then the process ends.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// When it is time for a sign of life; never where none is asked for. Safe to drop half-way.
    pub(super) async fn is_due(&self) {
        match self.every {
            Some(_) => sleep_until(self.next_at).await,
            None => std::future::pending().await,
        }
    }

    /// Gives a sign of life.
    pub(super) fn lives(&mut self) {
        tell(&[NotifyState::Watchdog]);
        self.next_at = Instant::now() + self.every.unwrap_or_default();
    }
}

/// Nobody listens, mostly; and who does, and cannot be told, says so himself.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        debug!(%error, "whoever started the daemon cannot be told");
    }
}
