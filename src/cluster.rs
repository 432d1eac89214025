//! The one seam to servers: say commands to a node, get its replies.
//!
//! [`Cluster`] has two implementations: `live` speaks to real servers (the only user of the redis crate), and tests
//! may script one. Everything above says what it wants to know as a [`Question`], whose wording and reading are pure.

pub mod capability;
pub mod live;
pub mod question;
mod wire;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::model::Address;
pub use wire::{Command, Reply, ReplyError, ServerError};

/// Which connection to a node a call takes: a MIGRATE that blocks must not hold up a question or a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Questions, `SETSLOT`.
    Control,
    /// Calls that may block the server: MIGRATE and its `GETKEYSINSLOT`.
    Transfer,
    /// Short questions that are timed: nothing else of ours may be in their way.
    Probe,
}

/// A call that got no replies.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Nothing was sent: the servers are as they were.
    #[error("{node}: no connection: {detail}")]
    Unreachable {
        /// Whom we called.
        node: Address,
        /// What the connection said.
        detail: String,
    },
    /// The node turned us away before any command: wrong password, TLS, not allowed.
    #[error("{node}: refused the connection: {detail}")]
    Refused {
        /// Whom we called.
        node: Address,
        /// What the server said.
        detail: String,
    },
    /// Commands were sent and their outcome is unknown: ask before going on.
    #[error("{node}: no reply: {detail}")]
    Lost {
        /// Whom we called.
        node: Address,
        /// Time-out, or what broke.
        detail: String,
    },
}

/// How we reach nodes and say commands to them.
pub trait Cluster: Send + Sync {
    /// Sends `commands` to `node` in one pipeline; one reply per command, in order. A server's error is a reply.
    ///
    /// Waits at most `patience` for all replies together. Dropping the future may leave the commands executed.
    ///
    /// # Errors
    /// [`LinkError`] when there are no replies; it says whether anything was sent.
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>>;

    /// The user (if not the default one) and password with which the *servers* have to reach each other in MIGRATE:
    /// the same that we use.
    fn credentials(&self) -> Option<(Option<String>, String)>;
}

/// Something that one node can tell: its wording, and how to read the replies. Pure.
pub trait Question {
    /// What it tells.
    type Answer;

    /// The commands to send, in one pipeline.
    fn commands(&self) -> Vec<Command>;

    /// Reads the replies, one per command.
    ///
    /// # Errors
    /// [`ReplyError`] when the server refused or said something else than expected.
    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError>;
}

/// A question without an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// No replies.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Replies, but not an answer.
    #[error("{node}: {command}")]
    Reply {
        /// Whom we asked.
        node: Address,
        /// What we said first.
        command: String,
        /// What was wrong with the reply.
        #[source]
        cause: ReplyError,
    },
}

/// Says one command to `node`, on the control lane.
///
/// # Errors
/// [`AskError`] when there is no reply, or the node refused.
pub async fn say(
    cluster: &dyn Cluster,
    node: &Address,
    command: Command,
    patience: Duration,
) -> Result<Reply, AskError> {
    let shown = command.to_string();
    let replies = cluster.call(node, Lane::Control, &[command], patience).await?;
    let reply = replies.into_iter().next().unwrap_or(Reply::Nil);
    reply.ok().map_err(|cause| AskError::Reply { node: node.clone(), command: shown, cause })
}

/// Asks `node` a question, on the control lane.
///
/// # Errors
/// [`AskError`] when there is no reply, or it is no answer.
pub async fn ask<Q: Question>(
    cluster: &dyn Cluster,
    node: &Address,
    question: &Q,
    patience: Duration,
) -> Result<Q::Answer, AskError> {
    let commands = question.commands();
    let replies = cluster.call(node, Lane::Control, &commands, patience).await?;
    question.read(replies).map_err(|cause| AskError::Reply {
        node: node.clone(),
        command: commands.first().map(ToString::to_string).unwrap_or_default(),
        cause,
    })
}
