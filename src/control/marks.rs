//! What the operator says about nodes, rule by rule, as what the collector wants to know about each node. Pure.

use std::collections::BTreeMap;

use crate::collector::{Mark, Marks};
use crate::config::NodeRule;
use crate::model::{Address, NodeId, Snapshot};

/// What `rules` say about the primaries of `seen`, where later rules win. Rules that name one node by its whole id, address
/// or host also hold for nodes that were not seen yet; patterns hold from a node's second look on.
pub fn marks(rules: &[NodeRule], seen: Option<&Snapshot>) -> Marks {
    let mut marks = BTreeMap::new();
    for rule in rules {
        apply(rule, marks.entry(rule.pattern.clone()).or_default());
    }
    for primary in seen.iter().flat_map(|snapshot| &snapshot.primaries) {
        let of_node: &mut Mark = marks.entry(primary.id.to_string()).or_default();
        let matching = rules.iter().filter(|rule| matches(&rule.pattern, &primary.id, &primary.address));
        matching.for_each(|rule| apply(rule, of_node));
    }
    Marks(marks)
}

fn apply(rule: &NodeRule, mark: &mut Mark) {
    mark.draining |= rule.drain;
    mark.cordoned |= rule.cordon;
    mark.zone = rule.zone.clone().or(mark.zone.take());
    mark.weight = rule.weight.or(mark.weight);
    mark.memory = rule.memory.or(mark.memory);
}

/// Whether `pattern` means this node: its address, its host, its id or the beginning of that, with `*` for any text.
fn matches(pattern: &str, id: &NodeId, address: &Address) -> bool {
    let by_address = address.to_string();
    let names = [by_address.as_str(), address.host.as_str(), id.as_str()];
    /// Fewer digits of an id could be a host's name.
    const ID_DIGITS_MIN: usize = 8;
    names.iter().any(|name| glob(pattern, name)) || (pattern.len() >= ID_DIGITS_MIN && id.as_str().starts_with(pattern))
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
        for pattern in [
            "cache-3.eu.internal:6379",
            "cache-3.eu.internal",
            "*.eu.internal",
            "cache-*:6379",
            "*",
            "abcdef01",
            "abcdef01ab",
        ] {
            assert!(matches(pattern, &id, &address), "{pattern}");
        }
        for pattern in ["cache-3", "*.us.internal", "abc", "cache-*:6380", ""] {
            assert!(!matches(pattern, &id, &address), "{pattern}");
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
