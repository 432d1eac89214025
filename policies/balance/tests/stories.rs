//! What an operator sees of `balance`, natively.

use std::collections::BTreeMap;

use ballast_balance::{Balance, Memory, Parameters, plan};
use ballast_policy_kit::{Failure, Policy, Proposal, View, ViewNode, parse_parameters};

const SLOTS: usize = 16384;

/// Primaries over which the slots are dealt in ranges; cpu falls off like Zipf, bytes do not.
fn cluster(nodes: usize) -> View {
    let mut cpu = vec![0.0; SLOTS];
    for rank in 0..SLOTS {
        cpu[(rank * 6151) % SLOTS] = 20_000.0 / ((rank + 1) as f64).powf(0.8);
    }
    let bytes: Vec<f64> = (0..SLOTS).map(|slot| 2e4 + ((slot * 7919) % 10_000) as f64).collect();
    View {
        window_s: 2,
        nodes: (0..nodes).map(|node| ViewNode { address: format!("n{node}:7000"), ..ViewNode::default() }).collect(),
        owners: (0..SLOTS).map(|slot| u32::try_from(slot * nodes / SLOTS).expect("small")).collect(),
        slot_columns: BTreeMap::from([("cpu-usec".to_owned(), cpu.into()), ("bytes".to_owned(), bytes.into())]),
        ..View::default()
    }
}

fn answer(view: &View) -> Proposal {
    plan(view, &Parameters::default(), &mut Memory::default()).expect("a plan")
}

/// The view after the first `count` moves.
fn carry_out(view: &mut View, proposal: &Proposal, count: usize) {
    let mut owners = view.owners.to_vec();
    for step in proposal.moves.iter().take(count) {
        owners[usize::from(step.slot)] = step.target;
    }
    view.owners = owners.into();
}

fn imbalance(view: &View, column: &str) -> f64 {
    let mut sums = vec![0.0; view.nodes.len()];
    for (owner, value) in view.owners.iter().zip(view.slot_columns[column].iter()) {
        sums[*owner as usize] += value;
    }
    ballast_search::imbalance(&sums, &vec![1.0; sums.len()])
}

fn gauge(proposal: &Proposal, name: &str) -> f64 {
    proposal.gauges.iter().find(|(known, _)| known == name).expect("it is shown").1
}

#[test]
fn skewed_load_is_evened_and_said_in_one_line() {
    let mut view = cluster(3);
    // Everything hot is on the first node.
    view.owners = view.slot_columns["cpu-usec"]
        .iter()
        .zip(0_u32..)
        .map(|(cpu, slot)| if *cpu > 60.0 { 0 } else { slot % 3 })
        .collect();
    let before = imbalance(&view, "cpu-usec");
    let proposal = answer(&view);
    assert!((gauge(&proposal, "imbalance") - before).abs() < 1e-6 && before > 1.15, "{before}");
    assert!(proposal.summary.contains(&format!("cpu {before:.2} -> 1.05")), "{}", proposal.summary);
    carry_out(&mut view, &proposal, usize::MAX);
    assert!(imbalance(&view, "cpu-usec") <= 1.0501);
    assert!(answer(&view).moves.is_empty());
}

#[test]
fn a_plan_that_is_cut_in_slices_still_reaches_its_target() {
    let mut view = cluster(4);
    view.owners = view.owners.iter().map(|owner| owner % 3).collect();
    let mut memory = Memory::default();
    for _ in 0..200 {
        let proposal = plan(&view, &Parameters::default(), &mut memory).expect("a plan");
        if proposal.moves.is_empty() {
            break;
        }
        carry_out(&mut view, &proposal, 100);
    }
    assert!(!memory.converging, "it ends");
    assert!(imbalance(&view, "cpu-usec") < 1.10, "{}", imbalance(&view, "cpu-usec"));
}

