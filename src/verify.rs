//! Looks at every key of a cluster: is each on exactly one primary, the owner of its slot, and as it was recorded?
//!
//! Reads only. Memory does not grow with the cluster: of each primary one page of keys is in mind at a time, with at most
//! 256 values of 64 KiB or 128 elements each, and up to 10,000 keys that seem astray; a record is written and read as a
//! stream. A hash or a set takes 16 bytes for each of its elements while it is read.
//!
//! A cluster that moves slots meanwhile gives no false alarm about places. A value that clients write between a record and
//! its comparison does differ, and is told.

mod hidden;
mod map;
mod reach;
mod record;
mod report;
mod scan;
mod value;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::clock::now_ms;
use crate::cluster::{Cluster, LinkError, ReplyError};
use crate::model::{Address, Problem};
use map::Map;
use reach::{Name, Reach};
pub use record::RecordError;
use record::{Comparison, Difference, Entry, Record, Recorder, compare};
pub use report::{Compared, Finding, KeyName, NodeKeys, Report};

/// How long primaries may disagree about slots before that is told: gossip takes a second or two.
const AGREEMENT: Duration = Duration::from_secs(10);
/// Before something is looked at again.
const PAUSE: Duration = Duration::from_millis(200);
/// Recorded keys compared at once.
const CHUNK: usize = 1024;

