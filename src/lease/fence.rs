//! Turns away what would change anything while this daemon may not act.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::time::{ClockId, clock_gettime};

use super::Term;
use crate::cluster::{Cluster, Command, Lane, LinkError, Reply};
use crate::model::Address;

/// Time since this machine booted, suspended or not. Nobody can set it, and it goes on while a process is frozen.
#[must_use]
pub(super) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).expect("Linux has this clock since 2.6.39")
}

/// Whether this daemon may change anything. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The term that the lease is held in, and until when, since boot.
    held: Option<(Term, Duration)>,
    /// The term whose inheritance was taken over.
    accepted: Option<Term>,
}

impl Fence {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Both fields are replaced whole, so a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease is held until `until`, since boot.
    pub(super) fn extend(&self, term: Term, until: Duration) {
        self.state().held = Some((term, until));
    }

    /// The lease is not held.
    pub(super) fn close(&self) {
        self.state().held = None;
    }

    /// What `term` inherited was taken over: it may act.
    pub(super) fn accept(&self, term: Term) {
        self.state().accepted = Some(term);
    }

    /// The term in which this daemon may act, at this very moment.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.open().map(|(term, _)| term)
    }

    /// The same, and for how long at least.
    fn open(&self) -> Option<(Term, Duration)> {
        let state = self.state();
        let (term, until) = state.held?;
        let left = until.checked_sub(since_boot()).filter(|left| !left.is_zero())?;
        (state.accepted == Some(term)).then_some((term, left))
    }
}

/// A cluster that is only looked at while the fence is closed.
pub struct Fenced {
    inner: Arc<dyn Cluster>,
    fence: Fence,
}

impl Fenced {
    /// `inner` behind `fence`.
    #[must_use]
    pub fn new(inner: Arc<dyn Cluster>, fence: Fence) -> Self {
        Self { inner, fence }
    }
}

impl Cluster for Fenced {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        async move {
            let Some(command) = commands.iter().find(|command| !only_looks(command)) else {
                return self.inner.call(node, lane, commands, patience).await;
            };
            // Asked when the call is about to be made, not when somebody prepared it.
            let Some((_, left)) = self.fence.open() else {
                let what = command.words().first().map(|word| word.escape_ascii().to_string()).unwrap_or_default();
                let detail = format!("{what} is not said: the lease to act may be another daemon's by now");
                return Err(LinkError::Refused { node: node.clone(), detail });
            };
            // Making a connection may take longer than the lease lasts: given up by then, nothing was said.
            match tokio::time::timeout(left, self.inner.call(node, lane, commands, patience)).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(LinkError::Lost { node: node.clone(), detail: "the lease to act ran out meanwhile".into() })
                }
            }
        }
        .boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        self.inner.credentials()
    }
}

/// Commands that change nothing, by their first words. What is not named here counts as a change.
const LOOKS: &[&str] = &[
    "ACL DRYRUN",
    "ACL GETUSER",
    "ACL WHOAMI",
    "CLUSTER COUNTKEYSINSLOT",
    "CLUSTER GETKEYSINSLOT",
    "CLUSTER GETSLOTMIGRATIONS",
    "CLUSTER INFO",
    "CLUSTER LINKS",
    "CLUSTER MIGRATION STATUS",
    "CLUSTER MYID",
    "CLUSTER NODES",
    "CLUSTER SHARDS",
    "CLUSTER SLOT-STATS",
    "CLUSTER SLOTS",
    "COMMAND",
    "CONFIG GET",
    "DBSIZE",
    "EXISTS",
    "FUNCTION DUMP",
    "FUNCTION LIST",
    "INFO",
    "MEMORY USAGE",
    "PING",
    "ROLE",
    "SCAN",
    // Turns to another database for the questions after it.
    "SELECT",
    "TIME",
    "TYPE",
    "WAIT",
];

fn only_looks(command: &Command) -> bool {
    let words = command.words();
    LOOKS.iter().any(|look| {
        let mut said = words.iter();
        look.split(' ').all(|word| said.next().is_some_and(|said| said.eq_ignore_ascii_case(word.as_bytes())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Willing;

    impl Cluster for Willing {
        fn call<'a>(
            &'a self,
            _: &'a Address,
            _: Lane,
            commands: &'a [Command],
            _: Duration,
        ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
            async move { Ok(commands.iter().map(|_| Reply::Nil).collect()) }.boxed()
        }

        fn credentials(&self) -> Option<(Option<String>, String)> {
            None
        }
    }

    async fn say(cluster: &Fenced, words: &[&str]) -> bool {
        let commands: Vec<Command> = words.iter().map(|words| Command::new(words)).collect();
        let node = Address::new("127.0.0.1", 7000);
        cluster.call(&node, Lane::Control, &commands, Duration::from_secs(1)).await.is_ok()
    }

    #[tokio::test]
    async fn only_questions_pass_unless_the_lease_is_held_accepted_and_young() {
        let fence = Fence::default();
        let cluster = Fenced::new(Arc::new(Willing), fence.clone());
        let (term, later) = (Term(7), since_boot() + Duration::from_secs(60));
        let change = ["CLUSTER COUNTKEYSINSLOT 1", "CLUSTER SETSLOT 1 STABLE"];
        assert!(say(&cluster, &["CLUSTER NODES", "info replication"]).await);
        assert!(!say(&cluster, &change).await, "no lease");
        fence.extend(term, later);
        assert!(!say(&cluster, &change).await, "what was left behind is not taken over yet");
        fence.accept(term);
        assert!(say(&cluster, &change).await);
        fence.extend(Term(9), later);
        assert!(!say(&cluster, &change).await, "another term is another inheritance");
        fence.accept(Term(9));
        fence.extend(Term(9), since_boot());
        assert!(!say(&cluster, &change).await, "it has run out");
        fence.extend(Term(9), later);
        fence.close();
        assert!(!say(&cluster, &change).await, "it is lost");
    }

    #[tokio::test]
    async fn whatever_changes_a_server_counts_as_a_change() {
        let cluster = Fenced::new(Arc::new(Willing), Fence::default());
        for change in [
            "MIGRATE h 1 k 0 1",
            "CLUSTER MEET h 1",
            "CLUSTER FORGET id",
            "CLUSTER RESET SOFT",
            "CLUSTER REPLICATE id",
            "CLUSTER BUMPEPOCH",
            "CLUSTER MIGRATION IMPORT 1 2",
            "CLUSTER MIGRATION CANCEL ALL",
            "CLUSTER MIGRATESLOTS",
            "CLUSTER CANCELSLOTMIGRATIONS",
            "CLUSTER",
            "CONFIG SET a b",
            "FUNCTION RESTORE x",
            "MULTI",
            "EXEC",
            "EVAL x",
        ] {
            assert!(!say(&cluster, &["PING", change]).await, "{change}");
        }
    }
}
