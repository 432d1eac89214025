//! Mode, configuration and policy, as metrics: what was loaded, and whether that went well.

use prometheus::{Counter, CounterVec, Gauge, GaugeVec};

use super::family::Families;
use crate::model::{Mode, PolicyId};
use crate::store::Event;

#[derive(Debug)]
pub(super) struct Loads {
    mode: GaugeVec,
    leader: Gauge,
    transitions: Counter,
    config_ok: Gauge,
    config_at: Gauge,
    policy: GaugeVec,
    policy_ok: Gauge,
    policy_at: Gauge,
    policy_reloads: CounterVec,
}

impl Loads {
    pub(super) fn new(process: &Families<'_>, cluster: &Families<'_>) -> Self {
        let loads = Self {
            mode: cluster.gauges("ballast_mode", "1 for the mode that the daemon is in, 0 for the others.", &["mode"]),
            leader: cluster.gauge(
                "ballast_leader",
                "1 while this daemon may act: it leads, or is the only one; 0 while another one does.",
            ),
            transitions: cluster
                .counter("ballast_leader_transitions_total", "Times that this daemon came to lead, or ceased to."),
            config_ok: process.gauge(
                "ballast_config_last_reload_successful",
                "Whether the configuration that was read last is in use.",
            ),
            config_at: process.gauge(
                "ballast_config_last_reload_success_timestamp_seconds",
                "When a configuration was last taken into use, Unix time.",
            ),
            policy: cluster.gauges(
                "ballast_policy_info",
                "The policy in use; always 1.",
                &["policy", "version", "digest"],
            ),
            policy_ok: cluster
                .gauge("ballast_policy_last_reload_successful", "Whether the policy that was loaded last is in use."),
            policy_at: cluster.gauge(
                "ballast_policy_last_reload_success_timestamp_seconds",
                "When a policy was last taken into use, Unix time.",
            ),
            policy_reloads: cluster.counters(
                "ballast_policy_reloads_total",
                "Policies that were loaded, by what became of them.",
                "result",
                ["success", "failure"],
            ),
        };
        loads.mode(None);
        loads
    }

    pub(super) fn observe(&self, at_ms: u64, event: &Event) {
        match event {
            Event::Mode { from, to, .. } => {
                self.mode(Some(*to));
                if (*from == Mode::Follower) != (*to == Mode::Follower) {
                    self.transitions.inc();
                }
            }
            Event::ConfigLoaded { .. } => loaded(&self.config_ok, &self.config_at, at_ms),
            Event::ConfigRefused { .. } => self.config_ok.set(0.0),
            Event::PolicyLoaded { policy, .. } => {
                self.policy_is(policy);
                self.policy_reloads.with_label_values(&["success"]).inc();
                loaded(&self.policy_ok, &self.policy_at, at_ms);
            }
            Event::PolicyRefused { .. } => {
                self.policy_reloads.with_label_values(&["failure"]).inc();
                self.policy_ok.set(0.0);
            }
            // What shadows do, cycles tell.
            Event::ShadowLoaded { .. } | Event::ShadowRefused { .. } | Event::Promoted { .. } => (),
            // What drains come to, nodes show.
            Event::ScaleWanted { .. } | Event::Introduced { .. } => (),
            Event::PlanWaits { .. } | Event::PlanApproved { .. } | Event::PlanDropped { .. } => (),
            Event::DrainBegun { .. } | Event::DrainEnded { .. } | Event::Emptied { .. } | Event::Left { .. } => (),
            Event::Started { .. }
            | Event::Stopped { .. }
            | Event::NodesAccepted { .. }
            | Event::Recovered { .. }
            | Event::Cancelled { .. }
            | Event::FlagsCleared { .. } => (),
        }
    }

    fn mode(&self, current: Option<Mode>) {
        for mode in Mode::ALL {
            self.mode.with_label_values(&[mode.as_str()]).set(f64::from(u8::from(Some(mode) == current)));
        }
        let leads = current.is_some_and(|mode| mode != Mode::Follower);
        self.leader.set(f64::from(u8::from(leads)));
    }

    /// One series at a time: the policy before goes away.
    fn policy_is(&self, policy: &PolicyId) {
        self.policy.reset();
        self.policy.with_label_values(&[&policy.name, &policy.version, &policy.digest]).set(1.0);
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 53 bits for the next 285,000 years")]
fn loaded(fine: &Gauge, at: &Gauge, at_ms: u64) {
    fine.set(1.0);
    at.set(at_ms as f64 / 1e3);
}
