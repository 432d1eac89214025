//! New policies and configurations: takes what is good into use, and shows why the rest is not.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::command::Answer;
use super::super::keeper::key;
use super::super::restart;
use super::super::status::Reload;
use super::super::turn::Crew;
use super::{Control, Happening, Promotion, stale_after_ms};
use crate::clock::now_ms;
use crate::config::{self, ConfigError, Hours, Loaded};
use crate::model::PolicyId;
use crate::policy::{self, Policy as _, Source};
use crate::telemetry::chain;

impl Control {
    pub(super) fn take_policy(&mut self, reload: policy::Reload) {
        match reload {
            policy::Reload::Ready(policy) => {
                self.feed.is_live(&policy);
                match self.crew.take() {
                    Some(mut crew) => {
                        self.swap_policy(&mut crew, *policy);
                        self.crew = Some(crew);
                    }
                    None => self.waiting = Some(policy),
                }
            }
            policy::Reload::Rejected(failure) => {
                warn!(policy = %failure.policy, stage = %failure.stage, reason = %failure.reason, "policy refused; the one before goes on");
                let detail = failure.to_string();
                self.status.policy.reloaded(Reload { at_ms: now_ms(), accepted: false, detail });
                self.tell(Happening::PolicyRefused {
                    source: self.feed.source().to_string(),
                    why: failure.to_string(),
                });
            }
        }
    }

    pub(super) fn swap_policy(&mut self, crew: &mut Crew, policy: policy::LoadedPolicy) {
        let id = policy.id().clone();
        let source = policy.source().to_string();
        info!(policy = %id, source, "policy in use from the next cycle on");
        self.keep_policy(id.clone(), policy.source().clone());
        crew.deciders.replace(policy, self.config.policy.settings.on_failure);
        self.status.policy.id = Some(id.clone());
        self.status.policy.source.clone_from(&source);
        self.status.policy.standing_in = None;
        self.status.policy.failure = None;
        self.status.policy.faults_in_a_row = 0;
        self.status.policy.since_ms = Some(now_ms());
        self.status.policy.reloaded(Reload { at_ms: now_ms(), accepted: true, detail: id.to_string() });
        self.tell(Happening::PolicyLoaded { policy: id, source });
    }

    /// Keeps the policy's file, so that what it decides can be decided once more.
    fn keep_policy(&self, id: PolicyId, source: Source) {
        let (host, store) = (self.feed.host().clone(), self.keeper.store.clone());
        tokio::task::spawn_blocking(move || match host.file_of(&id, &source) {
            Some(file) => {
                if let Err(error) = store.keep_policy(&id.digest, &file, now_ms()) {
                    warn!(policy = %id, error = %chain(&error), "the history misses a policy's file");
                }
            }
            None => warn!(policy = %id, "the policy's file has changed already: its decisions cannot be repeated"),
        });
    }

    /// Lets a shadow decide in the configured policy's place, or that again.
    pub(super) fn promote(&mut self, shadow: Option<String>, who: String, why: String) -> Answer {
        let promotion = match &shadow {
            None if self.promotion.is_none() => {
                return Err("no shadow was promoted: the configured policy decides".into());
            }
            None => None,
            Some(name) => {
                let found = self.config.shadows.iter().find(|shadow| shadow.name == *name);
                let Some(found) = found else {
                    let known: Vec<&str> = self.config.shadows.iter().map(|shadow| shadow.name.as_str()).collect();
                    let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
                    return Err(format!("there is no shadow '{name}': {known}"));
                };
                Some(Promotion::of(found, &self.config.policy))
            }
        };
        self.keeper.put(key::PROMOTION, &promotion).map_err(|error| chain(&error))?;
        self.promotion = promotion;
        let (source, parameters) = Promotion::decides(self.promotion.as_ref(), &self.config.policy);
        info!(%source, who, why, "policy promoted: it decides once it is loaded and tried");
        let answer =
            format!("{source} decides as soon as it is loaded and tried; until then the policy before goes on");
        self.waiting = None;
        self.feed.turn_to(source, parameters);
        self.tell(Happening::Promoted { shadow, who, why });
        Ok(answer)
    }

