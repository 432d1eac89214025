//! Every key with its value and where that comes from: the file, the environment, or nobody. Pure.
//!
//! The keys are those of the structs that read the file, written back: there is no list of them to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::Config;
use super::file::File;
use super::for_whom::HIDDEN;
use super::problem::{Overridden, Source};
use crate::cluster::live::Url;
use crate::marked::{About, unmarked};
use crate::policy;

/// One key of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// `limits.min_gain`, `node.0.weight`.
    pub key: String,
    /// Its value, as the file would say it; null when it has none.
    pub value: Value,
    /// Who said so.
    #[serde(flatten)]
    pub origin: Origin,
    /// What it tells of.
    #[serde(skip)]
    about: About,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File {
        /// On which line.
        line: usize,
    },
    /// The environment.
    Environment {
        /// Which variable.
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Environment { variable } => f.write_str(variable),
        }
    }
}

impl Setting {
    /// The value as people read it.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.value)
    }

    /// The same without users, hosts and paths, to be shown to others.
    #[must_use]
    pub fn redacted(self) -> Self {
        let value = redacted(self.about, &self.value);
        Self { value, ..self }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::Array(items) if items.is_empty() => "(none)".to_owned(),
        Value::Object(items) if items.is_empty() => "(none)".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The keys that have another value in one than in the other, or are in one of them only, in order.
#[must_use]
pub fn changed(before: &[Setting], after: &[Setting]) -> Vec<String> {
    let values = |settings: &[Setting]| -> BTreeMap<String, Value> {
        settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    };
    let (before, after) = (values(before), values(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// All keys of `file`, in the order of their names.
pub(super) fn every_key(file: &File, source: &Source<'_>, overridden: &Overridden) -> Vec<Setting> {
    let written = serde_json::to_value(file).expect("settings are made of tables, lists, texts and numbers");
    let mut settings = Vec::new();
    part(String::new(), &written, &mut settings);
    for setting in &mut settings {
        setting.origin = origin(&setting.key, source, overridden);
    }
    settings
}

/// Says what holds where nobody said anything and what holds is more than a default of one key.
pub(super) fn with_effective(mut settings: Vec<Setting>, config: &Config) -> Vec<Setting> {
    for setting in settings.iter_mut().filter(|setting| setting.value.is_null()) {
        match (setting.key.as_str(), &config.policy.source) {
            ("state.directory", _) => setting.value = config.state_dir.display().to_string().into(),
            ("policy.name", policy::Source::Embedded(name)) => setting.value = name.as_str().into(),
            _ => {}
        }
    }
    settings
}

fn part(key: String, value: &Value, settings: &mut Vec<Setting>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    let leaf =
        |about, value: &Value| Setting { key: key.clone(), value: value.clone(), origin: Origin::Default, about };
    match (unmarked(value), value) {
        (Some((about, value)), _) => settings.push(leaf(about, value)),
        (None, Value::Object(table)) if !table.is_empty() => {
            table.iter().for_each(|(name, value)| part(below(name), value, settings));
        }
        (None, Value::Array(list)) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(place, value)| part(below(&place.to_string()), value, settings));
        }
        _ => {
            // Whatever an author likes, addresses of nodes among it.
            let about = if key.contains("parameters.") { About::Words } else { About::Anything };
            settings.push(leaf(about, value));
        }
    }
}

/// A variable that sets the key, or a section that it is in, beats the file.
fn origin(key: &str, source: &Source<'_>, overridden: &Overridden) -> Origin {
    let ends = key.match_indices('.').map(|(end, _)| end).chain([key.len()]);
    let variable = ends.filter_map(|end| overridden.get(&key[..end])).next_back();
    match (variable, source.line_of(key)) {
        (Some(variable), _) => Origin::Environment { variable: variable.clone() },
        (None, Some(line)) => Origin::File { line },
        (None, None) => Origin::Default,
    }
}

fn redacted(about: About, value: &Value) -> Value {
    match (about, value) {
        (About::Anything, value) | (_, value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value.clone(),
        (_, Value::Array(items)) => items.iter().map(|item| redacted(about, item)).collect(),
        (_, Value::Object(table)) => table
            .iter()
            .map(|(name, value)| (name.clone(), redacted(about, value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        (About::User, Value::String(_)) => "<user>".into(),
        (About::Path, Value::String(_)) => "<path>".into(),
        (About::Words, Value::String(text)) if is_word(text) => text.as_str().into(),
        (About::Host | About::Words, Value::String(text)) => host(text).into(),
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte))
}

/// What is left of a text that names hosts: how one is reached.
fn host(text: &str) -> String {
    if [HIDDEN, "*", "off"].contains(&text) {
        return text.to_owned();
    }
    let Ok(Url { address, access }) = text.parse::<Url>() else { return "<host>".to_owned() };
    let scheme = text.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    let user = if access.user.is_some() { "<user>@" } else { "" };
    let local = address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let host = if local { address.host.as_str() } else { "<host>" };
    let port = format!(":{}", address.port);
    let port = if text.ends_with(&port) { port.as_str() } else { "" };
    format!("{scheme}{user}{host}{port}")
}
