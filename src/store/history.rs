//! The history: one report per cycle, full snapshots where something was decided, and events in between.

use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Event, Store, StoreError, failed, integer};
use crate::model::{CycleReport, Snapshot};

/// How much history is kept; the oldest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Reports and events of this many milliseconds.
    pub age_ms: u64,
    /// At most this many reports, and as many events.
    pub reports: u64,
    /// At most this many full snapshots.
    pub snapshots: u64,
    /// At most this many bytes of all that, the files of the two newest policies aside.
    pub bytes: u64,
}

impl Default for Retention {
    /// A month of reports at the default interval would be 260,000 of a few kilobytes; 50,000 are six days and some
    /// 200 MB at most. A full snapshot is about a megabyte: 100 of them show what was decided in a whole rebalance.
    fn default() -> Self {
        Self { age_ms: 30 * 24 * 3_600_000, reports: 50_000, snapshots: 100, bytes: 1 << 30 }
    }
}

/// What a cycle decided by, all of it: enough to decide once more.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a, G> {
    /// What was seen.
    pub snapshot: &'a Snapshot,
    /// What else it hung on.
    pub given: &'a G,
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Counts events since the state directory was made.
    #[serde(default)]
    pub id: u64,
    /// Unix time, milliseconds.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Store {
    /// The number of the next cycle: one more than the last one kept, 1 at first.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn next_cycle(&self) -> Result<u64, StoreError> {
        self.connection()
            .query_row("SELECT coalesce(max(cycle), 0) + 1 FROM cycles", [], |row| row.get::<_, i64>(0))
            .map(|next| u64::try_from(next).unwrap_or(1))
            .map_err(failed("count cycles"))
    }

    /// Keeps a report, with what it was decided by where that is given, and drops what `retention` no longer covers.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; nothing of it is kept then.
    pub fn keep_cycle<G: Serialize>(
        &self,
        report: &CycleReport,
        basis: Option<Basis<'_, G>>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep a cycle's report";
        let text = serde_json::to_string(report).map_err(failed(DOING))?;
        let written =
            |basis: Basis<'_, G>| Ok((serde_json::to_string(basis.snapshot)?, serde_json::to_string(basis.given)?));
        let basis = basis.map(written).transpose().map_err(failed::<serde_json::Error>(DOING))?;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed(DOING))?;
        transaction
            .execute(
                "INSERT INTO cycles (cycle, started_at_ms, moved, report) VALUES (?1, ?2, ?3, ?4)",
                params![integer(report.cycle), integer(report.started_at_ms), !report.migrations.is_empty(), text],
            )
            .map_err(failed(DOING))?;
        if let Some((snapshot, given)) = basis {
            transaction
                .execute(
                    "INSERT INTO snapshots (cycle, snapshot, given) VALUES (?1, ?2, ?3)",
                    params![integer(report.cycle), snapshot, given],
                )
                .map_err(failed(DOING))?;
        }
        drop_old(&transaction, report, retention).map_err(failed("drop old history"))?;
        transaction.commit().map_err(failed(DOING))
    }

    /// The newest `limit` reports, newest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn cycles(&self, limit: usize) -> Result<Vec<CycleReport>, StoreError> {
        self.cycles_before(u64::MAX, limit)
    }

    /// The newest `limit` reports of cycles before that one, newest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn cycles_before(&self, cycle: u64, limit: usize) -> Result<Vec<CycleReport>, StoreError> {
        let mut reports = Vec::new();
        self.each_cycle_before(cycle, limit, |report| reports.push(report))?;
        Ok(reports)
    }

    /// Shows the same one after the other: a thousand of a busy cluster are a hundred megabytes together.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read; those before it were shown.
    pub fn each_cycle_before(&self, cycle: u64, limit: usize, show: impl FnMut(CycleReport)) -> Result<(), StoreError> {
        let query = format!("SELECT report FROM cycles WHERE cycle < ?1 ORDER BY cycle DESC LIMIT {}", integer(limit));
        self.each_report(&query, integer(cycle), show)
    }

    /// The reports of the cycles after that one, oldest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn cycles_after(&self, cycle: u64, limit: usize) -> Result<Vec<CycleReport>, StoreError> {
        let query = format!("SELECT report FROM cycles WHERE cycle > ?1 ORDER BY cycle LIMIT {}", integer(limit));
        self.reports(&query, integer(cycle))
    }

    /// The reports of cycles that moved slots and began at `since_ms` or later, oldest first: what hourly budgets and
    /// cool-downs are rebuilt from.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn cycles_that_moved_since(&self, since_ms: u64) -> Result<Vec<CycleReport>, StoreError> {
        let mut reports = Vec::new();
        self.each_cycle_that_moved_since(since_ms, |report| reports.push(report))?;
        Ok(reports)
    }

    /// Shows the same one after the other: those of a busy day are hundreds of megabytes together.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read; those before it were shown.
    pub fn each_cycle_that_moved_since(&self, since_ms: u64, show: impl FnMut(CycleReport)) -> Result<(), StoreError> {
        let query = "SELECT report FROM cycles WHERE moved AND started_at_ms >= ?1 ORDER BY cycle";
        self.each_report(query, integer(since_ms), show)
    }

    /// The report of one cycle.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when it cannot be read.
    pub fn cycle(&self, cycle: u64) -> Result<Option<CycleReport>, StoreError> {
        Ok(self.reports("SELECT report FROM cycles WHERE cycle = ?1", integer(cycle))?.pop())
    }

    /// The full snapshot that one cycle decided by, where it was kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when it cannot be read.
    pub fn snapshot(&self, cycle: u64) -> Result<Option<Snapshot>, StoreError> {
        const DOING: &str = "read a snapshot";
        let text: Option<String> = self
            .connection()
            .query_row("SELECT snapshot FROM snapshots WHERE cycle = ?1", [integer(cycle)], |row| row.get(0))
            .optional()
            .map_err(failed(DOING))?;
        text.map(|text| serde_json::from_str(&text).map_err(failed(DOING))).transpose()
    }

    /// What else than the snapshot one cycle's decision hung on, where it was kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when it cannot be read.
    pub fn given<G: DeserializeOwned>(&self, cycle: u64) -> Result<Option<G>, StoreError> {
        const DOING: &str = "read what a decision hung on";
        let text: Option<Option<String>> = self
            .connection()
            .query_row("SELECT given FROM snapshots WHERE cycle = ?1", [integer(cycle)], |row| row.get(0))
            .optional()
            .map_err(failed(DOING))?;
        text.flatten().map(|text| serde_json::from_str(&text).map_err(failed(DOING))).transpose()
    }

    /// Whether all that one cycle was decided by is kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn is_repeatable(&self, cycle: u64) -> Result<bool, StoreError> {
        self.connection()
            .query_row("SELECT given IS NOT NULL FROM snapshots WHERE cycle = ?1", [integer(cycle)], |row| row.get(0))
            .optional()
            .map(|kept| kept.unwrap_or(false))
            .map_err(failed("look for what a decision hung on"))
    }

    /// Keeps the file of a policy that is in use from now on. Those before it stay as long as one of their decisions does.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn keep_policy(&self, digest: &str, file: &[u8], at_ms: u64) -> Result<(), StoreError> {
        const DOING: &str = "keep a policy's file";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed(DOING))?;
        transaction
            .execute(
                "INSERT INTO policies (digest, kept_at_ms, file) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET kept_at_ms = ?2",
                params![digest, integer(at_ms), file],
            )
            .map_err(failed(DOING))?;
        drop_policies(&transaction).map_err(failed(DOING))?;
        transaction.commit().map_err(failed(DOING))
    }

    /// The file of a policy that decided, where it was kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn policy_file(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection()
            .query_row("SELECT file FROM policies WHERE digest = ?1", [digest], |row| row.get(0))
            .optional()
            .map_err(failed("read a policy's file"))
    }

    /// The newest `limit` of the cycles that are `wanted`, newest first; with `moved`, of those that began to move slots.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn cycles_that(
        &self,
        moved: bool,
        limit: usize,
        wanted: impl Fn(&CycleReport) -> bool,
    ) -> Result<Vec<CycleReport>, StoreError> {
        const DOING: &str = "read the history of cycles";
        let query = if moved {
            "SELECT report FROM cycles WHERE moved ORDER BY started_at_ms DESC"
        } else {
            "SELECT report FROM cycles ORDER BY cycle DESC"
        };
        let connection = self.connection();
        let mut statement = connection.prepare_cached(query).map_err(failed(DOING))?;
        let mut rows = statement.query([]).map_err(failed(DOING))?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next().map_err(failed(DOING))?
        {
            let text: String = row.get(0).map_err(failed(DOING))?;
            let report = serde_json::from_str(&text).map_err(failed(DOING))?;
            if wanted(&report) {
                found.push(report);
            }
        }
        Ok(found)
    }

    /// Every full snapshot that is kept, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, StoreError> {
        const DOING: &str = "read the snapshots";
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT snapshot FROM snapshots ORDER BY cycle").map_err(failed(DOING))?;
        let texts = statement
            .query_map([], |row| row.get(0))
            .map_err(failed(DOING))?
            .collect::<Result<Vec<String>, _>>()
            .map_err(failed(DOING))?;
        texts.iter().map(|text| serde_json::from_str(text).map_err(failed(DOING))).collect()
    }

    /// Keeps an event. Its number is returned.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn keep_event(&self, at_ms: u64, event: &Event) -> Result<u64, StoreError> {
        const DOING: &str = "keep an event";
        let text = serde_json::to_string(event).map_err(failed(DOING))?;
        let connection = self.connection();
        connection
            .execute("INSERT INTO events (at_ms, event) VALUES (?1, ?2)", params![integer(at_ms), text])
            .map_err(failed(DOING))?;
        Ok(u64::try_from(connection.last_insert_rowid()).unwrap_or(0))
    }

    /// The newest `limit` events, newest first. Kinds that this program does not know are left out.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn events(&self, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.events_before(u64::MAX, limit)
    }

    /// The newest `limit` events before the one with that number, newest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn events_before(&self, id: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        const DOING: &str = "read events";
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT id, at_ms, event FROM events WHERE id < ?1 ORDER BY id DESC LIMIT ?2")
            .map_err(failed(DOING))?;
        let rows = statement
            .query_map([integer(id), integer(limit)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(failed(DOING))?
            .collect::<Result<Vec<(i64, i64, String)>, _>>()
            .map_err(failed(DOING))?;
        let known = |(id, at_ms, text): (i64, i64, String)| {
            let event = serde_json::from_str(&text).ok()?;
            let number = |value| u64::try_from(value).unwrap_or(0);
            Some(StoredEvent { id: number(id), at_ms: number(at_ms), event })
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    fn reports(&self, query: &str, argument: i64) -> Result<Vec<CycleReport>, StoreError> {
        let mut reports = Vec::new();
        self.each_report(query, argument, |report| reports.push(report))?;
        Ok(reports)
    }

    fn each_report(&self, query: &str, argument: i64, mut show: impl FnMut(CycleReport)) -> Result<(), StoreError> {
        const DOING: &str = "read the history of cycles";
        let connection = self.connection();
        let mut statement = connection.prepare_cached(query).map_err(failed(DOING))?;
        let texts = statement.query_map([argument], |row| row.get::<_, String>(0)).map_err(failed(DOING))?;
        for text in texts {
            let text = text.map_err(failed(DOING))?;
            show(serde_json::from_str(&text).map_err(failed(DOING))?);
        }
        Ok(())
    }
}

/// Drops what is too old or too much, as seen from the newest report: its cycle and its time.
fn drop_old(connection: &Connection, newest: &CycleReport, retention: &Retention) -> Result<(), rusqlite::Error> {
    let oldest_ms = integer(newest.started_at_ms.saturating_sub(retention.age_ms));
    let oldest_cycle = integer(newest.cycle.saturating_sub(retention.reports));
    connection
        .prepare_cached("DELETE FROM cycles WHERE cycle <= ?1 OR started_at_ms < ?2")?
        .execute(params![oldest_cycle, oldest_ms])?;
    connection
        .prepare_cached(
            "DELETE FROM snapshots WHERE cycle <= ?1 OR cycle <= \
             (SELECT cycle FROM snapshots ORDER BY cycle DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![oldest_cycle, integer(retention.snapshots)])?;
    connection
        .prepare_cached(
            "DELETE FROM events WHERE at_ms < ?1 OR id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![oldest_ms, integer(retention.reports)])?;
    connection
        .prepare_cached("DELETE FROM journal WHERE ended_at_ms IS NOT NULL AND ended_at_ms < ?1")?
        .execute(params![oldest_ms])?;
    drop_until_small(connection, retention.bytes)
}

/// Drops the files of policies of which no decision is kept. The newest may not have decided anything yet, and the one before it
/// may be called back.
fn drop_policies(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute(
        "DELETE FROM policies WHERE digest NOT IN (SELECT digest FROM policies ORDER BY kept_at_ms DESC LIMIT 2) \
         AND digest NOT IN (SELECT given ->> '$.policy' FROM snapshots WHERE given IS NOT NULL)",
        [],
    )?;
    Ok(())
}

/// Drops the oldest snapshots with the policies that nobody asks for any more, and then the oldest reports, until the rest takes no
/// more than so many bytes. A tenth at a time, so that it need not be looked at again in every cycle; the newest tenth stays.
/// Reports do not pay for the files of policies.
fn drop_until_small(connection: &Connection, bytes_max: u64) -> Result<(), rusqlite::Error> {
    let one = |question: &str| connection.query_row(question, [], |row| row.get::<_, i64>(0));
    // Pages that were emptied are used again: they are not given back, and do not count.
    let size = || {
        Ok::<_, rusqlite::Error>(one("PRAGMA page_size")? * (one("PRAGMA page_count")? - one("PRAGMA freelist_count")?))
    };
    let apart = |table: &str| match table {
        "cycles" => one("SELECT coalesce(sum(length(file)), 0) FROM policies"),
        _ => Ok(0),
    };
    for table in ["snapshots", "cycles"] {
        while u64::try_from(size()? - apart(table)?).unwrap_or(0) > bytes_max {
            let drop = format!(
                "DELETE FROM {table} WHERE cycle <= \
                 (SELECT cycle FROM {table} ORDER BY cycle LIMIT 1 OFFSET (SELECT count(*) / 10 FROM {table})) \
                 AND (SELECT count(*) FROM {table}) > 10"
            );
            if connection.execute(&drop, [])? == 0 {
                break;
            }
            drop_policies(connection)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::{MigrationReport, Mode, Protocol, Timings};

    #[test]
    fn cycles_come_back_newest_first_and_whole() {
        let (_directory, store) = store();
        assert_eq!(store.next_cycle().expect("counts"), 1);
        for cycle in 1..=5 {
            keep(&store, &report(cycle), None, &Retention::default()).expect("keeps");
        }
        assert_eq!(store.next_cycle().expect("counts"), 6);
        assert_eq!(store.cycles(2).expect("reads"), [report(5), report(4)]);
        assert_eq!(store.cycle(3).expect("reads"), Some(report(3)));
        assert_eq!(store.cycle(9).expect("reads"), None);
    }

    #[test]
    fn history_is_bounded_by_size_snapshots_first() {
        let (_directory, store) = store();
        let retention = Retention { bytes: 4 << 20, ..Retention::default() };
        for cycle in 1..=60 {
            keep(&store, &report(cycle), Some(&snapshot(cycle)), &retention).expect("keeps");
        }
        let size =
            |pragma: &str| store.connection().query_row(pragma, [], |row| row.get::<_, i64>(0)).expect("answers");
        let used = size("PRAGMA page_size") * (size("PRAGMA page_count") - size("PRAGMA freelist_count"));
        assert!(used <= 5 << 20, "{used} bytes");
        assert!(store.snapshot(60).expect("reads").is_some(), "the newest stays");
        assert!(store.snapshot(1).expect("reads").is_none(), "the oldest went");
        assert_eq!(store.cycles(100).expect("reads").len(), 60, "reports are small");
    }

    #[test]
    fn each_event_is_called_as_it_is_written() {
        let event = Event::PlanDropped { plan: "abc".into(), who: "ann".into(), why: String::new() };
        let written = serde_json::to_value(&event).expect("plain");
        assert_eq!(written["event"], event.name());
        assert!(Event::NAMES.contains(&event.name()));
    }

    #[test]
    fn history_is_bounded_by_count_and_by_age() {
        let (_directory, store) = store();
        let retention = Retention { age_ms: 5_500, reports: 8, snapshots: 2, ..Retention::default() };
        for cycle in 1..=20 {
            keep(&store, &report(cycle), Some(&snapshot(cycle)), &retention).expect("keeps");
            store.keep_event(cycle * 1_000, &Event::Recovered { slots: 1 }).expect("keeps");
        }
        let kept: Vec<u64> = store.cycles(100).expect("reads").iter().map(|report| report.cycle).collect();
        assert_eq!(kept, [20, 19, 18, 17, 16, 15], "5.5 seconds back from cycle 20");
        assert_eq!(store.snapshot(20).expect("reads").map(|snapshot| snapshot.generation), Some(20));
        assert!(store.snapshot(19).expect("reads").is_some());
        assert!(store.snapshot(18).expect("reads").is_none(), "two snapshots are kept");
        let kept: Vec<u64> = store.snapshots().expect("reads").iter().map(|snapshot| snapshot.generation).collect();
        assert_eq!(kept, [19, 20]);
        assert_eq!(store.events(100).expect("reads").len(), 6);
    }

    #[test]
    fn only_cycles_that_moved_slots_count_for_budgets() {
        let (_directory, store) = store();
        keep(&store, &report(1), None, &Retention::default()).expect("keeps");
        let mut moved = report(2);
        moved.migrations.push(MigrationReport {
            source: "a".repeat(40).parse().expect("id"),
            target: "b".repeat(40).parse().expect("id"),
            protocol: Protocol::Classic,
            moved: "17".parse().expect("slots"),
            stayed: Vec::new(),
            keys: 4,
            bytes: 400,
            duration_ms: 3,
            pace: crate::model::PaceReport::default(),
        });
        keep(&store, &moved, None, &Retention::default()).expect("keeps");
        assert_eq!(store.cycles_that_moved_since(0).expect("reads"), [moved]);
        assert_eq!(store.cycles_that_moved_since(2_001).expect("reads"), []);
    }

    #[test]
    fn a_policys_file_stays_as_long_as_one_of_its_decisions_does() {
        let (directory, store) = store();
        let retention = Retention { snapshots: 1, ..Retention::default() };
        store.keep_policy("aa", b"first", 1).expect("keeps");
        let decide = |cycle, policy: &str| {
            let given = serde_json::json!({ "policy": policy });
            let basis = Basis { snapshot: &snapshot(cycle), given: &given };
            store.keep_cycle(&report(cycle), Some(basis), &retention).expect("keeps");
        };
        decide(1, "aa");
        store.keep_policy("bb", b"second", 2).expect("keeps");
        assert_eq!(store.policy_file("aa").expect("reads").as_deref(), Some(&b"first"[..]), "cycle 1 was its");
        decide(2, "bb");
        store.keep_policy("cc", b"third", 3).expect("keeps");
        assert_eq!(store.policy_file("aa").expect("reads"), None, "one decision is kept, and it is another's");

        // Whoever only looks reads beside the one that holds the directory.
        let onlooker = Store::look(directory.path()).expect("opens");
        assert_eq!(onlooker.policy_file("bb").expect("reads").as_deref(), Some(&b"second"[..]));
        let given: Option<serde_json::Value> = onlooker.given(2).expect("reads");
        assert_eq!(given, Some(serde_json::json!({ "policy": "bb" })));
        assert!(onlooker.keep_policy("dd", b"fourth", 4).is_err(), "it cannot write");
    }

    #[test]
    fn cycles_are_found_by_what_they_are_about() {
        let (_directory, store) = store();
        (1..=9).for_each(|cycle| keep(&store, &report(cycle), None, &Retention::default()).expect("keeps"));
        let odd = store.cycles_that(false, 2, |report| report.cycle % 2 == 1).expect("reads");
        assert_eq!(odd.iter().map(|report| report.cycle).collect::<Vec<_>>(), [9, 7]);
        assert!(store.cycles_that(true, 2, |_| true).expect("reads").is_empty(), "none moved anything");
    }

    fn keep(
        store: &Store,
        report: &CycleReport,
        snapshot: Option<&Snapshot>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        store.keep_cycle(report, snapshot.map(|snapshot| Basis { snapshot, given: &() }), retention)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        (directory, store)
    }

    fn report(cycle: u64) -> CycleReport {
        let timings = Timings { collect_ms: 1.5, ..Timings::default() };
        CycleReport { timings, ..CycleReport::begin(cycle, cycle * 1_000, Mode::Auto) }
    }

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot { generation, ..Snapshot::default() }
    }
}