    /// Takes another configuration, unless it only looks different from the one in use.
    pub(super) async fn config_changed(&mut self) {
        let Some(read) = self.read_config().await else { return };
        let fine = self.status.config.last_reload.as_ref().is_none_or(|reload| reload.accepted);
        let same = read.as_ref().is_ok_and(|loaded| loaded.config == *self.config);
        if !(fine && same) {
            drop(self.take_config(read).await);
        }
    }

    pub(super) async fn reload_config(&mut self) -> Answer {
        match self.read_config().await {
            Some(read) => self.take_config(read).await,
            None => Err("the daemon was started without a configuration file".to_owned()),
        }
    }

    async fn read_config(&self) -> Option<Result<Loaded, ConfigError>> {
        let path = self.config.path.clone()?;
        let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
        Some(read.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic())))
    }

    /// Takes what was read into use, or shows why not.
    async fn take_config(&mut self, read: Result<Loaded, ConfigError>) -> Answer {
        let answer = self.use_config(read).await;
        let (accepted, detail) = match &answer {
            Ok(detail) => (true, detail.clone()),
            Err(detail) => (false, detail.clone()),
        };
        self.status.config.last_reload = Some(Reload { at_ms: now_ms(), accepted, detail });
        answer
    }

    /// Takes a configuration into use, but for what only a start can change.
    async fn use_config(&mut self, read: Result<Loaded, ConfigError>) -> Answer {
        let Loaded { config: new, warnings, settings } = match read {
            Ok(loaded) => loaded,
            Err(refusal) => {
                let why = chain(&refusal);
                warn!(why, "configuration refused; the one before goes on");
                self.tell(Happening::ConfigRefused { why: why.clone() });
                return Err(why);
            }
        };
        for warning in warnings {
            warn!(warning, "configuration");
        }
        let before = std::mem::replace(&mut self.settings, settings);
        let changed = config::changed(&before, &self.settings);
        let old = self.config.clone();
        let (new, needs_restart) = restart::merge(&old, new);
        let before = self.mode().0;
        let interval = new.interval;
        self.config = Arc::new(new);
        if old.policy.source != self.config.policy.source || old.policy.parameters != self.config.policy.parameters {
            self.waiting = None;
            self.feed.turn_to(self.config.policy.source.clone(), self.config.policy.parameters.clone());
            // Whoever configures another policy means that one.
            if self.promotion.take().is_some()
                && let Err(error) = self.keeper.put(key::PROMOTION, &self.promotion)
            {
                warn!(error = %chain(&error), "a restart will not know that no shadow is promoted any more");
            }
        }
        if old.shadows != self.config.shadows {
            self.shadows.configure(self.config.shadows.clone()).await;
        }
        self.next_turn_at = self.next_turn_at.min(Instant::now() + interval);
        self.status.stale_after_ms = stale_after_ms(interval);
        self.status.config.needs_restart.clone_from(&needs_restart);
        self.drains_no_more();
        self.hours = Hours::of(&self.config.windows, now_ms());
        self.settle_mode(before, "configuration", false);
        let answer = in_use(&changed, &needs_restart);
        info!(changed = changed.join(", "), needs_restart = needs_restart.join(", "), "configuration in use");
        self.tell(Happening::ConfigLoaded { changed, needs_restart });
        Ok(answer)
    }
}

/// What came of a configuration, for people.
fn in_use(changed: &[String], needs_restart: &[String]) -> String {
    let changed = match changed {
        [] => "nothing of it changed".to_owned(),
        keys => format!("changed: {}", keys.join(", ")),
    };
    match needs_restart {
        [] => format!("configuration in use; {changed}"),
        keys => format!("configuration in use, except for what needs a restart: {}; {changed}", keys.join(", ")),
    }
}
