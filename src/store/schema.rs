//! The tables, their versions, and how an old file becomes a new one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::StoreError;

/// Marks the file as ours: "BLST".
const APPLICATION_ID: i64 = 0x424C_5354;

/// How to get from each version to the next one. A step that was released is never changed, only followed by another.
const STEPS: &[&str] = &["
    CREATE TABLE journal (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        intent        TEXT NOT NULL,     -- JSON
        begun_at_ms   INTEGER NOT NULL,
        ended_at_ms   INTEGER,           -- absent while unfinished
        ending        TEXT
    ) STRICT;
    CREATE INDEX journal_unfinished ON journal (id) WHERE ended_at_ms IS NULL;

    CREATE TABLE cycles (
        cycle         INTEGER PRIMARY KEY,
        started_at_ms INTEGER NOT NULL,
        moved         INTEGER NOT NULL,  -- whether slots were moved: what budgets and cool-downs are rebuilt from
        report        TEXT NOT NULL      -- JSON
    ) STRICT;
    CREATE INDEX cycles_moved ON cycles (started_at_ms) WHERE moved;

    -- Apart from the reports, since one is about a megabyte and few are kept.
    CREATE TABLE snapshots (
        cycle         INTEGER PRIMARY KEY,
        snapshot      TEXT NOT NULL      -- JSON
    ) STRICT;

    CREATE TABLE events (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms         INTEGER NOT NULL,
        event         TEXT NOT NULL      -- JSON
    ) STRICT;

    CREATE TABLE state (
        key           TEXT PRIMARY KEY,
        value         TEXT NOT NULL      -- JSON
    ) STRICT, WITHOUT ROWID;
"];

/// Opens the database at `path`, checks that it is sound and ours, and brings it up to date.
pub(super) fn open(directory: &Path, path: &Path) -> Result<Connection, StoreError> {
    let damaged = |cause: rusqlite::Error| StoreError::Damaged { path: directory.to_owned(), cause: Box::new(cause) };
    let mut connection = Connection::open(path).map_err(damaged)?;
    prepare(&connection).map_err(damaged)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(damaged)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(damaged)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let fresh = found == 0 && application == 0 && is_empty(&connection).map_err(damaged)?;
    if !fresh && application != APPLICATION_ID {
        return Err(StoreError::Damaged { path: directory.to_owned(), cause: "another program wrote it".into() });
    }
    if found > known {
        return Err(StoreError::Newer { path: directory.to_owned(), found, known });
    }
    upgrade(&mut connection, usize::try_from(found).unwrap_or(0)).map_err(damaged)?;
    Ok(connection)
}

/// Settings of the connection, and a look at every page: a file that a disk or a person broke should be found now and
/// not in the middle of a migration.
fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    // The directory's lock keeps other daemons out; a person with the sqlite3 shell may still look in.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit in WAL mode is otherwise not on disk when it returns, and the journal has to be.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(verdict)))
    }
}

fn is_empty(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let first: Option<i64> = connection.query_row("SELECT 1 FROM sqlite_schema", [], |row| row.get(0)).optional()?;
    Ok(first.is_none())
}

/// All steps in one transaction: an interrupted upgrade leaves the old file.
fn upgrade(connection: &mut Connection, from: usize) -> Result<(), rusqlite::Error> {
    if from == STEPS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in &STEPS[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()
}
