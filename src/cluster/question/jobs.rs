//! Atomic slot migrations as servers report them: `CLUSTER GETSLOTMIGRATIONS` on Valkey 9,
//! `CLUSTER MIGRATION STATUS ALL` on Redis 8.4.

use super::{fields, single};
use crate::cluster::{Command, Question, Reply, ReplyError};
use crate::model::{NodeId, SlotSet};

/// Which server's words are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtomicProtocol {
    /// Valkey 9: the source is told `CLUSTER MIGRATESLOTS`.
    ValkeyMigrateSlots,
    /// Redis 8.4: the target is told `CLUSTER MIGRATION IMPORT`.
    RedisMigrationImport,
}

/// Every atomic migration that the node remembers, finished ones included; not those that a replica of Valkey tells of its primary, which
/// tells of them itself. (A target that was demoted amid an import may tell so for good.)
#[derive(Debug, Clone, Copy)]
pub struct AtomicJobs {
    /// In which words.
    pub protocol: AtomicProtocol,
}

/// Which end of a migration the asked node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOperation {
    /// The node gets the slots.
    Import,
    /// The node gives them.
    Export,
}

/// One atomic migration as one end reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// The server's name for it, the same at both ends.
    pub name: String,
    /// Which end reports.
    pub operation: JobOperation,
    /// The slots that it moves.
    pub slots: SlotSet,
    /// From.
    pub source: Option<NodeId>,
    /// To.
    pub target: Option<NodeId>,
    /// The server's word for its state.
    pub state: String,
    /// What went wrong, if anything did.
    pub message: String,
    /// When the server began it, Unix time in milliseconds, where it tells.
    pub created_at_ms: Option<u64>,
    /// Whether the server is done with it. An import that *failed* on Redis is not: it tries again until cancelled.
    pub finished: bool,
}

impl Question for AtomicJobs {
    type Answer = Vec<JobRecord>;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new(match self.protocol {
            AtomicProtocol::ValkeyMigrateSlots => "CLUSTER GETSLOTMIGRATIONS",
            AtomicProtocol::RedisMigrationImport => "CLUSTER MIGRATION STATUS ALL",
        })]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<JobRecord>, ReplyError> {
        let jobs = single(replies)?.list()?.into_iter().map(|entry| job(self.protocol, entry));
        jobs.filter(|job| !job.as_ref().is_ok_and(|job| job.state == ON_PRIMARY)).collect()
    }
}

/// The state of a job that a replica tells of.
const ON_PRIMARY: &str = "occurring-on-primary";

fn job(protocol: AtomicProtocol, entry: Reply) -> Result<JobRecord, ReplyError> {
    let mut job = JobRecord {
        name: String::new(),
        operation: JobOperation::Export,
        slots: SlotSet::default(),
        source: None,
        target: None,
        state: String::new(),
        message: String::new(),
        created_at_ms: None,
        finished: false,
    };
    for (name, value) in fields(entry)? {
        match name.as_str() {
            "name" | "id" => job.name = value.text()?,
            "operation" => {
                let word = value.text()?;
                let import = word.eq_ignore_ascii_case("import");
                job.operation = if import { JobOperation::Import } else { JobOperation::Export };
            }
            "slot_ranges" | "slots" => {
                let text = value.text()?;
                job.slots = text.parse().map_err(|_| Reply::Bytes(text.into()).unexpected("slot ranges"))?;
            }
            "source_node" | "source" => job.source = value.text()?.parse().ok(),
            "target_node" | "dest" => job.target = value.text()?.parse().ok(),
            "state" => job.state = value.text()?,
            "message" | "last_error" => job.message = value.text()?,
            // Valkey counts seconds, Redis milliseconds.
            "create_time" => {
                let unit = if protocol == AtomicProtocol::ValkeyMigrateSlots { 1000 } else { 1 };
                job.created_at_ms = u64::try_from(value.int()?).ok().map(|time| time * unit);
            }
            // Other times and sizes, which differ between the servers.
            _ => {}
        }
    }
    job.finished = match (protocol, job.state.as_str()) {
        (AtomicProtocol::ValkeyMigrateSlots, "success" | "failed" | "cancelled") => true,
        (AtomicProtocol::RedisMigrationImport, "completed" | "canceled") => true,
        (AtomicProtocol::RedisMigrationImport, "failed") => job.operation == JobOperation::Export,
        _ => false,
    };
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Reply {
        let text = |text: &str| Reply::Bytes(text.into());
        Reply::List(vec![Reply::List(fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect())])
    }

    fn read(protocol: AtomicProtocol, fields: &[(&str, &str)]) -> JobRecord {
        AtomicJobs { protocol }.read(vec![entry(fields)]).expect("readable").remove(0)
    }

    #[test]
    fn valkey_jobs_are_read() {
        let source = "a".repeat(40);
        let fields = [
            ("name", "0123"),
            ("operation", "EXPORT"),
            ("slot_ranges", "0-9 20-20"),
            ("source_node", source.as_str()),
            ("create_time", "1749"),
            ("state", "snapshotting"),
            ("message", ""),
        ];
        let job = read(AtomicProtocol::ValkeyMigrateSlots, &fields);
        assert_eq!((job.slots.len(), job.operation, job.finished), (11, JobOperation::Export, false));
        assert_eq!(job.source.map(String::from), Some(source));
        assert_eq!(job.created_at_ms, Some(1_749_000));
    }

    /// Found by the soak: a target that was demoted amid an import went on telling so, and nothing moved.
    #[test]
    fn what_a_replica_tells_of_its_primary_is_left_to_that_one() {
        let question = AtomicJobs { protocol: AtomicProtocol::ValkeyMigrateSlots };
        let told = |state| question.read(vec![entry(&[("name", "0123"), ("slot_ranges", "0-9"), ("state", state)])]);
        assert_eq!(told("occurring-on-primary"), Ok(Vec::new()));
        assert_eq!(told("waiting-to-pause").map(|jobs| jobs.len()), Ok(1));
    }

    #[test]
    fn a_failed_import_on_redis_is_not_finished_but_an_export_is() {
        let state = |operation, state| {
            read(
                AtomicProtocol::RedisMigrationImport,
                &[("id", "x"), ("slots", "5"), ("operation", operation), ("state", state)],
            )
            .finished
        };
        assert!(!state("import", "failed"), "it tries again every second");
        assert!(state("migrate", "failed"));
        assert!(state("import", "completed"));
        assert!(!state("import", "send-stream"));
    }
}
