//! What was found, as values and as sentences. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::model::{Address, SlotId, SlotSet};

/// Findings of one kind that are named; the rest are only counted.
const NAMED: u64 = 20;

/// A key, as findings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyName {
    /// Its bytes, those that are no plain text written as `\x00`.
    pub key: String,
    /// In which database.
    pub database: u32,
    /// In which slot.
    pub slot: SlotId,
}

impl KeyName {
    pub(super) fn of(database: u32, key: &[u8]) -> Self {
        Self { key: key.escape_ascii().to_string(), database, slot: SlotId::of_key(key) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, database, slot } = self;
        if *database == 0 {
            write!(f, "{key} (slot {slot})")
        } else {
            write!(f, "{key} (slot {slot}, database {database})")
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// A primary could not be looked at.
    Silent {
        /// Which.
        node: Address,
        /// Why.
        reason: String,
    },
    /// Two primaries name different owners of slots.
    Disagreement {
        /// One.
        node: Address,
        /// The other.
        other: Address,
        /// Which slots.
        slots: SlotSet,
    },
    /// Nobody owns these slots.
    Uncovered {
        /// Which.
        slots: SlotSet,
    },
    /// A key is on the owner of its slot and on another primary.
    Duplicate {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
        /// The primary that should not have it.
        node: Address,
        /// The owner of its slot.
        owner: Address,
    },
    /// A key is only on a primary that does not own its slot: no client can reach it.
    Orphan {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
        /// The primary that has it.
        node: Address,
        /// The owner of its slot, if somebody owns it.
        owner: Option<Address>,
    },
    /// More keys than are kept in mind were on a primary that did not own their slots when it was scanned.
    Unexamined {
        /// The primary.
        node: Address,
        /// How many keys.
        keys: u64,
    },
    /// A primary has keys that it shows to nobody: Redis from 8.4 on hides those of slots that it does not own.
    Hidden {
        /// The primary.
        node: Address,
        /// How many keys.
        keys: u64,
    },
    /// A recorded key is gone.
    Missing {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
        /// Other databases that have a key of this name.
        found_in: Vec<u32>,
    },
    /// A recorded key has another value.
    Changed {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
    },
    /// A recorded key has another type.
    TypeChanged {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
        /// Its recorded type.
        was: String,
        /// Its type now.
        is: String,
    },
    /// A recorded key was to expire and is not any more.
    ExpiryLost {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
    },
    /// A recorded key expires at another time.
    ExpiryMoved {
        /// Which.
        #[serde(flatten)]
        name: KeyName,
        /// When it was to expire, Unix time in milliseconds, if it was.
        was_ms: Option<u64>,
        /// When it expires now.
        is_ms: u64,
    },
}

impl Finding {
    /// The word that stands for its kind, as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Silent { .. } => "silent",
            Self::Disagreement { .. } => "disagreement",
            Self::Uncovered { .. } => "uncovered",
            Self::Duplicate { .. } => "duplicate",
            Self::Orphan { .. } => "orphan",
            Self::Unexamined { .. } => "unexamined",
            Self::Hidden { .. } => "hidden",
            Self::Missing { .. } => "missing",
            Self::Changed { .. } => "changed",
            Self::TypeChanged { .. } => "type-changed",
            Self::ExpiryLost { .. } => "expiry-lost",
            Self::ExpiryMoved { .. } => "expiry-moved",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { node, reason } => write!(f, "{node} could not be looked at: {reason}"),
            Self::Disagreement { node, other, slots } => {
                write!(f, "{node} and {other} name other owners of slots {slots}")
            }
            Self::Uncovered { slots } => write!(f, "nobody owns slots {slots}"),
            Self::Duplicate { name, node, owner } => write!(f, "{name} is on its owner {owner} and on {node} too"),
            Self::Orphan { name, node, owner: Some(owner) } => {
                write!(f, "{name} is on {node} only; its owner is {owner}")
            }
            Self::Orphan { name, node, owner: None } => write!(f, "{name} is on {node}, and nobody owns its slot"),
            Self::Unexamined { node, keys } => {
                write!(f, "{node} had {keys} more keys of slots that it did not own; they were not looked at again")
            }
            Self::Hidden { node, keys } => {
                write!(f, "{node} has {keys} keys of slots that it does not own, and does not say which")
            }
            Self::Missing { name, found_in } if found_in.is_empty() => write!(f, "{name} is gone"),
            Self::Missing { name, found_in } => {
                write!(f, "{name} is gone; there is such a key in database {}", list(found_in))
            }
            Self::Changed { name } => write!(f, "{name} has another value"),
            Self::TypeChanged { name, was, is } => write!(f, "{name} was a {was} and is a {is}"),
            Self::ExpiryLost { name } => write!(f, "{name} was to expire and is not any more"),
            Self::ExpiryMoved { name, was_ms: Some(was), is_ms } => {
                let (sooner_or_later, by) = if is_ms < was { ("sooner", was - is_ms) } else { ("later", is_ms - was) };
                write!(f, "{name} expires {by} ms {sooner_or_later} than it was to")
            }
            Self::ExpiryMoved { name, was_ms: None, .. } => write!(f, "{name} expires and was not to"),
        }
    }
}

