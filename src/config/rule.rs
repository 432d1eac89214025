//! Which nodes a `[[node]]` means. Pure.

use super::NodeRule;
use crate::model::{Address, NodeId};

impl NodeRule {
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
        let means = |pattern: &str| {
            let rule = NodeRule {
                pattern: pattern.to_owned(),
                zone: None,
                weight: None,
                memory: None,
                drain: false,
                cordon: false,
            };
            rule.names(&id, &address)
        };
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
