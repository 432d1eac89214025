//! How settings are written back for people: passwords never, and what tells of users, hosts and paths marked as such.
//!
//! The marks stand at the fields of `file`, where a new key gets its own. A marked value is a table of one entry, whose
//! name no key can have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::json::json;
use crate::cluster::live::Url;
use crate::model::Address;
use crate::webhook;

/// In the place of a password.
pub(super) const HIDDEN: &str = "***";

/// What a value tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum About {
    /// Nothing that could not be pasted anywhere.
    #[default]
    Anything,
    /// A user.
    User,
    /// Hosts.
    Host,
    /// Hosts perhaps, or words that mean something to a policy.
    Words,
    /// A place in the file system.
    Path,
}

impl About {
    const fn mark(self) -> &'static str {
        match self {
            Self::Anything | Self::Words => "",
            Self::User => "\u{0}user",
            Self::Host => "\u{0}host",
            Self::Path => "\u{0}path",
        }
    }
}

/// The value under its mark, if this is one.
pub(super) fn unmarked(value: &Value) -> Option<(About, &Value)> {
    let table = value.as_object().filter(|table| table.len() == 1)?;
    [About::User, About::Host, About::Path].into_iter().find_map(|about| Some((about, table.get(about.mark())?)))
}

fn marked<T: Serialize, S: Serializer>(about: About, value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut table = serializer.serialize_map(Some(1))?;
    table.serialize_entry(about.mark(), value)?;
    table.end()
}

pub(super) fn secret<T, S: Serializer>(secret: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| HIDDEN).serialize(serializer)
}

pub(super) fn user<T: Serialize, S: Serializer>(user: &T, serializer: S) -> Result<S::Ok, S::Error> {
    marked(About::User, user, serializer)
}

pub(super) fn host<T: Serialize, S: Serializer>(host: &T, serializer: S) -> Result<S::Ok, S::Error> {
    marked(About::Host, host, serializer)
}

/// Of a receiver's URL the host alone: what follows may be a secret, as Slack's paths are.
pub(super) fn receiver<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    marked(About::Host, &webhook::shown(url).unwrap_or_else(|| HIDDEN.to_owned()), serializer)
}

/// Two hosts each.
pub(super) fn announced<S: Serializer>(map: &BTreeMap<Address, Address>, serializer: S) -> Result<S::Ok, S::Error> {
    let pairs: Vec<String> =
        map.iter().flat_map(|(announced, reached)| [announced, reached]).map(ToString::to_string).collect();
    marked(About::Host, &pairs, serializer)
}

pub(super) fn path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = path.as_ref().map(|path| path.display().to_string());
    marked(About::Path, &text, serializer)
}

/// Without the passwords that they may hold; one that is no URL may hold one anywhere.
pub(super) fn seeds<S: Serializer>(seeds: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |seed: &String| seed.parse::<Url>().map_or_else(|_| HIDDEN.to_owned(), |url| url.to_string());
    marked(About::Host, &seeds.iter().map(shown).collect::<Vec<_>>(), serializer)
}

/// As policies get them.
pub(super) fn parameters<S: Serializer>(parameters: &toml::Table, serializer: S) -> Result<S::Ok, S::Error> {
    json(toml::Value::Table(parameters.clone())).serialize(serializer)
}
