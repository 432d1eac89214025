//! Made-up clusters, the same every time: what a policy is tried on when there is no real one.

use std::collections::BTreeMap;

use crate::model::{
    Address, MetricInfo, MetricSource, NO_OWNER, NodeColumn, NodeId, Owners, Primary, SLOT_COUNT, Snapshot, Tag,
    resource,
};

/// A cluster of `nodes` primaries: slots dealt in equal ranges, load drawn from a fixed seed and hotter on some nodes.
///
/// # Panics
/// With more than 65535 nodes, which no cluster has.
#[must_use]
pub fn snapshot(nodes: usize) -> Snapshot {
    assert!(nodes <= usize::from(u16::MAX), "no cluster has that many nodes");
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // 53 bits are what a double holds.
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let owner = |slot: usize| if nodes == 0 { NO_OWNER } else { u32::try_from(slot * nodes / SLOT_COUNT).unwrap_or(0) };
    let owners: Vec<u32> = (0..SLOT_COUNT).map(owner).collect();
    // Every seventh node has the hottest slots, the ones after it less and less.
    let heat: Vec<f64> =
        owners.iter().map(|owner| random() / (1.0 + f64::from(owner % 7))).map(|heat| heat * 100.0).collect();
    let bytes: Vec<f64> = (0..SLOT_COUNT).map(|_| (random() * 1e6).floor()).collect();
    assemble(nodes, owners, &heat, &bytes)
}

/// The same cluster with every slot equally hot and large: a policy should be content with it.
#[must_use]
pub fn balanced(nodes: usize) -> Snapshot {
    let owners: Vec<u32> = (0..SLOT_COUNT).map(|slot| u32::try_from(slot * nodes / SLOT_COUNT).unwrap_or(0)).collect();
    assemble(nodes, owners, &[50.0; SLOT_COUNT], &[1e5; SLOT_COUNT])
}

fn assemble(nodes: usize, owners: Vec<u32>, heat: &[f64], bytes: &[f64]) -> Snapshot {
    let mut slot_columns = BTreeMap::new();
    let mut slot = |name: &str, values: Vec<f64>| slot_columns.insert(name.to_owned(), values.into());
    for (name, factor) in [(resource::CPU_USEC, 1.0), (resource::NET_IN, 80.0), (resource::NET_OUT, 400.0)] {
        let rates: Vec<f64> = heat.iter().map(|heat| heat * factor).collect();
        slot(&format!("{name}/variance"), rates.iter().map(|rate| rate * rate * 0.01).collect());
        slot(&format!("{name}/slow"), rates.clone());
        slot(name, rates);
    }
    slot(resource::BYTES, bytes.to_vec());
    slot(resource::KEYS, bytes.iter().map(|bytes| (bytes / 200.0).floor()).collect());

    let sums = |values: &[f64]| {
        let mut sums = vec![0.0; nodes];
        for (owner, value) in owners.iter().zip(values) {
            if let Some(sum) = sums.get_mut(*owner as usize) {
                *sum += value;
            }
        }
        sums
    };
    let (cpu, memory) = (sums(heat), sums(bytes));
    let node_columns = [
        (resource::CPU, cpu.iter().map(|usec| usec / 1e6).collect()),
        (resource::OPS, cpu.iter().map(|usec| usec / 10.0).collect()),
        (resource::NET_IN, cpu.iter().map(|usec| usec * 80.0).collect()),
        (resource::NET_OUT, cpu.iter().map(|usec| usec * 400.0).collect()),
        (resource::MEMORY_USED, memory),
        (resource::MEMORY_MAX, vec![64e9; nodes]),
        (resource::WEIGHT, vec![1.0; nodes]),
        (resource::REPLICAS, vec![1.0; nodes]),
        (resource::REPLICA_LAG, vec![0.0; nodes]),
        (resource::PROBE_USEC, vec![150.0; nodes]),
    ];
    let node_columns: BTreeMap<String, NodeColumn> =
        node_columns.into_iter().map(|(name, values)| (name.to_owned(), NodeColumn(values))).collect();
    let metric = |name: String| MetricInfo {
        name,
        unit: String::new(),
        help: "made up".to_owned(),
        source: MetricSource::Measured,
        confidence: 1.0,
    };
    let metrics = slot_columns.keys().map(|name| metric(format!("slot/{name}")));
    let metrics = metrics.chain(node_columns.keys().map(|name| metric(format!("node/{name}")))).collect();
    Snapshot {
        generation: 1,
        taken_at_ms: 1_700_000_000_000,
        window_s: 10,
        primaries: (0..nodes).map(primary).collect(),
        replicas: Vec::new(),
        owners: Owners::new(owners),
        slot_columns,
        node_columns,
        metrics,
        open_slots: Vec::new(),
        atomic_jobs: Vec::new(),
        in_flight: Vec::new(),
        errors: BTreeMap::new(),
        problems: Vec::new(),
    }
}

fn primary(place: usize) -> Primary {
    let id: NodeId = format!("{place:040x}").parse().expect("forty hexadecimal digits");
    Primary {
        id,
        address: Address::new(format!("10.0.{}.{}", place / 256, place % 256), 6379),
        hostname: None,
        version: "valkey 9.1.0".to_owned(),
        zone: format!("zone-{}", place % 3),
        tags: vec![Tag::Primary],
        config_epoch: place as u64 + 1,
    }
}
