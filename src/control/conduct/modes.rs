//! What the daemon may do now, and why: by the configuration, by what people said, by the clock, by who leads.

use tracing::{error, info};

use super::super::keeper::key;
use super::{Control, Happening};
use crate::clock::now_ms;
use crate::config::Hours;
use crate::model::Mode;
use crate::telemetry::chain;

impl Control {
    pub(super) fn mode(&self) -> (Mode, String) {
        if let Some(why) = self.follows() {
            return (Mode::Follower, why);
        }
        let (mode, why) = match self.forced {
            None => self.standing.mode(self.config.mode),
            Some(forced) => self.standing.mode_with(forced, format!("it was started to do no more than {forced}")),
        };
        if mode.acts() && !self.hours.open { (Mode::DryRun, self.hours.why.clone()) } else { (mode, why) }
    }

    /// Sees whether slots may move at this hour.
    pub(super) fn look_at_clock(&mut self) {
        let hours = Hours::of(&self.config.windows, now_ms());
        if hours != self.hours {
            self.hours = hours;
            self.settle_mode(self.status.mode, "windows", false);
        }
    }

    /// Shows the mode, tells of its change from `before`, and stops migrations in a mode that forbids them.
    pub(super) fn settle_mode(&mut self, before: Mode, who: &str, always: bool) {
        self.settle_mode_as(before, who, "", always);
    }

    /// The same, with the reason that `who` gave besides the mode's own.
    pub(super) fn settle_mode_as(&mut self, before: Mode, who: &str, given: &str, always: bool) {
        let (mode, why) = self.mode();
        let changed = self.status.mode != mode || before != mode;
        self.status.mode = mode;
        self.status.mode_reason.clone_from(&why);
        self.show_drains();
        if !mode.acts()
            && let Some(running) = &self.running
        {
            running.stop.stop();
        }
        if changed || always {
            self.supervisor.says(&format!("mode {mode}: {why}"));
            match mode {
                Mode::Halted => error!(%mode, who, why, "mode changed"),
                _ => info!(%mode, who, why, "mode changed"),
            }
            let why = if given.is_empty() { why } else { format!("{given} ({why})") };
            self.tell(Happening::Mode { from: before, to: mode, who: who.to_owned(), why });
        }
    }

    /// Keeps what stands against the configured mode; what to add to an answer when that could not be.
    pub(super) fn keep_standing(&self) -> &'static str {
        match self.keeper.put(key::STANDING, &self.standing) {
            Ok(()) => "",
            Err(error) => {
                error!(error = %chain(&error), "a restart will not know of this mode");
                "; a restart will not know of it, since it cannot be kept (the log says why)"
            }
        }
    }
}
