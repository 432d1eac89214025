//! The tables, their versions, and how an old file becomes a new one.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::StoreError;

/// Marks the file as ours: "BLST".
const APPLICATION_ID: i64 = 0x424C_5354;

/// How to get from each version to the next one. A step that was released is never changed, only followed by another.
const STEPS: &[&str] = &[
    "
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
",
    "
    -- With each snapshot, what else the decision hung on.
    ALTER TABLE snapshots ADD COLUMN given TEXT;  -- JSON

    -- The files of policies that decided: to ask them once more.
    CREATE TABLE policies (
        digest        TEXT PRIMARY KEY,  -- SHA-256, hexadecimal
        kept_at_ms    INTEGER NOT NULL,
        file          BLOB NOT NULL
    ) STRICT;
",
];

/// Opens the database at `path`, checks that it is sound and ours, and brings it up to date.
pub(super) fn open(directory: &Path, path: &Path) -> Result<Connection, StoreError> {
    let damaged = |cause: rusqlite::Error| unfit(directory, cause);
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

/// Opens the database at `path` to read only, beside whoever writes it.
pub(super) fn look(directory: &Path, path: &Path) -> Result<Connection, StoreError> {
    let damaged = |cause: rusqlite::Error| match cause.sqlite_error_code() {
        // To read beside a writer takes a file that both write.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            StoreError::Forbidden { path: directory.to_owned(), cause: io::Error::other(cause) }
        }
        _ => unfit(directory, cause),
    };
    // SQLite says the same of a file that it may not read as of a broken one.
    File::open(path).map_err(|cause| unread(directory, cause))?;
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(damaged)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(damaged)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(damaged)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    match found.cmp(&known) {
        Ordering::Less => Err(StoreError::Older { path: directory.to_owned(), found, known }),
        Ordering::Equal => Ok(connection),
        Ordering::Greater => Err(StoreError::Newer { path: directory.to_owned(), found, known }),
    }
}

/// What an error of the database means: that its file is broken, or that nobody can tell by it, as on a full disk.
fn unfit(directory: &Path, cause: rusqlite::Error) -> StoreError {
    let path = directory.to_owned();
    match cause.sqlite_error_code() {
        None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path, cause: Box::new(cause) }
        }
        Some(_) => StoreError::Unusable { path, cause: io::Error::other(cause) },
    }
}

/// Why a file could not be opened to be read.
fn unread(directory: &Path, cause: io::Error) -> StoreError {
    let path = directory.to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound => StoreError::Absent { path },
        io::ErrorKind::PermissionDenied => StoreError::Forbidden { path, cause },
        _ => StoreError::Unusable { path, cause },
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DATABASE, Store};

    /// A state directory as each earlier version left it, with a row in each table.
    #[test]
    fn every_earlier_schema_is_upgraded_and_loses_nothing() {
        for version in 1..STEPS.len() {
            let directory = tempfile::tempdir().expect("temporary directory");
            let path = directory.path().join(DATABASE);
            let old = Connection::open(&path).expect("opens");
            STEPS[..version].iter().for_each(|step| old.execute_batch(step).expect("a step that was released works"));
            old.execute_batch(
                r#"INSERT INTO snapshots (cycle, snapshot) VALUES (7, '{}');
                   INSERT INTO state (key, value) VALUES ('pause', '"a release"');
                   INSERT INTO events (at_ms, event) VALUES (5, '{"event":"recovered","slots":3}');"#,
            )
            .expect("writes");
            old.pragma_update(None, "application_id", APPLICATION_ID).expect("ours");
            old.pragma_update(None, "user_version", i64::try_from(version).expect("small")).expect("of that version");
            drop(old);

            assert!(matches!(Store::look(directory.path()), Err(StoreError::Older { .. })), "looking changes nothing");
            let store = Store::open(directory.path()).expect("it is upgraded");
            assert_eq!(store.get::<String>("pause").expect("reads").as_deref(), Some("a release"));
            assert_eq!(store.events(10).expect("reads").len(), 1);
            let count: i64 = store
                .connection()
                .query_row("SELECT count(*) FROM snapshots WHERE given IS NULL", [], |row| row.get(0))
                .expect("the new column is there");
            assert_eq!(count, 1);
            Store::look(directory.path()).expect("of this version now");
        }
    }
}