/// What to do beside looking at every key's place.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// Nothing.
    Look,
    /// Write down what every key is like, to this file.
    Record(&'a Path),
    /// Compare every key of this file with what it is like now.
    Against(&'a Path),
}

/// What kept us from verifying.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nobody answers.
    #[error("no node answered: {}", .0.join("; "))]
    NoAnswer(Vec<String>),
    /// A node did not answer any more.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A node refused, or said something unexpected.
    #[error("{node}: {command}")]
    Refused {
        /// Which node.
        node: Address,
        /// What we said.
        command: String,
        /// What was wrong with the reply.
        #[source]
        cause: ReplyError,
    },
    /// A key could not be read.
    #[error("{node}: cannot read {key}")]
    Unreadable {
        /// Which node.
        node: Address,
        /// Which key.
        key: String,
        /// What the node said.
        #[source]
        cause: ReplyError,
    },
    /// A key could not be read in time.
    #[error("{key} could not be read in time: {why}")]
    Elusive {
        /// Which key.
        key: String,
        /// What was met last.
        why: String,
    },
    /// The record cannot be written or read.
    #[error("record")]
    Record(#[from] RecordError),
    /// The record would not be whole, so none was written.
    #[error("no record was written, for some primaries could not be looked at: {}", .0.join("; "))]
    Incomplete(Vec<String>),
}

/// Verifies the cluster that `seeds` belong to.
///
/// Dropped, it leaves nothing behind: a record is there when it is whole.
///
/// # Errors
/// [`VerifyError`] when nobody answers, a server does not let us read, or a record cannot be written or read. A primary
/// that does not answer is a finding, unless a record was wanted.
pub async fn verify(cluster: &dyn Cluster, seeds: &[Address], task: Task<'_>) -> Result<Report, VerifyError> {
    // Opened first, so that a slip of the keyboard is told before anything is done.
    let record = if let Task::Against(path) = task { Some(Record::open(path)?) } else { None };
    let recorder = if let Task::Record(path) = task { Some(Mutex::new(Recorder::create(path)?)) } else { None };

    let mut report = Report::default();
    let reach = Reach::new(cluster, agreed_map(cluster, seeds).await?);
    find_in_map(&reach.map(), &mut report);
    let databases = look_at_all(&reach, recorder.as_ref(), &mut report).await?;

    if let Some(recorder) = recorder {
        let silent = report.findings.iter().filter(|finding| matches!(finding, Finding::Silent { .. }));
        let silent: Vec<String> = silent.map(ToString::to_string).collect();
        if !silent.is_empty() {
            return Err(VerifyError::Incomplete(silent));
        }
        report.recorded = Some(recorder.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?);
    }
    if let Some(record) = record {
        compare_all(&reach, record, &databases, &mut report).await?;
    }
    report.clean = report.counts.is_empty();
    Ok(report)
}

/// The cluster, looked at until its primaries agree, or do not for long enough.
async fn agreed_map(cluster: &dyn Cluster, seeds: &[Address]) -> Result<Map, VerifyError> {
    let deadline = Instant::now() + AGREEMENT;
    loop {
        let map = Map::look(cluster, seeds).await.map_err(|silent| {
            VerifyError::NoAnswer(silent.into_iter().map(|(node, reason)| format!("{node}: {reason}")).collect())
        })?;
        if map.problems.is_empty() || Instant::now() > deadline {
            return Ok(map);
        }
        sleep(PAUSE).await;
    }
}

fn find_in_map(map: &Map, report: &mut Report) {
    for (node, reason) in &map.silent {
        report.find(Finding::Silent { node: node.clone(), reason: reason.clone() });
    }
    for problem in &map.problems {
        match problem.clone() {
            Problem::Disagreement { node, other, slots } => report.find(Finding::Disagreement { node, other, slots }),
            Problem::SlotsUncovered { slots } => report.find(Finding::Uncovered { slots }),
            _ => {}
        }
    }
}

/// Goes through all keys of all primaries at the same time. Returns the databases that have keys.
async fn look_at_all(
    reach: &Reach<'_>,
    recorder: Option<&Mutex<Recorder>>,
    report: &mut Report,
) -> Result<Vec<u32>, VerifyError> {
    let map = reach.map();
    let nodes = map.addresses().into_iter().filter(|node| !map.silent.contains_key(node));
    let looks = nodes.map(async |node| {
        let look = async {
            let mut scanned = scan::scan(reach, &node, recorder).await?;
            let settled = scan::settle(reach, &node, std::mem::take(&mut scanned.suspects)).await?;
            let hidden = hidden::hidden_keys(reach, &node).await?;
            Ok::<_, VerifyError>((scanned, settled, hidden))
        };
        let looked = look.await;
        (node, looked)
    });
    let mut databases = Vec::new();
    for (node, looked) in join_all(looks).await {
        let (scanned, settled, hidden) = match looked {
            Ok(looked) => looked,
            Err(VerifyError::Link(error)) => {
                report.find(Finding::Silent { node, reason: error.to_string() });
                continue;
            }
            Err(error) => return Err(error),
        };
        databases.extend(scanned.databases);
        report.under_way += settled.under_way;
        report.moved_meanwhile += settled.moved_meanwhile;
        settled.findings.into_iter().for_each(|finding| report.find(finding));
        if scanned.unexamined > 0 {
            report.find(Finding::Unexamined { node: node.clone(), keys: scanned.unexamined });
        }
        if hidden > 0 {
            report.find(Finding::Hidden { node: node.clone(), keys: hidden });
        }
        report.nodes.push(NodeKeys { node, keys: scanned.keys });
    }
    databases.sort_unstable();
    databases.dedup();
    Ok(databases)
}

/// Compares every key of `record`; what differs is read again before it is told.
async fn compare_all(
    reach: &Reach<'_>,
    mut record: Record,
    databases: &[u32],
    report: &mut Report,
) -> Result<(), VerifyError> {
    let mut compared = Compared::default();
    let mut present = 0;
    loop {
        let entries = record.take(CHUNK)?;
        if entries.is_empty() {
            break;
        }
        let mut suspects = Vec::new();
        for (entry, comparison, there) in compare_chunk(reach, entries).await? {
            present += u64::from(there);
            match comparison {
                Comparison::Same => compared.same += 1,
                Comparison::Expired => compared.expired += 1,
                Comparison::FieldsExpired => compared.fields_expired += 1,
                Comparison::Different(_) => suspects.push(entry),
            }
        }
        if suspects.is_empty() {
            continue;
        }
        sleep(PAUSE).await;
        reach.look_again().await;
        for (entry, comparison, _) in compare_chunk(reach, suspects).await? {
            let Comparison::Different(differences) = comparison else {
                compared.same += 1;
                continue;
            };
            compared.different += 1;
            for difference in differences {
                report.find(finding(reach, &entry, difference, databases).await?);
            }
        }
    }
    compared.new = report.keys().saturating_sub(present);
    report.compared = Some(compared);
    Ok(())
}

/// Each entry with what its comparison says, and whether the key is there.
async fn compare_chunk(reach: &Reach<'_>, entries: Vec<Entry>) -> Result<Vec<(Entry, Comparison, bool)>, VerifyError> {
    let names: Vec<Name> = entries.iter().map(|entry| (entry.database, entry.key.clone())).collect();
    let seen = reach.read(&names).await?;
    let now = now_ms();
    let compared = entries.into_iter().zip(seen).map(|(entry, seen)| {
        let comparison = compare(&entry.seen, seen.as_ref(), now);
        (entry, comparison, seen.is_some())
    });
    Ok(compared.collect())
}

async fn finding(
    reach: &Reach<'_>,
    entry: &Entry,
    difference: Difference,
    databases: &[u32],
) -> Result<Finding, VerifyError> {
    let name = KeyName::of(entry.database, &entry.key);
    Ok(match difference {
        Difference::Missing => {
            let others: Vec<u32> = databases.iter().copied().filter(|database| *database != entry.database).collect();
            let names: Vec<Name> = others.iter().map(|database| (*database, entry.key.clone())).collect();
            let seen = reach.read(&names).await?;
            let found_in = others.into_iter().zip(seen).filter(|(_, seen)| seen.is_some()).map(|(other, _)| other);
            Finding::Missing { name, found_in: found_in.collect() }
        }
        Difference::Kind { was, is } => Finding::TypeChanged { name, was, is },
        Difference::Value => Finding::Changed { name },
        Difference::ExpiryLost => Finding::ExpiryLost { name },
        Difference::ExpiryMoved { was, is } => Finding::ExpiryMoved { name, was_ms: was, is_ms: is },
    })
}
