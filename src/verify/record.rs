//! What all keys were like at one time: a file, written at once or not at all, and the comparison with it.
//!
//! One line per key: database, type, expiry of the key and of its first field (Unix milliseconds, or `-`), digest of the
//! value, and the key, the last two in hexadecimal. A first line names the format, a last one counts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::value::{Digest, Seen};

const HEADER: &str = "ballast-verify-record 1";
const END: &str = "end ";

/// How far apart two readings of one expiry may lie, in milliseconds: clocks of ours, round trips, and what a `MIGRATE`
/// takes, since it tells how long a key has left.
const EXPIRY_TOLERANCE_MS: u64 = 1000;

/// A record that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is something else, or of another version.
    #[error("{} is no record of this version: its first line is not '{HEADER}'", path.display())]
    NotARecord {
        /// Which file.
        path: PathBuf,
    },
    /// A line is not as it was written.
    #[error("{}:{line}: not a line of a record", path.display())]
    Garbled {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
    },
    /// The end is missing.
    #[error("{} is cut short: it does not end with the number of its keys", path.display())]
    CutShort {
        /// Which file.
        path: PathBuf,
    },
}

/// A key and what it was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) database: u32,
    pub(super) key: Vec<u8>,
    pub(super) seen: Seen,
}

impl Entry {
    fn line(&self) -> String {
        let time = |at: Option<u64>| at.map_or("-".to_owned(), |at| at.to_string());
        let Self { database, key, seen } = self;
        let (expires, fields_expire) = (time(seen.expires_at_ms), time(seen.fields_expire_at_ms));
        let (digest, key) = (hex::encode(seen.digest.0), hex::encode(key));
        format!("{database} {} {expires} {fields_expire} {digest} {key}\n", seen.kind)
    }

    fn parse(line: &str) -> Option<Self> {
        let time = |word: &str| if word == "-" { Some(None) } else { word.parse().ok().map(Some) };
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (database, kind) = (word()?.parse().ok()?, word()?.to_owned());
        let (expires_at_ms, fields_expire_at_ms) = (time(word()?)?, time(word()?)?);
        let mut digest = [0; 16];
        hex::decode_to_slice(word()?, &mut digest).ok()?;
        // The empty key is a key.
        let key = hex::decode(word()?).ok()?;
        let seen = Seen { kind, expires_at_ms, fields_expire_at_ms, digest: Digest(digest) };
        word().is_none().then_some(Self { database, key, seen })
    }
}

/// What differs between a recorded key and the same key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It was there for good, or for longer than until now.
    Missing,
    /// It is of another type.
    Kind { was: String, is: String },
    /// Its type is the same.
    Value,
    /// It was to expire and is not any more.
    ExpiryLost,
    /// It expires at another time, or did not use to.
    ExpiryMoved { was: Option<u64>, is: u64 },
}

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Comparison {
    Same,
    /// It has expired since, as it was to.
    Expired,
    /// Some of its fields have expired since, so that its value had to change.
    FieldsExpired,
    Different(Vec<Difference>),
}

/// Compares a recorded key with what it is at `now_ms`, if anything.
pub(super) fn compare(was: &Seen, is: Option<&Seen>, now_ms: u64) -> Comparison {
    let has_passed = |time: Option<u64>| time.is_some_and(|time| time <= now_ms + EXPIRY_TOLERANCE_MS);
    let Some(is) = is else {
        let gone_in_order = has_passed(was.expires_at_ms) || has_passed(was.fields_expire_at_ms);
        return if gone_in_order { Comparison::Expired } else { Comparison::Different(vec![Difference::Missing]) };
    };
    let mut differences = Vec::new();
    match (was.expires_at_ms, is.expires_at_ms) {
        (Some(_), None) => differences.push(Difference::ExpiryLost),
        (Some(one), Some(other)) if one.abs_diff(other) <= EXPIRY_TOLERANCE_MS => {}
        (was, Some(is)) => differences.push(Difference::ExpiryMoved { was, is }),
        (None, None) => {}
    }
    let fields_expired = has_passed(was.fields_expire_at_ms);
    if was.kind != is.kind {
        differences.push(Difference::Kind { was: was.kind.clone(), is: is.kind.clone() });
    } else if was.digest != is.digest && !fields_expired {
        differences.push(Difference::Value);
    }
    match (differences.is_empty(), fields_expired) {
        (true, true) => Comparison::FieldsExpired,
        (true, false) => Comparison::Same,
        (false, _) => Comparison::Different(differences),
    }
}

/// Writes a record beside its place, and puts it there when it is whole.
#[derive(Debug)]
pub(super) struct Recorder {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    keys: u64,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> Result<Self, RecordError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let create = || {
            let mut file = BufWriter::new(NamedTempFile::new_in(directory)?);
            writeln!(file, "{HEADER}")?;
            Ok(file)
        };
        let file = create().map_err(|cause| RecordError::Io { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned(), file, keys: 0 })
    }

    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), RecordError> {
        self.keys += 1;
        let written = self.file.write_all(entry.line().as_bytes());
        written.map_err(|cause| RecordError::Io { path: self.path.clone(), cause })
    }

    /// Puts the record in its place; how many keys it holds.
    pub(super) fn finish(self) -> Result<u64, RecordError> {
        let Self { path, mut file, keys } = self;
        let finish = || {
            writeln!(file, "{END}{keys}")?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(keys)
        };
        finish().map_err(|cause| RecordError::Io { path: path.clone(), cause })
    }
}

