//! What must outlive the process: the journal of migrations, the history of cycles, what operators set.
//!
//! One SQLite file in a state directory that one process holds at a time. This module knows how to keep and to give
//! back; what to keep, and what it means, its callers know. Every call is synchronous and short; a write is on disk
//! when the call returns. Callers on the reactor hand the larger ones to a blocking thread.

mod event;
mod history;
mod journal;
mod schema;

use std::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use event::Event;
pub use history::{Basis, Retention, StoredEvent};
pub use journal::JournalEntry;

/// The file that holds everything.
const DATABASE: &str = "ballast.sqlite3";
/// Locked while a process uses the directory; holds that process's id, for the message to the next one.
const LOCK: &str = "lock";

/// Why the state directory could not be used, with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written.
    #[error("state directory {}: cannot be used; check its owner and the space on its disk", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Another process works with it.
    #[error("state directory {}: in use by process {holder}; stop it, or set another `state.directory`", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The id of that process, or `unknown`.
        holder: String,
    },
    /// A later version of Ballast wrote it.
    #[error(
        "state directory {}: written by a newer ballast (schema {found}, this one knows up to {known}); \
         run that version, or move the directory away to start afresh", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// An earlier version of Ballast wrote it, and nobody has upgraded it yet.
    #[error(
        "state directory {}: written by an older ballast (schema {found}, this one reads {known}); the daemon upgrades it \
         when it starts", path.display()
    )]
    Older {
        /// The directory.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema that this program reads.
        known: i64,
    },
    /// This user may not read it.
    #[error("state directory {}: this user may not read it; the daemon's user may: `sudo -u ballast ballast ...`", path.display())]
    Forbidden {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Nothing was ever kept there.
    #[error("state directory {}: no ballast ever kept anything there; is it the daemon's own?", path.display())]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The file is no database of ours, or a broken one.
    #[error(
        "state directory {}: {DATABASE} is damaged or not ours; move it away and start again: history starts afresh, \
         and slots left open by a migration are then shown as foreign (`ballast check` names them)", path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What the database said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// A read or write failed later on.
    #[error("state: cannot {doing}")]
    Failed {
        /// What was to be done.
        doing: &'static str,
        /// What the database said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
}

/// The state directory, held by this process until dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Locked as long as it is open; absent for those who only look.
    _lock: Option<File>,
}

impl Store {
    /// Opens the state in `directory`, making what is missing and upgrading what is old.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be written, is in use by another process, is newer than this program,
    /// or is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let unusable = |cause| StoreError::Unusable { path: directory.to_owned(), cause };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        let connection = schema::open(directory, &directory.join(DATABASE))?;
        Ok(Self { path: directory.to_owned(), connection: Mutex::new(connection), _lock: Some(lock) })
    }

    /// Opens the state in `directory` to read only, beside the process that holds it, if one does.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept there, when another version of Ballast wrote it, or when it is damaged.
    pub fn look(directory: &Path) -> Result<Self, StoreError> {
        let connection = schema::look(directory, &directory.join(DATABASE))?;
        Ok(Self { path: directory.to_owned(), connection: Mutex::new(connection), _lock: None })
    }

    /// The state directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept under `key`; `None` when nothing was, or when it can no longer be read as a `T`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self
            .connection()
            .query_row("SELECT value FROM state WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(failed("read operator state"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Keeps `value` under `key`, in place of what was there.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        const DOING: &str = "write operator state";
        let text = serde_json::to_string(value).map_err(failed(DOING))?;
        self.connection()
            .execute(
                "INSERT INTO state (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                [key, &text],
            )
            .map_err(failed(DOING))?;
        Ok(())
    }

    /// Forgets what was kept under `key`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn forget(&self, key: &str) -> Result<(), StoreError> {
        self.connection().execute("DELETE FROM state WHERE key = ?1", [key]).map_err(failed("write operator state"))?;
        Ok(())
    }

    /// A thread that panicked while holding the connection left at worst an open transaction, which its guard rolled
    /// back: the connection stays good.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns what the database (or the encoder) says into [`StoreError::Failed`].
fn failed<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |cause| StoreError::Failed { doing, cause: Box::new(cause) }
}

/// SQLite's integers are signed: what does not fit is a time or a count beyond all sense, and becomes the largest one.
fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Store {
    /// Whether a daemon has kept its state in `directory`.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        // Where this user may not look something may be: who opens it is told that.
        directory.join(DATABASE).try_exists().unwrap_or(true)
    }
}

/// Who holds the state in `directory`: the id of that process, or `unknown`; `None` while nobody does. Nothing is made or
/// written there. The lock is tried for an instant, in which another process that opens the state would be refused.
///
/// # Errors
/// What the system said when the lock may not be looked at.
pub fn holder(directory: &Path) -> std::io::Result<Option<String>> {
    let mut file = match File::open(directory.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(named_in(&mut file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whose id is in the lock.
fn named_in(lock: &mut File) -> String {
    let mut holder = String::new();
    let known = lock.read_to_string(&mut holder).is_ok() && !holder.is_empty();
    if known { holder } else { "unknown".to_owned() }
}

/// Takes the directory for this process. The system lets go of it when the process ends, however it ends.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let unusable = |cause| StoreError::Unusable { path: directory.to_owned(), cause };
    let mut file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(unusable)?;
            write!(file, "{}", std::process::id()).map_err(unusable)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::InUse { path: directory.to_owned(), holder: named_in(&mut file) })
        }
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_state_survives_a_restart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        store.put("pause", &("a release", 17)).expect("writes");
        store.put("pause", &("a freeze", 18)).expect("writes again");
        drop(store);
        let store = Store::open(directory.path()).expect("opens again");
        assert_eq!(store.get("pause").expect("reads"), Some(("a freeze".to_owned(), 18)));
        store.forget("pause").expect("forgets");
        assert_eq!(store.get::<(String, i32)>("pause").expect("reads"), None);
    }

    #[test]
    fn two_processes_do_not_share_a_state_directory() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = Store::open(directory.path()).expect("opens");
        let error = Store::open(directory.path()).expect_err("is in use");
        assert!(matches!(&error, StoreError::InUse { holder, .. } if *holder == std::process::id().to_string()));
        assert!(error.to_string().contains("stop it, or set another `state.directory`"), "{error}");
        assert_eq!(holder(directory.path()).expect("looks"), Some(std::process::id().to_string()));
        drop(first);
        assert_eq!(holder(directory.path()).expect("looks"), None);
        Store::open(directory.path()).expect("is free again");
    }

    #[test]
    fn a_damaged_file_is_named_with_the_next_step() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join(DATABASE), "this was never a database, and is long enough to be read")
            .expect("writes");
        let error = Store::open(directory.path()).expect_err("is no database");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("move it away and start again"), "{error}");
    }

    #[test]
    fn a_database_of_another_program_is_not_touched() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join(DATABASE);
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("CREATE TABLE invoices (id INTEGER)").expect("writes");
        drop(other);
        let error = Store::open(directory.path()).expect_err("is not ours");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        drop(Store::open(directory.path()).expect("opens"));
        let connection = Connection::open(directory.path().join(DATABASE)).expect("opens");
        connection.pragma_update(None, "user_version", 1_000).expect("writes");
        drop(connection);
        let error = Store::open(directory.path()).expect_err("is newer");
        assert!(matches!(error, StoreError::Newer { found: 1_000, .. }), "{error:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = Store::open(&file.path().join("state")).expect_err("a file is no directory");
        assert!(matches!(error, StoreError::Unusable { .. }), "{error:?}");
    }
}
