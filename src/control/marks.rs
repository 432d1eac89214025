//! What the operator says about nodes, rule by rule, as what the collector wants to know about each node. Pure.

use std::collections::BTreeMap;

use crate::collector::{Mark, Marks};
use crate::config::NodeRule;
use crate::model::Snapshot;

/// What `rules` say about the primaries of `seen`, where later rules win. Rules that name one node by its whole id, address
/// or host also hold for nodes that were not seen yet; patterns hold from a node's second look on.
pub fn marks(rules: &[NodeRule], seen: Option<&Snapshot>) -> Marks {
    let mut marks = BTreeMap::new();
    for rule in rules {
        apply(rule, marks.entry(rule.pattern.clone()).or_default());
    }
    for primary in seen.iter().flat_map(|snapshot| &snapshot.primaries) {
        let of_node: &mut Mark = marks.entry(primary.id.to_string()).or_default();
        let matching = rules.iter().filter(|rule| rule.names(&primary.id, &primary.address));
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