/// The keys of a record, one by one.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    done: bool,
}

impl Record {
    pub(super) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = File::open(path).map_err(|cause| RecordError::Io { path: path.to_owned(), cause })?;
        let mut record = Self { path: path.to_owned(), file: BufReader::new(file), line: 0, done: false };
        match record.read_line() {
            Ok(Some(line)) if line == HEADER => Ok(record),
            Ok(_) => Err(RecordError::NotARecord { path: path.to_owned() }),
            // Bytes that are no text.
            Err(RecordError::Io { cause, .. }) if cause.kind() == io::ErrorKind::InvalidData => {
                Err(RecordError::NotARecord { path: path.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn read_line(&mut self) -> Result<Option<String>, RecordError> {
        let mut line = String::new();
        let read =
            self.file.read_line(&mut line).map_err(|cause| RecordError::Io { path: self.path.clone(), cause })?;
        self.line += 1;
        // A line without its end was cut.
        Ok((read > 0).then(|| line.strip_suffix('\n').map(str::to_owned)).flatten())
    }

    /// The next keys, at most `count`; none at the end.
    pub(super) fn take(&mut self, count: usize) -> Result<Vec<Entry>, RecordError> {
        let mut entries = Vec::with_capacity(count);
        while entries.len() < count && !self.done {
            let Some(line) = self.read_line()? else { return Err(RecordError::CutShort { path: self.path.clone() }) };
            match line.strip_prefix(END) {
                // The header is a line too, and so is this one.
                Some(keys) if keys.parse() == Ok(self.line - 2) => self.done = true,
                Some(_) => return Err(RecordError::CutShort { path: self.path.clone() }),
                None => entries.push(Entry::parse(&line).ok_or_else(|| self.garbled())?),
            }
        }
        Ok(entries)
    }

    fn garbled(&self) -> RecordError {
        RecordError::Garbled { path: self.path.clone(), line: self.line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { kind: "hash".into(), expires_at_ms: Some(900_000), fields_expire_at_ms: None, digest: Digest([7; 16]) }
    }

    fn entries() -> Vec<Entry> {
        let lasting = Seen { expires_at_ms: None, fields_expire_at_ms: Some(5), ..seen() };
        vec![
            Entry { database: 0, key: b"a\r\n\0\xff b".to_vec(), seen: seen() },
            Entry { database: 3, key: Vec::new(), seen: lasting },
        ]
    }

    #[test]
    fn a_record_reads_what_it_wrote_and_is_there_only_when_whole() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("record");
        let mut recorder = Recorder::create(&path).expect("writable");
        for entry in entries() {
            recorder.add(&entry).expect("written");
        }
        assert!(!path.exists(), "not yet");
        assert_eq!(recorder.finish().expect("finished"), 2);
        let mut record = Record::open(&path).expect("a record");
        assert_eq!(record.take(1).expect("readable"), entries()[..1]);
        assert_eq!(record.take(9).expect("readable"), entries()[1..]);
        assert_eq!(record.take(9).expect("readable"), []);
        drop(Recorder::create(&path).expect("writable"));
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("record");
        let line = entries()[0].line();
        for (text, reason) in [
            ("", "is no record"),
            ("ballast-verify-record 2\n", "is no record of this version"),
            (&format!("{HEADER}\n{line}"), "is cut short"),
            (&format!("{HEADER}\n{line}end 2\n"), "is cut short"),
            (&format!("{HEADER}\n{line}end 1"), "is cut short"),
            (&format!("{HEADER}\n{line}0 hash x\nend 2\n"), "record:3: not a line"),
        ] {
            std::fs::write(&path, text).expect("written");
            let read = Record::open(&path).and_then(|mut record| record.take(9));
            let error = read.expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert!(Record::open(&directory.path().join("none")).expect_err("not there").to_string().contains("none"));
    }

    #[test]
    fn each_difference_is_told_and_what_time_does_is_none() {
        let different = |is: Option<&Seen>| compare(&seen(), is, 100_000);
        assert_eq!(different(Some(&seen())), Comparison::Same);
        let late = Seen { expires_at_ms: Some(900_900), ..seen() };
        assert_eq!(different(Some(&late)), Comparison::Same, "within a second");
        let only = |difference| Comparison::Different(vec![difference]);
        assert_eq!(different(None), only(Difference::Missing));
        assert_eq!(compare(&seen(), None, 900_000), Comparison::Expired);
        let lasting = Seen { expires_at_ms: None, ..seen() };
        assert_eq!(different(Some(&lasting)), only(Difference::ExpiryLost));
        let moved = Difference::ExpiryMoved { was: Some(900_000), is: 800_000 };
        assert_eq!(different(Some(&Seen { expires_at_ms: Some(800_000), ..seen() })), only(moved));
        let gained = Difference::ExpiryMoved { was: None, is: 900_000 };
        assert_eq!(compare(&lasting, Some(&seen()), 0), only(gained));
        let kind = Difference::Kind { was: "hash".into(), is: "set".into() };
        assert_eq!(different(Some(&Seen { kind: "set".into(), ..seen() })), only(kind));
        let other = Seen { digest: Digest([8; 16]), ..seen() };
        assert_eq!(different(Some(&other)), only(Difference::Value));
        let fleeting = Seen { fields_expire_at_ms: Some(50_000), ..seen() };
        assert_eq!(compare(&fleeting, Some(&other), 100_000), Comparison::FieldsExpired);
    }
}
