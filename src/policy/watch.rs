//! Watches a policy's file and tries every new version, off the loop, before anyone depends on it.
//!
//! The *directory* is watched, not the file: editors and ConfigMaps replace the file, and then nothing ever happens
//! to the old one again. What counts is the content's digest, so that a touched file is no new policy. A deleted file
//! changes nothing. The watch never swaps anything: it hands over what passed, and `control` swaps between cycles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::failure::LoadFailure;
use super::host::{Ground, PolicyHost, digest, try_on};
use super::loaded::LoadedPolicy;
use super::{Policy, Source};

/// Quiet time before a changed file is read: writers take several steps. One who pauses for longer is found out by a file that is
/// cut short.
const DEBOUNCE: Duration = Duration::from_millis(25);

/// How often the file is looked at without being told to: network file systems tell nobody.
const POLL: Duration = Duration::from_secs(5);

/// How long a file that is cut short may take to become whole before that is news: a slow copy is no mistake.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often such a file is read again in the meantime.
const RETRY: Duration = Duration::from_millis(200);

/// What became of a new version of the file.
#[derive(Debug)]
pub enum Reload {
    /// It passed; swap it in between two cycles.
    Ready(Box<LoadedPolicy>),
    /// It did not; whatever ran before goes on.
    Rejected(LoadFailure),
}

/// The watch cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the directory '{}' cannot be watched", directory.display())]
pub struct WatchError {
    directory: PathBuf,
    #[source]
    cause: notify::Error,
}

/// Watches one policy file until it is dropped.
pub struct PolicyWatch {
    host: PolicyHost,
    path: PathBuf,
    ground: watch::Receiver<Ground>,
    /// Holds the operating system's watch; dropped with this.
    _watcher: RecommendedWatcher,
    /// Full means that a change is known already.
    changes: mpsc::Receiver<()>,
    /// Digest of the last content that was judged, well or ill.
    judged: Option<String>,
    /// Since when the file has been cut short.
    cut_since: Option<Instant>,
}

/// What one look at the file led to.
enum Look {
    /// Nothing new.
    Same,
    /// Perhaps still being written; look again soon.
    Unfinished,
    /// A new version, judged.
    Judged(Reload),
}

