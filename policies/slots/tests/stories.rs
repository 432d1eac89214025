//! What an operator sees of `slots`, natively.

use ballast_policy_kit::{Failure, Policy, Proposal, View, ViewNode, parse_parameters};
use ballast_slots::{Parameters, Slots, plan};

/// Primaries with so many slots each, in ranges.
fn cluster(counts: &[usize]) -> View {
    let owners = counts.iter().zip(0_u32..).flat_map(|(count, node)| std::iter::repeat_n(node, *count));
    let node = |node: usize| ViewNode { address: format!("n{node}:7000"), ..ViewNode::default() };
    View { nodes: (0..counts.len()).map(node).collect(), owners: owners.collect(), ..View::default() }
}

fn counts_after(view: &View, proposal: &Proposal) -> Vec<usize> {
    let mut owners = view.owners.to_vec();
    for step in &proposal.moves {
        assert_ne!(owners[usize::from(step.slot)], step.target, "a move that moves nothing");
        owners[usize::from(step.slot)] = step.target;
    }
    (0..view.nodes.len()).map(|node| owners.iter().filter(|owner| **owner as usize == node).count()).collect()
}

#[track_caller]
fn check(view: &View, parameters: &str, expected: &[usize]) {
    let parameters: Parameters = parse_parameters::<Slots>(parameters).expect("sound parameters");
    let proposal = plan(view, &parameters).expect("a plan");
    assert_eq!(counts_after(view, &proposal), expected, "{}", proposal.summary);
}

#[test]
fn an_empty_node_gets_its_share_by_default() {
    check(&cluster(&[5461, 5462, 5461, 0]), "{}", &[4096; 4]);
    check(&cluster(&[5461, 5462, 5461, 0]), r#"{"use-empty": false}"#, &[5461, 5462, 5461, 0]);
}

#[test]
fn within_the_threshold_nothing_moves_and_zero_is_exact() {
    check(&cluster(&[1010, 990]), "{}", &[1010, 990]);
    check(&cluster(&[1010, 990]), r#"{"threshold": 0}"#, &[1000, 1000]);
    check(&cluster(&[1001, 1000]), r#"{"threshold": 0}"#, &[1001, 1000]);
}

#[test]
fn weights_share_in_proportion_and_zero_empties_for_good() {
    check(&cluster(&[1000, 1000, 1000]), r#"{"weights": {"n0:7000": 2}}"#, &[1500, 750, 750]);
    check(&cluster(&[1000, 1000, 1000]), r#"{"weights": {"n0:7000": 0}}"#, &[0, 1500, 1500]);
    check(&cluster(&[0, 1500, 1501]), r#"{"weights": {"n0:7000": 0}, "threshold": 0}"#, &[0, 1500, 1501]);
}

#[test]
fn draining_nodes_are_emptied_first() {
    let mut view = cluster(&[1000, 1400, 600]);
    view.nodes[0].tags.push("draining".to_owned());
    check(&view, "{}", &[0, 1500, 1500]);
    let proposal = plan(&view, &Parameters::default()).expect("a plan");
    assert!(proposal.moves.iter().all(|step| step.slot < 1000));
}

#[test]
fn cordoned_and_unready_nodes_get_nothing() {
    let mut view = cluster(&[1200, 300, 0]);
    view.nodes[1].tags.push("cordoned".to_owned());
    check(&view, "{}", &[600, 300, 600]);
    view.nodes[0].tags.push("suspect".to_owned());
    check(&view, "{}", &[1200, 150, 150]);
}

#[test]
fn slots_move_in_contiguous_ranges() {
    let view = cluster(&[5461, 5462, 5461, 0]);
    let proposal = plan(&view, &Parameters::default()).expect("a plan");
    let gaps = proposal.moves.windows(2).filter(|pair| pair[1].slot != pair[0].slot + 1).count();
    assert_eq!(gaps, 2, "three donors, three ranges");
    assert!(
        proposal.moves[0].reason.contains("n1:7000 has 5462 slots for a share of 4096"),
        "{}",
        proposal.moves[0].reason
    );
}

#[test]
fn slots_in_flight_count_at_their_target_and_stay_out_of_the_plan() {
    let mut view = cluster(&[1200, 800]);
    view.in_flight =
        (1000..1200).map(|slot| ballast_policy_kit::Move { slot, target: 1, reason: String::new() }).collect();
    check(&view, r#"{"threshold": 0}"#, &[1200, 800]);
}

#[test]
fn what_is_shown_is_finite_even_beside_an_empty_node() {
    let proposal = plan(&cluster(&[1000, 0]), &Parameters::default()).expect("a plan");
    assert!(proposal.gauges.iter().all(|(_, value)| value.is_finite()), "{:?}", proposal.gauges);
}

#[test]
fn a_weight_for_nobody_is_refused() {
    let parameters = parse_parameters::<Slots>(r#"{"weights": {"n9:7000": 2}}"#).expect("well-formed");
    let failure = plan(&cluster(&[10, 10]), &parameters).expect_err("nobody is called so");
    assert!(matches!(failure, Failure::BadParameters(text) if text.contains("n9:7000")));
    assert!(parse_parameters::<Slots>(r#"{"threshold": -1}"#).is_err());
    assert!(parse_parameters::<Slots>(r#"{"threshold": 100}"#).is_err());
}

#[test]
fn the_schema_names_every_parameter() {
    let schema: serde_json::Value = serde_json::from_str(&Slots::describe().parameters_schema).expect("JSON");
    let written = serde_json::to_value(Parameters::default()).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&schema["properties"]), keys(&written));
}
