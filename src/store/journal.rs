//! The journal of migrations, on disk: what was intended, until it is known how it ended.
//!
//! Endings are kept as long as the rest of the history, for people; only what has no ending has a meaning to Ballast.

use std::error::Error;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, integer};
use crate::clock::now_ms;
use crate::migration::{Intent, IntentId, Journal, JournalError};

impl Journal for Store {
    fn begin(&self, intent: &Intent) -> Result<IntentId, JournalError> {
        const ACTION: &str = "cannot note a migration, so it must not begin";
        let text = serde_json::to_string(intent).map_err(failed(ACTION))?;
        let connection = self.connection();
        connection
            .prepare_cached("INSERT INTO journal (intent, begun_at_ms) VALUES (?1, ?2)")
            .and_then(|mut statement| statement.insert(params![text, integer(intent.started_at_ms)]))
            .map_err(failed(ACTION))
    }

    fn finish(&self, id: IntentId, ending: &str) -> Result<(), JournalError> {
        const ACTION: &str = "cannot note the end of a migration";
        self.connection()
            .prepare_cached("UPDATE journal SET ended_at_ms = ?2, ending = ?3 WHERE id = ?1 AND ended_at_ms IS NULL")
            .and_then(|mut statement| statement.execute(params![id, integer(now_ms()), ending]))
            .map_err(failed(ACTION))?;
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<(IntentId, Intent)>, JournalError> {
        const ACTION: &str = "cannot read unfinished migrations";
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached("SELECT id, intent FROM journal WHERE ended_at_ms IS NULL ORDER BY id")
            .map_err(failed(ACTION))?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect::<Result<Vec<(IntentId, String)>, _>>)
            .map_err(failed(ACTION))?;
        rows.into_iter().map(|(id, text)| Ok((id, serde_json::from_str(&text).map_err(failed(ACTION))?))).collect()
    }
}

/// A migration in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The journal's name for it.
    pub id: IntentId,
    /// What was to be done, who began it, when and why.
    pub intent: Intent,
    /// Unix time at which it ended, milliseconds; absent while it has not.
    pub ended_at_ms: Option<u64>,
    /// What came of it; absent while it has not ended.
    pub ending: Option<String>,
}

impl JournalEntry {
    /// How many of its slots have moved, by the words in which its end was noted; none while it has not ended.
    #[must_use]
    pub fn moved(&self) -> usize {
        let count = self.ending.as_deref().and_then(|ending| ending.split_once(" moved")?.0.parse().ok());
        count.unwrap_or(0)
    }
}

impl Store {
    /// The newest `limit` migrations of the journal, newest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn journal(&self, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.journal_before(u64::MAX, limit)
    }

    /// Migrations that were begun and have not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn unfinished_migrations(&self) -> Result<Vec<Intent>, StoreError> {
        let unfinished = self.unfinished().map_err(super::failed("read unfinished migrations"))?;
        Ok(unfinished.into_iter().map(|(_, intent)| intent).collect())
    }

    /// Migrations that began after `since_ms` (Unix time, milliseconds) and have moved something, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn moved_since(&self, since_ms: u64) -> Result<Vec<JournalEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut before = u64::MAX;
        loop {
            let page = self.journal_before(before, 1_000)?;
            let Some(last) = page.last() else { break };
            before = u64::try_from(last.id).unwrap_or(0);
            let reached = last.intent.started_at_ms <= since_ms;
            entries.extend(page.into_iter().filter(|entry| entry.intent.started_at_ms > since_ms && entry.moved() > 0));
            if reached {
                break;
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// The newest `limit` migrations before the one with that number, newest first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], also when one cannot be read.
    pub fn journal_before(&self, id: u64, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        const DOING: &str = "read the journal";
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(
                "SELECT id, intent, ended_at_ms, ending FROM journal WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )
            .map_err(super::failed(DOING))?;
        let rows = statement
            .query_map([integer(id), integer(limit)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .and_then(Iterator::collect::<Result<Vec<(IntentId, String, Option<i64>, Option<String>)>, _>>)
            .map_err(super::failed(DOING))?;
        let entry = |(id, text, ended_at_ms, ending): (IntentId, String, Option<i64>, Option<String>)| {
            let intent = serde_json::from_str(&text).map_err(super::failed(DOING))?;
            let ended_at_ms = ended_at_ms.map(|at_ms| u64::try_from(at_ms).unwrap_or(0));
            Ok(JournalEntry { id, intent, ended_at_ms, ending })
        };
        rows.into_iter().map(entry).collect()
    }
}

fn failed<E: Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> JournalError {
    move |cause| JournalError { action, cause: Box::new(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn an_intent_is_unfinished_until_its_end_is_noted_even_after_a_restart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        let first = store.begin(&intent("1-4")).expect("notes");
        let second = store.begin(&intent("9")).expect("notes");
        drop(store);

        let store = Store::open(directory.path()).expect("opens again");
        assert_eq!(store.unfinished().expect("reads"), [(first, intent("1-4")), (second, intent("9"))]);
        store.finish(first, "moved").expect("notes");
        assert_eq!(store.unfinished().expect("reads"), [(second, intent("9"))]);
        let third = store.begin(&intent("1-4")).expect("notes");
        assert!(third > second, "a name is never used twice");
    }

    #[test]
    fn endings_are_kept_and_read_newest_first() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        let first = store.begin(&intent("1-4")).expect("notes");
        let second = store.begin(&intent("9")).expect("notes");
        store.finish(first, "4 moved, 0 stayed, 0 collided").expect("notes");
        let entries = store.journal(10).expect("reads");
        assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [second, first]);
        assert_eq!((entries[0].ended_at_ms, &entries[0].ending), (None, &None));
        assert_eq!(entries[1].ending.as_deref(), Some("4 moved, 0 stayed, 0 collided"));
        assert!(entries[1].ended_at_ms > Some(0) && entries[1].intent == intent("1-4"));
        assert_eq!(store.journal(1).expect("reads").len(), 1);
    }

    #[test]
    fn a_journal_of_an_earlier_version_is_read() {
        let node = |digit: &str| digit.repeat(40);
        let text = format!(
            r#"{{"source":"{a}","target":"{b}","source_shard":["{a}"],"target_shard":["{b}"],"source_run_id":"run",
            "source_epoch":3,"slots":"1-4","protocol":"atomic","started_at_ms":1700000000000}}"#,
            a = node("a"),
            b = node("b")
        );
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        store
            .connection()
            .execute("INSERT INTO journal (intent, begun_at_ms) VALUES (?1, 1700000000000)", [text])
            .expect("writes");
        let unfinished = store.unfinished().expect("reads");
        let intent = &unfinished[0].1;
        assert_eq!((intent.protocol, intent.slots.len(), intent.began_by.as_str()), (Protocol::Atomic, 4, ""));
    }

    fn intent(slots: &str) -> Intent {
        let node = |digit: &str| digit.repeat(40).parse().expect("node id");
        Intent {
            source: node("a"),
            target: node("b"),
            source_shard: vec![node("a"), node("c")],
            target_shard: vec![node("b")],
            source_run_id: "run".into(),
            source_epoch: 3,
            slots: slots.parse().expect("slots"),
            protocol: Protocol::Classic,
            started_at_ms: 1_700_000_000_000,
            began_by: "ann@host".into(),
            reason: "by hand".into(),
        }
    }
}