fn list(databases: &[u32]) -> String {
    databases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Keys on one primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeKeys {
    /// The primary.
    pub node: Address,
    /// Keys that it showed, in all databases. A key that was shown twice counts twice.
    pub keys: u64,
}

/// How recorded keys compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// As recorded.
    pub same: u64,
    /// Not as recorded: each has a finding or two.
    pub different: u64,
    /// Expired since, as they were to.
    pub expired: u64,
    /// There, but some of their fields have expired since, so that their values could not be compared.
    pub fields_expired: u64,
    /// Not in the record. Not exact while keys come and go.
    pub new: u64,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is amiss.
    pub clean: bool,
    /// Every primary that was looked at.
    pub nodes: Vec<NodeKeys>,
    /// Keys of open slots that were with the importing primary already, as they should be.
    pub under_way: u64,
    /// Keys that looked astray and did not any more when looked at again.
    pub moved_meanwhile: u64,
    /// Keys written to the record.
    pub recorded: Option<u64>,
    /// The comparison with a record.
    pub compared: Option<Compared>,
    /// How many findings there are of each kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first of each kind.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding: counted in any case, named if it is among the first of its kind.
    pub(super) fn find(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind()).or_default();
        *count += 1;
        if *count <= NAMED {
            self.findings.push(finding);
        }
    }

    /// Keys on all primaries.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.nodes.iter().map(|node| node.keys).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_findings_of_a_kind_are_counted_and_the_first_named() {
        let mut report = Report::default();
        for n in 0..100 {
            report.find(Finding::Changed { name: KeyName::of(0, format!("key-{n}").as_bytes()) });
        }
        report.find(Finding::Missing { name: KeyName::of(2, b"a\xff"), found_in: vec![0] });
        assert_eq!((report.counts["changed"], report.counts["missing"], report.findings.len()), (100, 1, 21));
        let last = report.findings.last().expect("named").to_string();
        assert_eq!(last, "a\\xff (slot 9963, database 2) is gone; there is such a key in database 0");
    }

    #[test]
    fn kinds_have_the_same_name_in_json() {
        let name = || KeyName::of(0, b"k");
        for finding in [
            Finding::TypeChanged { name: name(), was: "set".into(), is: "hash".into() },
            Finding::ExpiryMoved { name: name(), was_ms: Some(5000), is_ms: 3000 },
            Finding::Uncovered { slots: SlotSet::default() },
        ] {
            let json = serde_json::to_value(&finding).expect("serialises");
            assert_eq!(json["kind"], finding.kind());
        }
    }
}