impl PolicyWatch {
    /// Watches the directory of `path`; `ground` is what new versions are tried on, kept current by its sender.
    ///
    /// # Errors
    /// When the directory cannot be watched: most often because it is not there.
    pub fn new(host: PolicyHost, path: &Path, ground: watch::Receiver<Ground>) -> Result<Self, WatchError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (tell, changes) = mpsc::channel(1);
        let heard = move |event: notify::Result<notify::Event>| match event {
            // Reading the file is an event as well, and must not lead to reading it again.
            Ok(event) if event.kind.is_access() => {}
            // The channel being full means that a look is due anyhow.
            Ok(_) => drop(tell.try_send(())),
            Err(error) => warn!(%error, "watching the policy failed; polling goes on"),
        };
        let failed = |cause| WatchError { directory: directory.to_owned(), cause };
        let mut watcher = notify::recommended_watcher(heard).map_err(failed)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { host, path: path.to_owned(), ground, _watcher: watcher, changes, judged: None, cut_since: None })
    }

    /// Watches until nobody listens to `reloads`. Cancelling it at any point loses nothing but the trial under way.
    pub async fn run(mut self, reloads: mpsc::Sender<Reload>) {
        // What was there before the watch began is looked at first: it may have changed since it was loaded.
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                // A watcher that died leaves the poll.
                Some(()) = self.changes.recv() => self.settle().await,
                () = reloads.closed() => return,
            }
            next = Instant::now() + POLL;
            match self.look().await {
                Look::Same => {}
                Look::Unfinished => next = Instant::now() + RETRY,
                Look::Judged(reload) => {
                    if reloads.send(reload).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until nothing has happened for a moment; a file that never comes to rest is looked at all the same.
    async fn settle(&mut self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match tokio::time::timeout(DEBOUNCE, self.changes.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    async fn look(&mut self) -> Look {
        let ground = self.ground.borrow().clone();
        let (host, path, judged) = (self.host.clone(), self.path.clone(), self.judged.clone());
        // Reading, compiling and trying block for milliseconds to seconds, so they have a thread of their own.
        let looked = tokio::task::spawn_blocking(move || examine(&host, &path, judged.as_deref(), &ground)).await;
        let (digest, judgement) = match looked {
            Ok(Seen::New(digest, judgement)) => (digest, judgement),
            Ok(seen) => {
                self.cut_since = None;
                // A version that was refused once is news again when it comes back after the live one.
                if matches!(seen, Seen::Live) {
                    self.judged = None;
                }
                return Look::Same;
            }
            Err(panic) => {
                warn!(error = %panic, "trying a new policy failed in the host itself");
                return Look::Same;
            }
        };
        if let Reload::Rejected(failure) = &judgement
            && failure.unfinished
        {
            let since = *self.cut_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                debug!(reason = %failure.reason, "policy file unfinished; looking again");
                return Look::Unfinished;
            }
        }
        self.cut_since = None;
        self.judged = Some(digest);
        Look::Judged(judgement)
    }
}

/// What a look at the file found.
enum Seen {
    /// No file: whoever deletes it takes nothing back.
    Nothing,
    /// The policy that is live.
    Live,
    /// What was judged before.
    Known,
    /// Something else, by its digest.
    New(String, Reload),
}

/// Judges the file's content, unless that is settled already.
fn examine(host: &PolicyHost, path: &Path, judged: Option<&str>, ground: &Ground) -> Seen {
    let source = Source::File(path.to_owned());
    if !path.exists() {
        return Seen::Nothing;
    }
    let bytes = host.read(&source);
    let digest = match &bytes {
        Ok(bytes) => digest(bytes),
        Err(failure) => failure.reason.clone(),
    };
    if ground.live.as_deref() == Some(&digest) {
        return Seen::Live;
    }
    if judged == Some(&digest) {
        return Seen::Known;
    }
    let loaded = bytes
        .and_then(|bytes| host.load_bytes(&source, bytes, &ground.parameters))
        .and_then(|policy| try_on(policy, ground));
    match loaded {
        Ok(policy) => {
            debug!(policy = %policy.id(), "new policy passed its trial");
            Seen::New(digest, Reload::Ready(Box::new(policy)))
        }
        Err(failure) => Seen::New(digest, Reload::Rejected(failure)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::policy::testing::{Fixture, host, snapshot};
    use crate::policy::{Policy, Stage};

    /// A watched file in a directory of its own.
    struct Scene {
        directory: tempfile::TempDir,
        reloads: mpsc::Receiver<Reload>,
        ground: watch::Sender<Ground>,
    }

    impl Scene {
        /// Watches `policy.wasm`, which `live` was loaded from.
        fn begin(live: &Fixture) -> Self {
            let directory = tempfile::tempdir().expect("room");
            fs::write(directory.path().join("policy.wasm"), live.module()).expect("writable");
            Self::watch(directory, live)
        }

        fn watch(directory: tempfile::TempDir, live: &Fixture) -> Self {
            let ground =
                Ground { live: Some(digest(&live.module())), snapshot: Some(snapshot(3)), ..Ground::default() };
            let (ground, seen) = watch::channel(ground);
            let (tell, reloads) = mpsc::channel(4);
            let policies = PolicyWatch::new(host(), &directory.path().join("policy.wasm"), seen).expect("watchable");
            tokio::spawn(policies.run(tell));
            Self { directory, reloads, ground }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("policy.wasm")
        }

        /// Writes beside and renames, as a careful author does.
        fn replace(&self, bytes: &[u8]) {
            let beside = self.directory.path().join("policy.new");
            fs::write(&beside, bytes).expect("writable");
            fs::rename(beside, self.path()).expect("same directory");
        }

        async fn next(&mut self) -> Reload {
            let patience = Duration::from_secs(20);
            tokio::time::timeout(patience, self.reloads.recv()).await.expect("news in time").expect("it watches")
        }

        async fn ready(&mut self) -> Box<LoadedPolicy> {
            match self.next().await {
                Reload::Ready(policy) => {
                    let live = Some(policy.digest().to_owned());
                    self.ground.send_modify(|ground| ground.live = live);
                    policy
                }
                Reload::Rejected(failure) => panic!("{failure}"),
            }
        }

        async fn rejected(&mut self) -> LoadFailure {
            match self.next().await {
                Reload::Rejected(failure) => failure,
                Reload::Ready(policy) => panic!("{} is no good", policy.id()),
            }
        }
    }

    fn version(version: &'static str) -> Fixture {
        Fixture { version, ..Fixture::default() }
    }

    #[tokio::test]
    async fn a_new_version_is_ready_soon_after_it_is_saved() {
        let mut scene = Scene::begin(&version("0.1.0"));
        let saved = Instant::now();
        scene.replace(&version("0.2.0").module());
        let mut policy = scene.ready().await;
        let took = saved.elapsed();
        assert_eq!((policy.id().version.as_str(), policy.stats().calls), ("0.2.0", 0));
        policy.plan(&snapshot(3)).expect("it answers");
        println!("from save to ready: {took:?}");
        assert!(took < POLL, "the event and not the poll told: {took:?}");
    }

    #[tokio::test]
    async fn overwriting_in_place_is_noticed_too() {
        let mut scene = Scene::begin(&version("0.1.0"));
        fs::write(scene.path(), version("0.2.0").module()).expect("writable");
        assert_eq!(scene.ready().await.id().version, "0.2.0");
    }

    #[tokio::test]
    async fn a_broken_version_is_refused_once_and_the_next_one_taken() {
        let mut scene = Scene::begin(&version("0.1.0"));
        scene.replace(b"<html>404</html>");
        assert_eq!(scene.rejected().await.stage, Stage::Recognise);
        scene.replace(&Fixture::planning("unreachable").module());
        assert_eq!(scene.rejected().await.stage, Stage::Trial);
        // Touched but not changed, then deleted: no news. The next news is the next version.
        scene.replace(&Fixture::planning("unreachable").module());
        fs::remove_file(scene.path()).expect("there");
        scene.replace(&version("0.3.0").module());
        assert_eq!(scene.ready().await.id().version, "0.3.0");
    }

    #[tokio::test]
    async fn a_slow_writer_is_waited_for() {
        let mut scene = Scene::begin(&version("0.1.0"));
        let whole = version("0.2.0").module();
        fs::write(scene.path(), &whole[..whole.len() / 2]).expect("writable");
        // Longer than the debounce, so that half of it is seen; how long exactly does not matter.
        tokio::time::timeout(DEBOUNCE * 3, scene.reloads.recv()).await.expect_err("half a file is no news yet");
        fs::write(scene.path(), &whole).expect("writable");
        assert_eq!(scene.ready().await.id().version, "0.2.0");
    }

    #[tokio::test]
    async fn a_file_that_stays_cut_short_is_refused_in_the_end() {
        let mut scene = Scene::begin(&version("0.1.0"));
        let whole = version("0.2.0").module();
        let saved = Instant::now();
        scene.replace(&whole[..whole.len() / 2]);
        assert!(scene.rejected().await.reason.contains("cut short"));
        assert!(saved.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_configmap_that_swaps_a_directory_is_followed() {
        let directory = tempfile::tempdir().expect("room");
        let root = directory.path().to_owned();
        let mount = |name: &str, version: Fixture| {
            fs::create_dir(root.join(name)).expect("writable");
            fs::write(root.join(name).join("policy.wasm"), version.module()).expect("writable");
        };
        mount("..2026_01", version("0.1.0"));
        std::os::unix::fs::symlink("..2026_01", root.join("..data")).expect("writable");
        std::os::unix::fs::symlink("..data/policy.wasm", root.join("policy.wasm")).expect("writable");
        let mut scene = Scene::watch(directory, &version("0.1.0"));
        mount("..2026_02", version("0.2.0"));
        std::os::unix::fs::symlink("..2026_02", root.join("..data_tmp")).expect("writable");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("same directory");
        assert_eq!(scene.ready().await.id().version, "0.2.0");
    }

    #[tokio::test]
    async fn the_live_version_is_no_news_and_a_change_before_the_watch_is() {
        let directory = tempfile::tempdir().expect("room");
        fs::write(directory.path().join("policy.wasm"), version("0.2.0").module()).expect("writable");
        let mut scene = Scene::watch(directory, &version("0.1.0"));
        assert_eq!(scene.ready().await.id().version, "0.2.0", "it changed between load and watch");
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_watched() {
        let (_keep, ground) = watch::channel(Ground::default());
        let failed = PolicyWatch::new(host(), Path::new("/no/such/directory/policy.wasm"), ground);
        assert!(failed.is_err_and(|error| error.to_string().contains("/no/such/directory")));
    }

    #[test]
    fn what_is_tried_can_be_sent_to_other_threads() {
        fn sendable<T: Send>() {}
        sendable::<Reload>();
        sendable::<Arc<PolicyHost>>();
    }
}
