//! What is said of nodes by name: sections `[[node]]`, and which nodes each means. Pure.

use serde::{Deserialize, Serialize};

use super::for_whom;
use crate::model::{Address, NodeId, units};

/// What the operator says about the nodes that `match` names: a `[[node]]` of the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRule {
    /// `host:port`, a host, a node id or its first digits; `*` stands for any text.
    #[serde(rename = "match", serialize_with = "for_whom::host")]
    pub pattern: String,
    /// Failure domain.
    #[serde(default)]
    pub zone: Option<String>,
    /// Capacity relative to other nodes, above 0.
    #[serde(default)]
    pub weight: Option<f64>,
    /// Bytes of memory that the node may use, where it has no `maxmemory`.
    #[serde(default, with = "units::some_size")]
    pub memory: Option<u64>,
    /// Empty it.
    #[serde(default)]
    pub drain: bool,
    /// Give it nothing more.
    #[serde(default)]
    pub cordon: bool,
}

impl NodeRule {
    /// A rule that says nothing yet about what `pattern` means.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        let pattern = pattern.to_owned();
        Self { pattern, zone: None, weight: None, memory: None, drain: false, cordon: false }
    }

    /// Whether it means this node: its address, its host, its id or the beginning of that, with `*` for any text.
    #[must_use]
    pub fn names(&self, id: &NodeId, address: &Address) -> bool {
        let (pattern, by_address) = (self.pattern.as_str(), address.to_string());
        let names = [by_address.as_str(), address.host.as_str(), id.as_str()];
        /// Fewer digits of an id could be a host's name.
        const ID_DIGITS_MIN: usize = 8;
        names.iter().any(|name| glob(pattern, name))
            || (pattern.len() >= ID_DIGITS_MIN && id.as_str().starts_with(pattern))
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices().map(|(start, _)| start).chain([text.len()]).any(|start| glob(rest, &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_nodes_by_address_host_or_id() {
        let id: NodeId = "abcdef01".repeat(5).parse().expect("node id");
        let address = Address::new("cache-3.eu.internal", 6379);
        let means = |pattern: &str| NodeRule::of(pattern).names(&id, &address);
        for pattern in [
            "cache-3.eu.internal:6379",
            "cache-3.eu.internal",
            "*.eu.internal",
            "cache-*:6379",
            "*",
            "abcdef01",
            "abcdef01ab",
        ] {
            assert!(means(pattern), "{pattern}");
        }
        for pattern in ["cache-3", "*.us.internal", "abc", "cache-*:6380", ""] {
            assert!(!means(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_star_matches_any_text_even_none() {
        for (pattern, text, expected) in
            [("a*c", "abc", true), ("a*c", "ac", true), ("a*c*", "abcd", true), ("a*c", "abd", false), ("**", "", true)]
        {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
