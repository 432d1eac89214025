//! Settings that tell of users, hosts and paths, marked as such where they are written back for people.
//!
//! The marks stand at the fields of the structs that hold the settings. A marked value is a table of one entry, whose name no key can
//! have; `config show` reads them.

use std::path::PathBuf;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// What a value tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum About {
    /// Nothing that could not be pasted anywhere.
    #[default]
    Anything,
    /// A user.
    User,
    /// Hosts.
    Host,
    /// Hosts perhaps, or words that mean something to a policy.
    Words,
    /// A place in the file system.
    Path,
}

impl About {
    const fn mark(self) -> &'static str {
        match self {
            Self::Anything | Self::Words => "",
            Self::User => "\u{0}user",
            Self::Host => "\u{0}host",
            Self::Path => "\u{0}path",
        }
    }
}

/// The value under its mark, if this is one.
pub(crate) fn unmarked(value: &Value) -> Option<(About, &Value)> {
    let table = value.as_object().filter(|table| table.len() == 1)?;
    [About::User, About::Host, About::Path].into_iter().find_map(|about| Some((about, table.get(about.mark())?)))
}

pub(crate) fn marked<T: Serialize, S: Serializer>(about: About, value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut table = serializer.serialize_map(Some(1))?;
    table.serialize_entry(about.mark(), value)?;
    table.end()
}

pub(crate) fn user<T: Serialize, S: Serializer>(user: &T, serializer: S) -> Result<S::Ok, S::Error> {
    marked(About::User, user, serializer)
}

pub(crate) fn host<T: Serialize, S: Serializer>(host: &T, serializer: S) -> Result<S::Ok, S::Error> {
    marked(About::Host, host, serializer)
}

pub(crate) fn path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = path.as_ref().map(|path| path.display().to_string());
    marked(About::Path, &text, serializer)
}
