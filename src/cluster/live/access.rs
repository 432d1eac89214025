//! With what we introduce ourselves: user, password, TLS. Secrets are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the password comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Password {
    /// None is needed.
    #[default]
    Absent,
    /// This one.
    Given(Secret),
    /// The first line of this file, read anew for each connection.
    File(PathBuf),
}

impl Password {
    /// The password as it is now.
    ///
    /// # Errors
    /// [`AccessError`] when its file cannot be read.
    pub fn read(&self) -> Result<Option<Secret>, AccessError> {
        match self {
            Self::Absent => Ok(None),
            Self::Given(secret) => Ok(Some(secret.clone())),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|cause| AccessError::unreadable(path, cause))?;
                Ok(Some(Secret::new(text.lines().next().unwrap_or_default())))
            }
        }
    }
}

/// How TLS is to be spoken. Files are PEM and read anew for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whom to trust; the system's certificates when absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, where servers ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Accept any certificate: for trials only, since anybody may then answer in a node's place.
    pub insecure: bool,
}

impl Tls {
    pub(super) fn certificates(&self) -> Result<redis::TlsCertificates, AccessError> {
        let read = |path: &Path| std::fs::read(path).map_err(|cause| AccessError::unreadable(path, cause));
        let client_tls = match &self.client {
            None => None,
            Some((certificate, key)) => {
                Some(redis::ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
        };
        Ok(redis::TlsCertificates { client_tls, root_cert: self.ca_file.as_deref().map(read).transpose()? })
    }
}

/// How we introduce ourselves to every node of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The ACL user; the default one when absent.
    pub user: Option<String>,
    /// Its password.
    pub password: Password,
    /// Speak TLS, in this way.
    pub tls: Option<Tls>,
}

/// A password or certificate that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {cause}")]
pub struct AccessError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub cause: std::io::Error,
}

impl AccessError {
    fn unreadable(path: &Path, cause: std::io::Error) -> Self {
        Self { path: path.to_owned(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let access = Access {
            user: Some("ops".into()),
            password: Password::Given(Secret::new("hunter2")),
            tls: Some(Tls::default()),
        };
        assert!(!format!("{access:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_file_is_read_anew_each_time() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("password");
        let password = Password::File(path.clone());
        assert!(password.read().is_err(), "no such file yet");
        for text in ["first", "second"] {
            std::fs::write(&path, format!("{text}\n")).expect("written");
            assert_eq!(password.read().expect("readable"), Some(Secret::new(text)));
        }
    }
}
