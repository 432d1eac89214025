//! Following the policy's advice about the number of shards: whom to empty, and whom to keep after all.

use tracing::info;

use super::super::drains::{BY_SCALING, Drain, DrainWish};
use super::super::turn::Fewer;
use super::{Control, Happening};
use crate::model::{CycleReport, Mode, NodeId};
use crate::scaling::victims;

impl Control {
    /// Does what the last cycle says about the number of shards, as far as it is about nodes that are in the cluster.
    pub(super) fn size(
        &mut self,
        report: &CycleReport,
        before: Option<&CycleReport>,
        fewer: Option<Fewer>,
        stay: bool,
    ) {
        let Some(scaling) = &report.scaling else { return };
        // Somebody may have said something else while slots moved.
        if !self.leads() || self.mode().0 != Mode::Auto {
            return;
        }
        if stay {
            self.keep_all(report, &scaling.reason);
        }
        let grows = |report: &CycleReport| report.scaling.as_ref().is_some_and(|scaling| scaling.growth > 0);
        if grows(report) && !before.is_some_and(grows) {
            let (shards, wanted, why) = (scaling.shards, scaling.wanted, scaling.reason.clone());
            self.tell(Happening::ScaleWanted { shards, wanted, why });
        }
        if let Some(fewer) = fewer {
            self.take_one_out(&fewer, scaling.shards, scaling.wanted);
        }
    }

    /// Lets nodes have slots again that were about to go.
    fn keep_all(&mut self, report: &CycleReport, why: &str) {
        // One that was seen empty may be about to be taken away: it goes, and another one comes. So does one that has just lost its
        // last slots, and may have become a replica by that.
        let Some(seen) = self.status.seen.clone() else { return };
        let lost = |id: &NodeId| {
            let moved = |slot| report.migrations.iter().any(|it| it.source == *id && it.moved.contains(slot));
            seen.index_of(id).is_some_and(|index| seen.slots_of(index).iter().all(moved))
        };
        let stays = |drain: &&Drain| !drain.emptied && !lost(&drain.id);
        let leaving: Vec<String> = self.drains.of(BY_SCALING).filter(stays).map(|drain| drain.id.to_string()).collect();
        for node in leaving {
            if let Err(error) = self.undrain(&node, BY_SCALING.to_owned(), why.to_owned()) {
                info!(node, error, "a node that was to be taken out goes all the same");
            }
        }
    }

    fn take_one_out(&mut self, fewer: &Fewer, shards: u32, wanted: u32) {
        // One after the other, whoever asked.
        if self.drains.any() {
            return;
        }
        let Some(seen) = self.status.seen.clone() else { return };
        let chosen = victims(self.config.scaling.victim, &fewer.retire, &seen);
        let refusal = match chosen {
            Err(why) => why,
            Ok(chosen) => {
                let mut refusal = String::new();
                for victim in chosen {
                    let (who, why) = (BY_SCALING.to_owned(), fewer.reason.clone());
                    match self.drain(DrainWish { node: victim.to_string(), forget: true, force: false, who, why }) {
                        Ok(_) => {
                            self.tell(Happening::ScaleWanted { shards, wanted, why: fewer.reason.clone() });
                            return;
                        }
                        // The next one may hold less.
                        Err(why) => refusal = why,
                    }
                }
                refusal
            }
        };
        info!(shards, wanted, refusal, "fewer shards would do, and no node is taken out");
    }
}