#[test]
fn what_moved_rests_and_other_slots_go_in_its_place() {
    let mut view = cluster(3);
    view.owners = view.slot_columns["cpu-usec"]
        .iter()
        .zip(0_u32..)
        .map(|(cpu, slot)| if *cpu > 60.0 { 0 } else { slot % 3 })
        .collect();
    let parameters = Parameters { rest_cycles: 5, ..Parameters::default() };
    let mut memory = Memory::default();
    let first = plan(&view, &parameters, &mut memory).expect("a plan");
    carry_out(&mut view, &first, 10);
    let moved: Vec<u16> = first.moves.iter().take(10).map(|step| step.slot).collect();
    // All of a sudden these ten are the only load: nothing else could even it out.
    let cpu = (0..SLOTS).map(|slot| if moved.contains(&u16::try_from(slot).expect("a slot")) { 1e4 } else { 0.0 });
    view.slot_columns.insert("cpu-usec".to_owned(), cpu.collect());
    let ten: Vec<u32> = moved.iter().map(|slot| view.owners[usize::from(*slot)]).collect();
    assert!(imbalance(&view, "cpu-usec") > 1.15, "{ten:?}");
    let again = |generation: u64, memory: &mut Memory| {
        let view = View { generation, ..view.clone() };
        let moves = plan(&view, &parameters, memory).expect("a plan").moves;
        moves.iter().filter(|step| moved.contains(&step.slot)).count()
    };
    assert_eq!(again(1, &mut memory), 0, "they rest");
    assert_eq!(memory.moved.len(), 10, "what was done is known, what was not is forgotten");
    assert!(again(7, &mut memory) > 0, "they rested");
}

#[test]
fn a_giant_is_named_with_what_to_do() {
    let mut view = cluster(3);
    let mut cpu = view.slot_columns["cpu-usec"].to_vec();
    cpu[77] = 2e6;
    view.slot_columns.insert("cpu-usec".to_owned(), cpu.into());
    let proposal = answer(&view);
    assert!(
        proposal.summary.contains("slot 77 alone is") && proposal.summary.contains("split"),
        "{}",
        proposal.summary
    );
    assert!(proposal.moves.iter().all(|step| step.slot != 77));
    assert!((gauge(&proposal, "giants") - 1.0).abs() < 1e-9);
}

#[test]
fn an_idle_cluster_is_evened_by_memory() {
    let mut view = cluster(2);
    view.slot_columns.insert("cpu-usec".to_owned(), vec![0.0; SLOTS].into());
    view.owners = (0..SLOTS).map(|slot| u32::from(slot % 4 == 0)).collect();
    let proposal = answer(&view);
    assert!(proposal.summary.contains("memory 1.50 -> 1.0"), "{}", proposal.summary);
}

#[test]
fn nothing_is_known_before_the_second_look() {
    let view = View { window_s: 0, ..cluster(3) };
    let failure = plan(&view, &Parameters::default(), &mut Memory::default()).expect_err("no rates");
    assert!(matches!(failure, Failure::NotReady(_)));
}

