//! Watches the directory of the configuration file, and tells when the file's content changed.
//!
//! The directory, not the file: editors and ConfigMaps replace the file, and then nothing ever happens to the old one
//! again. What the content means, and whether it is any good, the loop finds out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

/// Quiet time before a changed file is read: writers take several steps.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long a file that never comes to rest may put off being read.
const RESTLESS_MAX: Duration = Duration::from_secs(2);
/// How often the file is looked at without being told to: network file systems tell nobody.
const POLL: Duration = Duration::from_secs(10);

/// Watches one file until it is dropped.
pub(super) struct ConfigWatch {
    path: Option<PathBuf>,
    /// Holds the operating system's watch; absent when there is no file, or when only polling is left.
    _watcher: Option<RecommendedWatcher>,
    /// Full means that a change is known already.
    changes: mpsc::Receiver<()>,
    /// Digest of the content that was told of last.
    known: Option<[u8; 32]>,
    next_poll: Instant,
}

impl ConfigWatch {
    /// Watches `path`. Whatever it holds now counts as a change, since it may have changed after it was read and before
    /// this began. Without a path nothing ever happens.
    pub(super) fn new(path: Option<&Path>) -> Self {
        let (tell, changes) = mpsc::channel(1);
        let watcher = path.and_then(|path| match watch(path, tell) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(%error, path = %path.display(), "the configuration's directory cannot be watched; it is polled");
                None
            }
        });
        Self { path: path.map(Path::to_owned), _watcher: watcher, changes, known: None, next_poll: Instant::now() }
    }

    /// Waits until the content is another one. Safe to drop half-way: the change is then found at the next poll.
    pub(super) async fn changed(&mut self) {
        let Some(path) = self.path.clone() else { return std::future::pending().await };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.next_poll) => {}
                // A watcher that is not there leaves the poll.
                Some(()) = self.changes.recv() => {
                    // A change that is forgotten by being dropped in the pause that follows must not wait for long.
                    self.next_poll = Instant::now();
                    self.settle().await;
                }
            }
            self.next_poll = Instant::now() + POLL;
            // A file that is gone, or not readable for a moment, is no new configuration.
            let now = digest(&path);
            if now.is_some() && now != self.known {
                self.known = now;
                return;
            }
        }
    }

    async fn settle(&mut self) {
        let end = Instant::now() + RESTLESS_MAX;
        while Instant::now() < end {
            match tokio::time::timeout(DEBOUNCE, self.changes.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn watch(path: &Path, tell: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let heard = move |event: notify::Result<notify::Event>| match event {
        // Reading the file is an event as well, and must not lead to reading it again.
        Ok(event) if event.kind.is_access() => {}
        // The channel being full means that a look is due anyhow.
        Ok(_) => drop(tell.try_send(())),
        Err(error) => warn!(%error, "watching the configuration failed; polling goes on"),
    };
    let mut watcher = notify::recommended_watcher(heard)?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_told_of_once_and_a_touched_one_never() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("daemon.toml");
        std::fs::write(&path, "mode = 'dry-run'").expect("writes");
        let mut watch = ConfigWatch::new(Some(&path));
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, watch.changed()).await.expect("tells of what is there");
        std::fs::write(&path, "mode = 'dry-run'").expect("writes the same");
        let beside = directory.path().join("new");
        std::fs::write(&beside, "mode = 'auto'").expect("writes");
        std::fs::rename(&beside, &path).expect("replaces");
        tokio::time::timeout(patience, watch.changed()).await.expect("tells of the change");
        assert_eq!(watch.known, digest(&path), "the last content is the one that is known");
        std::fs::write(&path, "mode = 'auto'").expect("writes the same");
        tokio::time::timeout(DEBOUNCE * 4, watch.changed()).await.expect_err("nothing changed");
    }
}
