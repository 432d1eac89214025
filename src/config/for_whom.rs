//! How settings are written back for people: passwords never, and what tells of users, hosts and paths marked as such. The marks
//! stand at the fields of `file`, where a new key gets its own.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::json::json;
use crate::cluster::live::Url;
use crate::marked::{About, marked};
pub(super) use crate::marked::{host, path, user};
use crate::model::Address;
use crate::webhook;

/// In the place of a password.
pub(super) const HIDDEN: &str = "***";

pub(super) fn secret<T, S: Serializer>(secret: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| HIDDEN).serialize(serializer)
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

/// Without the passwords that they may hold; one that is no URL may hold one anywhere.
pub(super) fn seeds<S: Serializer>(seeds: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |seed: &String| seed.parse::<Url>().map_or_else(|_| HIDDEN.to_owned(), |url| url.to_string());
    marked(About::Host, &seeds.iter().map(shown).collect::<Vec<_>>(), serializer)
}

/// As policies get them.
pub(super) fn parameters<S: Serializer>(parameters: &toml::Table, serializer: S) -> Result<S::Ok, S::Error> {
    json(toml::Value::Table(parameters.clone())).serialize(serializer)
}