#[test]
fn parameters_are_refused_by_name() {
    for (text, word) in [
        (r#"{"triger": 1.2}"#, "triger"),
        (r#"{"trigger": 1.01}"#, "cpu"),
        (r#"{"pinned": [16384]}"#, "16384"),
        (r#"{"resources": [{"name": "cpu", "weigt": 1}]}"#, "weigt"),
    ] {
        let error = parse_parameters::<Balance>(text).expect_err(text);
        assert!(error.contains(word), "{error}");
    }
    let parameters = parse_parameters::<Balance>(r#"{"trigger": 1.08, "target": 1.03}"#).expect("sound");
    assert_eq!(parameters.trigger, Some(1.08));
    assert_eq!(parse_parameters::<Balance>("{}"), Ok(Parameters::default()));
}

#[test]
fn the_schema_names_every_parameter() {
    let schema: serde_json::Value = serde_json::from_str(&Balance::describe().parameters_schema).expect("JSON");
    let written = serde_json::to_value(Parameters::default()).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let mut named = keys(&schema["properties"]);
    named.retain(|name| name != "preset");
    assert_eq!(named, keys(&written));
}

#[test]
fn a_preset_is_where_parameters_start_from() {
    let schema: serde_json::Value = serde_json::from_str(&Balance::describe().parameters_schema).expect("JSON");
    for preset in schema["properties"]["preset"]["enum"].as_array().expect("a list") {
        parse_parameters::<Balance>(&serde_json::json!({ "preset": preset }).to_string())
            .expect("every preset is sound");
    }
    let parsed = |text: &str| parse_parameters::<Balance>(text).expect(text);
    assert_eq!(parsed(r#"{"preset": "cpu-first"}"#), Parameters::default());
    assert_eq!(parsed(r#"{"preset": "memory-first"}"#).resources[0].name, "memory");
    let calm = parsed(r#"{"preset": "calm", "target": 1.2}"#);
    assert_eq!((calm.trigger, calm.target), (Some(1.3), Some(1.2)), "what is written counts more");
    let error = parse_parameters::<Balance>(r#"{"preset": "fast"}"#).expect_err("there is none");
    assert!(error.contains("fast") && error.contains("memory-first"), "{error}");
}

#[test]
fn a_veto_names_a_node_by_its_address() {
    let mut hot = cluster(3);
    hot.owners = (0..SLOTS).map(|slot| if slot < 9000 { 0 } else { 1 + (slot % 2) as u32 }).collect();
    let vetoes = (0..16384).map(|slot| (slot, "n1:7000".to_owned())).collect();
    let parameters = Parameters { vetoes, ..Parameters::default() };
    let proposal = plan(&hot, &parameters, &mut Memory::default()).expect("a plan");
    assert!(!proposal.moves.is_empty() && proposal.moves.iter().all(|step| step.target != 1), "{}", proposal.summary);
}

#[test]
fn every_gauge_has_a_name_that_the_daemon_accepts() {
    let proposal = answer(&cluster(3));
    assert!(proposal.gauges.len() <= 16);
    for (name, value) in &proposal.gauges {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(plain && value.is_finite(), "{name} {value}");
    }
}

/// Cpu alone, however little there is of it.
fn cpu_alone() -> Parameters {
    let cpu = ballast_search::ResourceGoal { idle: 0.0, ..ballast_search::ResourceGoal::named("cpu") };
    Parameters { resources: vec![cpu], use_empty: false, ..Parameters::default() }
}

#[test]
fn a_plan_waits_until_the_imbalance_has_cost_what_its_moves_cost() {
    // A hundredth of a core is uneven, and every slot holds 200 MB.
    let mut dear = cluster(3);
    dear.owners = (0..SLOTS).map(|slot| if slot < 9000 { 0 } else { 1 + (slot % 2) as u32 }).collect();
    let cpu: Vec<f64> = dear.slot_columns["cpu-usec"].iter().map(|cpu| cpu / 100.0).collect();
    dear.slot_columns.insert("cpu-usec".to_owned(), cpu.into());
    dear.slot_columns.insert("bytes".to_owned(), vec![2e8; SLOTS].into());
    let parameters = cpu_alone();
    let mut memory = Memory::default();
    let mut ask = |view: &View, parameters: &Parameters, hours: u64| {
        let view = View { taken_at_ms: 1 + hours * 3_600_000, ..view.clone() };
        plan(&view, parameters, &mut memory).expect("a plan")
    };
    let first = ask(&dear, &parameters, 0);
    assert!(first.moves.is_empty() && first.summary.contains("pays if this lasts"), "{}", first.summary);
    assert!(!ask(&dear, &Parameters { patience: 0.0, ..parameters.clone() }, 0).moves.is_empty(), "told not to wait");
    let mut draining = dear.clone();
    draining.nodes[2].tags.push("draining".to_owned());
    assert!(!ask(&draining, &parameters, 0).moves.is_empty(), "a drain waits for nothing");
}

#[test]
fn what_an_imbalance_has_cost_adds_up_from_view_to_view() {
    let mut uneven = cluster(3);
    uneven.owners = (0..SLOTS).map(|slot| if slot < 9000 { 0 } else { 1 + (slot % 2) as u32 }).collect();
    uneven.slot_columns.insert("bytes".to_owned(), vec![1e6; SLOTS].into());
    let parameters = cpu_alone();
    let mut memory = Memory::default();
    let mut waited = 0;
    for view in 0..1000_u64 {
        let at = View { taken_at_ms: 1 + view * 10_000, generation: view, ..uneven.clone() };
        if !plan(&at, &parameters, &mut memory).expect("a plan").moves.is_empty() {
            break;
        }
        waited += 1;
    }
    assert!((1..1000).contains(&waited), "{waited} views");
}
