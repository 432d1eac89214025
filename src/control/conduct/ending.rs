//! The end: what is open is closed first, unless somebody has no patience.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::super::RunError;
use super::super::signals::Signal;
use super::super::status::Activity;
use super::super::turn;
use super::{Control, Happening};
use crate::migration::Stop;

/// After the time in which open slots are settled, this is left for everything else before an ending daemon gives up.
const ENDING_SLACK: Duration = Duration::from_secs(30);

/// An end under way.
pub(super) struct Ending {
    pub(super) why: &'static str,
    pub(super) give_up_at: Instant,
}

impl Control {
    /// The first time, finish the step and close; the second time, stop at once.
    pub(super) fn end(&mut self, why: &'static str) -> Result<(), RunError> {
        if self.ending.is_some() {
            return Err(RunError::StoppedAtOnce);
        }
        info!(why, "ending: what is open is closed first; the same signal again stops at once");
        let settle = Duration::from_secs(self.config.migration.settle_deadline_s);
        self.ending = Some(Ending { why, give_up_at: Instant::now() + settle + ENDING_SLACK });
        self.status.activity = Activity::Stopping;
        self.supervisor.stopping();
        if let Some(running) = &self.running {
            running.stop.stop();
        }
        Ok(())
    }

    /// Closes what is open, and says that the end was in order.
    pub(super) async fn close(&mut self, why: &str) -> Result<(), RunError> {
        let Some(mut crew) = self.crew.take() else { return Ok(()) };
        let leads = self.leads();
        let orders = self.orders(Stop::never());
        let give_up_at = self.ending.as_ref().map_or_else(Instant::now, |ending| ending.give_up_at);
        let settled = tokio::select! {
            settled = turn::settle(&mut crew, &orders), if leads => settled,
            () = std::future::ready(()), if !leads => None,
            () = sleep_until(give_up_at) => return Err(RunError::NotClosed),
            Signal::End(_) = self.signals.next() => return Err(RunError::StoppedAtOnce),
        };
        // What this daemon left open when it led, whoever leads now has taken up; while nobody does, it may stand open.
        let led = self.peers.as_ref().is_some_and(|peers| peers.told().is_some());
        let closed = orders.journal.unfinished().is_ok_and(|unfinished| unfinished.is_empty());
        if settled.is_some_and(|recovery| !recovery.held.is_empty()) || !(closed || led) {
            return Err(RunError::NotClosed);
        }
        self.give_back().await;
        self.tell(Happening::Stopped { why: why.to_owned() });
        info!(why, "ended; no slot of ours is open");
        Ok(())
    }
}
