//! Commands and replies as values.

use std::fmt;

/// One command: words, some of which are secret and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    words: Vec<Vec<u8>>,
    /// Places in `words` of secrets.
    secret: Vec<usize>,
}

impl Command {
    /// Starts a command from its leading words, parted by spaces: `Command::new("CLUSTER SETSLOT")`.
    #[must_use]
    pub fn new(words: &str) -> Self {
        Self { words: words.split(' ').map(|word| word.as_bytes().to_vec()).collect(), secret: Vec::new() }
    }

    /// Adds a word, written as text.
    #[must_use]
    pub fn arg(self, word: impl fmt::Display) -> Self {
        self.bytes(word.to_string().into_bytes())
    }

    /// Adds a word of any bytes, such as a key.
    #[must_use]
    pub fn bytes(mut self, word: impl Into<Vec<u8>>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds a word that is never shown, such as a password.
    #[must_use]
    pub fn secret(mut self, word: &str) -> Self {
        self.secret.push(self.words.len());
        self.bytes(word.as_bytes())
    }

    /// The words, as they go over the wire.
    #[must_use]
    pub fn words(&self) -> &[Vec<u8>] {
        &self.words
    }
}

/// At most this many words are shown: a MIGRATE may carry a thousand keys.
const SHOWN_WORDS: usize = 12;

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.words.iter().take(SHOWN_WORDS).enumerate() {
            let gap = if place == 0 { "" } else { " " };
            if self.secret.contains(&place) {
                write!(f, "{gap}***")?
            } else {
                write!(f, "{gap}{}", word.escape_ascii())?
            }
        }
        if self.words.len() > SHOWN_WORDS {
            write!(f, " … ({} more)", self.words.len() - SHOWN_WORDS)
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

/// An error that a server replied: its first word says which kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct ServerError {
    /// `ERR`, `MOVED`, `BUSYKEY`, `IOERR`, `NOREPLICAS`, …
    pub code: String,
    /// The rest of the line.
    pub message: String,
}

/// What a server replied to one command.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// Text or bytes, `+OK` among them.
    Bytes(Vec<u8>),
    /// A list. Maps arrive as lists of key, value, key, value.
    List(Vec<Reply>),
    /// A refusal.
    Error(ServerError),
}

/// A reply that is not what the question expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// The server said something else.
    #[error("expected {expected}, got {got}")]
    Unexpected {
        /// What the question reads.
        expected: &'static str,
        /// The start of what came.
        got: String,
    },
}

impl Reply {
    /// The reply, or the server's refusal.
    ///
    /// # Errors
    /// [`ReplyError::Refused`] for an error reply.
    pub fn ok(self) -> Result<Self, ReplyError> {
        match self {
            Self::Error(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }

    /// The number in the reply; numbers written as text count.
    ///
    /// # Errors
    /// [`ReplyError`] for anything else.
    pub fn int(self) -> Result<i64, ReplyError> {
        match self.ok()? {
            Self::Int(number) => Ok(number),
            Self::Bytes(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Self::Bytes(bytes).unexpected("a number")),
            other => Err(other.unexpected("a number")),
        }
    }

    /// The bytes in the reply.
    ///
    /// # Errors
    /// [`ReplyError`] for anything else.
    pub fn bytes(self) -> Result<Vec<u8>, ReplyError> {
        match self.ok()? {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.unexpected("bytes")),
        }
    }

    /// The text in the reply; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// [`ReplyError`] for anything else.
    pub fn text(self) -> Result<String, ReplyError> {
        Ok(match String::from_utf8(self.bytes()?) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// The list in the reply; nil counts as an empty one.
    ///
    /// # Errors
    /// [`ReplyError`] for anything else.
    pub fn list(self) -> Result<Vec<Self>, ReplyError> {
        match self.ok()? {
            Self::List(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            other => Err(other.unexpected("a list")),
        }
    }

    /// The error for a reply that should have been something else.
    #[must_use]
    pub fn unexpected(&self, expected: &'static str) -> ReplyError {
        let mut got = format!("{self:?}");
        if let Some((end, _)) = got.char_indices().nth(120) {
            got.truncate(end);
        }
        ReplyError::Unexpected { expected, got }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let command =
            Command::new("MIGRATE 127.0.0.1 7001").bytes("").arg(0).arg(500).arg("AUTH2").arg("ops").secret("hunter2");
        assert_eq!(command.to_string(), "MIGRATE 127.0.0.1 7001  0 500 AUTH2 ops ***");
        assert_eq!(command.words().last().map(Vec::as_slice), Some(&b"hunter2"[..]));
    }

    #[test]
    fn long_commands_are_shown_by_their_beginning() {
        let command = (0..100).fold(Command::new("MIGRATE"), |command, key| command.arg(key));
        assert!(command.to_string().ends_with("9 10 … (89 more)"), "{command}");
    }

    #[test]
    fn replies_are_read_or_named() {
        assert_eq!(Reply::Bytes(b"17".to_vec()).int(), Ok(17));
        let error = ServerError { code: "ERR".into(), message: "unknown command".into() };
        assert_eq!(Reply::Error(error.clone()).text(), Err(ReplyError::Refused(error)));
        let wrong = Reply::Nil.int().expect_err("nil is no number").to_string();
        assert_eq!(wrong, "expected a number, got Nil");
    }
}
