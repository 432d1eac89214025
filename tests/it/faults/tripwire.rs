//! Stands between the engine and the servers, and halts it at one call.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Cluster, Command, Lane, LinkError, Reply};
use ballast::model::Address;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use tokio::sync::Notify;

/// Where in a call the engine is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nothing is sent yet: a step boundary.
    Before,
    /// It is on its way, and the servers may be at it.
    Within,
    /// The servers have done it, and the engine has not heard so.
    After,
}

impl Moment {
    pub(super) const ALL: [Self; 3] = [Self::Before, Self::Within, Self::After];
}

/// Real servers, and a wire across one call.
pub(super) struct Tripwire {
    servers: Arc<LiveCluster>,
    calls: AtomicUsize,
    at: Option<(usize, Moment)>,
    reached: Notify,
    go_on: Notify,
    /// Whom the engine cannot reach now.
    cut_off: Mutex<Option<Address>>,
    diary: Diary,
}

/// What was said and heard, for whoever has to understand a story that failed. Printed when a test panics.
#[derive(Clone)]
pub(super) struct Diary(Arc<Mutex<(Instant, Vec<String>)>>);

impl Diary {
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), Vec::new()))))
    }

    pub(super) fn note(&self, line: impl Display) {
        let mut pages = self.0.lock().expect("no holder panics");
        let line = format!("{:>6} ms {line}", pages.0.elapsed().as_millis());
        pages.1.push(line);
    }
}

impl Drop for Diary {
    #[expect(clippy::print_stdout, reason = "what a test tells")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = std::mem::take(&mut self.0.lock().expect("no holder panics").1);
            println!("{}", lines.join("\n"));
        }
    }
}

/// A call in few words: commands of one kind are counted.
fn brief(node: &Address, commands: &[Command]) -> String {
    let words = |command: &Command| command.to_string().split(' ').take(6).collect::<Vec<_>>().join(" ");
    let first = commands.first().map(words).unwrap_or_default();
    format!("{node} {first} … {} commands", commands.len())
}

/// What came of it: the first refusal, if there is one.
fn outcome(result: &Result<Vec<Reply>, LinkError>) -> String {
    match result {
        Err(error) => error.to_string(),
        Ok(replies) => {
            let refusal =
                replies.iter().find_map(|reply| if let Reply::Error(error) = reply { Some(error) } else { None });
            refusal.map_or("fine".to_owned(), ToString::to_string)
        }
    }
}

impl Tripwire {
    /// Halts whoever makes the `call`-th call, counted from 0; nobody, without one.
    pub(super) fn at(at: Option<(usize, Moment)>, diary: &Diary) -> Arc<Self> {
        // As a new process would, without the connections of an old one.
        let servers = Arc::new(LiveCluster::new(Access::default()));
        let (reached, go_on) = (Notify::new(), Notify::new());
        Arc::new(Self {
            servers,
            calls: AtomicUsize::new(0),
            at,
            reached,
            go_on,
            cut_off: Mutex::default(),
            diary: diary.clone(),
        })
    }

    /// How many calls were made so far.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Returns when the engine stands at the wire.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the engine go on.
    pub(super) fn release(&self) {
        self.go_on.notify_one();
    }

    /// From now on nothing gets to this node, and nobody says so; `None` ends that.
    pub(super) fn cut_off(&self, node: Option<Address>) {
        *self.cut_off.lock().expect("no holder panics") = node;
    }

    async fn swallow(&self, node: &Address, patience: Duration) -> Result<Vec<Reply>, LinkError> {
        // The caller's patience, or enough of it.
        tokio::time::sleep(patience.min(Duration::from_secs(1))).await;
        Err(LinkError::Lost { node: node.clone(), detail: "cut off".to_owned() })
    }

    async fn halt(&self) {
        self.diary.note("the engine is halted");
        self.reached.notify_one();
        self.go_on.notified().await;
    }
}

impl Cluster for Tripwire {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let moment = self.at.filter(|(at, _)| *at == number).map(|(_, moment)| moment);
        let call = self.servers.call(node, lane, commands, patience);
        async move {
            let is_cut_off = || self.cut_off.lock().expect("no holder panics").as_ref() == Some(node);
            let result = match moment {
                _ if is_cut_off() => self.swallow(node, patience).await,
                None => call.await,
                Some(Moment::Before) => {
                    self.halt().await;
                    call.await
                }
                // Both are polled in turn: the commands are on their way before anybody hears of the halt.
                Some(Moment::Within) => join(call, self.halt()).await.0,
                Some(Moment::After) => {
                    let result = call.await;
                    self.halt().await;
                    result
                }
            };
            self.diary.note(format_args!("{number}: {}: {}", brief(node, commands), outcome(&result)));
            result
        }
        .boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        self.servers.credentials()
    }
}
