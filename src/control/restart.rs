//! What of a new configuration can be taken into use while running, and what waits for a restart. Pure.

use crate::config::Config;

/// `new`, with what only a start can change as it is in `old`; and the keys of that, as far as they differ.
pub(super) fn merge(old: &Config, mut new: Config) -> (Config, Vec<String>) {
    let mut waiting = Vec::new();
    // What these two say is decided turn by turn; the host's own settings are the rest.
    let mut policy_settings = old.policy.settings.clone();
    policy_settings.on_failure = new.policy.settings.on_failure;
    policy_settings.faults_before_fallback = new.policy.settings.faults_before_fallback;

    keep(&mut waiting, "cluster.name", &old.cluster.name, &mut new.cluster.name);
    keep(&mut waiting, "cluster (user, password, tls)", &old.cluster.access, &mut new.cluster.access);
    keep(&mut waiting, "cluster.connect_timeout", &old.cluster.connect_timeout, &mut new.cluster.connect_timeout);
    keep(&mut waiting, "cluster.announce_map", &old.cluster.announce_map, &mut new.cluster.announce_map);
    keep(&mut waiting, "webhook", &old.webhooks, &mut new.webhooks);
    keep(&mut waiting, "collect (but for interval)", &old.collector, &mut new.collector);
    keep(&mut waiting, "policy (bounds)", &policy_settings, &mut new.policy.settings);
    keep(&mut waiting, "http", &old.http, &mut new.http);
    keep(&mut waiting, "log.format", &old.log_format, &mut new.log_format);
    keep(&mut waiting, "log.level", &old.log_filter, &mut new.log_filter);
    keep(&mut waiting, "lease", &old.lease, &mut new.lease);
    keep(&mut waiting, "state.directory", &old.state_dir, &mut new.state_dir);
    (new, waiting)
}

fn keep<T: PartialEq + Clone>(waiting: &mut Vec<String>, key: &str, old: &T, new: &mut T) {
    if old != new {
        waiting.push(key.to_owned());
        new.clone_from(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named_and_stays_while_the_rest_is_taken() {
        let old = read("mode = 'dry-run'\n[cluster]\nseeds = ['127.0.0.1:7000']\nname = 'a'");
        let new = read("mode = 'auto'\n[cluster]\nseeds = ['127.0.0.1:7001']\nname = 'b'\n[collect]\ninterval = '3s'");
        let (merged, waiting) = merge(&old, new.clone());
        assert_eq!(waiting, ["cluster.name"]);
        assert_eq!(merged.cluster.name, "a");
        assert_eq!((merged.mode, merged.interval, merged.cluster.seeds), (new.mode, new.interval, new.cluster.seeds));
    }

    #[test]
    fn nothing_waits_when_nothing_differs() {
        let config = read("[cluster]\nseeds = ['127.0.0.1:7000']");
        assert_eq!(merge(&config, config.clone()), (config, Vec::new()));
    }

    fn read(text: &str) -> Config {
        crate::config::read(text, None, []).expect("a good configuration").config
    }
}
