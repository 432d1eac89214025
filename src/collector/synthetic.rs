//! Made-up snapshots for tests and benchmarks: the same seed gives the same snapshot.
//!
//! They look like a healthy cluster that has been watched for a while: every slot owned, every column present, loads
//! skewed as real ones are. What a test wants different, it changes.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::{
    Address, Column, MetricInfo, MetricSource, NodeColumn, NodeId, Owners, Primary, Replica, SLOT_COUNT, Snapshot, Tag,
    resource,
};

/// A gibibyte.
const GIB: f64 = (1u64 << 30) as f64;

/// A cluster of `primaries` primaries with one replica each: slots in even ranges, as Redis deals them, under a
/// Zipf-like load whose hottest slots lie anywhere.
///
/// The mean primary uses half of a core and a quarter of its 16 GiB.
///
/// # Panics
/// When `primaries` is 0 or above [`SLOT_COUNT`].
#[must_use]
pub fn synthetic(primaries: usize, seed: u64) -> Snapshot {
    assert!((1..=SLOT_COUNT).contains(&primaries), "1 to {SLOT_COUNT} primaries");
    let mut random = StdRng::seed_from_u64(seed);
    let nodes: Vec<Primary> = (0..primaries).map(primary).collect();
    let owners: Vec<u32> = (0..SLOT_COUNT).map(|slot| (slot * primaries / SLOT_COUNT) as u32).collect();

    let cpu = shares(&mut random, 0.8).map(|share| share * 500_000.0 * primaries as f64);
    let keys = shares(&mut random, 0.1).map(|share| (share * 1_000_000.0 * primaries as f64).round());
    let bytes = shares(&mut random, 0.3).map(|share| share * 4.0 * GIB * primaries as f64);
    let (cpu, keys, bytes): (Vec<f64>, Vec<f64>, Vec<f64>) = (cpu.collect(), keys.collect(), bytes.collect());
    let net_in: Vec<f64> = cpu.iter().map(|usec| usec * 20.0).collect();
    let net_out: Vec<f64> = cpu.iter().map(|usec| usec * 50.0).collect();

    let by_node = |column: &[f64]| {
        let mut sums = vec![0.0; primaries];
        for (owner, value) in owners.iter().zip(column) {
            sums[*owner as usize] += value;
        }
        sums
    };
    let node_columns = BTreeMap::from(
        [
            (resource::CPU, by_node(&cpu).iter().map(|usec| usec / 1e6).collect()),
            (resource::OPS, by_node(&cpu).iter().map(|usec| usec / 10.0).collect()),
            (resource::NET_IN, by_node(&net_in)),
            (resource::NET_OUT, by_node(&net_out)),
            (resource::MEMORY_USED, by_node(&bytes)),
            (resource::MEMORY_MAX, vec![16.0 * GIB; primaries]),
            (resource::WEIGHT, vec![1.0; primaries]),
            (resource::REPLICAS, vec![1.0; primaries]),
            (resource::REPLICA_LAG, vec![0.0; primaries]),
            (resource::PROBE_USEC, vec![150.0; primaries]),
        ]
        .map(|(name, values): (&str, Vec<f64>)| (name.to_owned(), NodeColumn(values))),
    );

    let mut slot_columns: BTreeMap<String, Column> = BTreeMap::new();
    for (name, values) in [(resource::CPU_USEC, cpu), (resource::NET_IN, net_in), (resource::NET_OUT, net_out)] {
        // A tenth of the mean as standard deviation: a load that was watched for long.
        slot_columns.insert(format!("{name}/variance"), values.iter().map(|value| (value / 10.0).powi(2)).collect());
        slot_columns.insert(format!("{name}/slow"), values.clone().into());
        slot_columns.insert(name.to_owned(), values.into());
    }
    slot_columns.insert(resource::KEYS.to_owned(), keys.into());
    slot_columns.insert(resource::BYTES.to_owned(), bytes.into());

    let metrics = slot_columns.keys().map(|name| format!("slot/{name}"));
    let metrics = metrics.chain(node_columns.keys().map(|name| format!("node/{name}"))).map(metric).collect();
    Snapshot {
        generation: 1,
        taken_at_ms: 1_700_000_000_000,
        window_s: 60,
        replicas: (0..primaries).map(replica).collect(),
        primaries: nodes,
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

/// One share per slot, Zipf-like with this exponent, dealt to slots at random; they sum to 1.
fn shares(random: &mut StdRng, exponent: f64) -> impl Iterator<Item = f64> + use<> {
    let mut shares: Vec<f64> = (1..=SLOT_COUNT).map(|rank| (rank as f64).powf(-exponent)).collect();
    for place in (1..SLOT_COUNT).rev() {
        shares.swap(place, random.random_range(0..=place));
    }
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(move |share| share / sum)
}

fn id(number: usize) -> NodeId {
    format!("{number:040x}").parse().expect("forty hexadecimal digits")
}

/// Ports count up from 7000 on as many hosts as it takes.
fn address(number: usize) -> Address {
    Address::new(format!("10.0.{}.{}", number / 10_000, 1 + number / 100 % 100), 7000 + (number % 100) as u16)
}

fn primary(number: usize) -> Primary {
    Primary {
        id: id(number),
        address: address(number),
        hostname: None,
        version: "valkey 9.1.0".to_owned(),
        zone: ["a", "b", "c"][number % 3].to_owned(),
        tags: vec![Tag::Primary],
        config_epoch: number as u64 + 1,
    }
}

fn replica(number: usize) -> Replica {
    Replica {
        id: id(SLOT_COUNT + number),
        address: address(SLOT_COUNT + number),
        hostname: None,
        of: u32::try_from(number).ok(),
        online: true,
        version: "valkey 9.1.0".to_owned(),
    }
}

fn metric(name: String) -> MetricInfo {
    MetricInfo { name, unit: String::new(), help: String::new(), source: MetricSource::Measured, confidence: 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_snapshot_is_whole_and_repeatable() {
        let snapshot = synthetic(7, 42);
        assert_eq!(snapshot, synthetic(7, 42));
        assert_ne!(snapshot.slot_columns, synthetic(7, 43).slot_columns);
        assert!(snapshot.owners.as_slice().iter().all(|owner| (*owner as usize) < 7));
        for (name, column) in &snapshot.slot_columns {
            assert_eq!(column.len(), SLOT_COUNT, "{name}");
            assert!(column.iter().all(|value| value.is_finite() && *value >= 0.0), "{name}");
        }
        let cpu = snapshot.node_column(resource::CPU).expect("present");
        assert!((cpu.iter().sum::<f64>() / 7.0 - 0.5).abs() < 1e-9, "half of a core on average: {cpu:?}");
        assert!(snapshot.primaries.iter().map(|primary| &primary.id).is_sorted());
        assert_eq!(snapshot.blockers().count(), 0);
    }
}
