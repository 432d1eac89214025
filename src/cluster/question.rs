//! What one node can tell, and how to ask for it: wording and reading, pure.
//!
//! Each question is a value; `cluster::ask` says its commands and gives it the replies. [`Together`] asks several
//! of a kind at once. Which server version understands which question is `capability`'s knowledge.

mod acl;
mod info;
mod jobs;
mod nodes;
mod slots;

use std::collections::BTreeMap;

use super::{Command, Question, Reply, ReplyError};
pub use acl::{DryRun, Rules, Ruling, UserRules};
pub use info::{Info, ReplicaLink, ServerInfo};
pub use jobs::{AtomicJobs, AtomicProtocol, JobOperation, JobRecord};
pub use nodes::ClusterNodes;
pub use slots::{CountKeysInSlots, KeyUse, KeyUses, KeysExist, KeysInSlot, MemoryUsage, SlotStat, SlotStats};

/// Several questions of one kind in one pipeline; the answers come in their order.
#[derive(Debug, Clone)]
pub struct Together<Q>(pub Vec<Q>);

impl<Q: Question> Question for Together<Q> {
    type Answer = Vec<Q::Answer>;

    fn commands(&self) -> Vec<Command> {
        self.0.iter().flat_map(Question::commands).collect()
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        let mut replies = replies.into_iter();
        self.0
            .iter()
            .map(|question| question.read(replies.by_ref().take(question.commands().len()).collect()))
            .collect()
    }
}

/// Whether the node answers at all.
#[derive(Debug, Clone, Copy)]
pub struct Ping;

impl Question for Ping {
    type Answer = ();

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("PING")]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<(), ReplyError> {
        single(replies)?.text().map(drop)
    }
}

/// The time on the server's clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Time;

impl Question for Time {
    type Answer = i64;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("TIME")]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<i64, ReplyError> {
        let mut parts = single(replies)?.list()?.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil).int();
        Ok(next()? * 1000 + next()? / 1000)
    }
}

/// Settings of a server by name; those that it does not know are missing from the answer.
#[derive(Debug, Clone)]
pub struct ConfigGet {
    /// Which settings: exact names.
    pub names: Vec<String>,
}

impl ConfigGet {
    /// Asks for these settings.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect() }
    }
}

impl Question for ConfigGet {
    type Answer = BTreeMap<String, String>;

    /// One command per name, since servers before Redis 7.0 take one only.
    fn commands(&self) -> Vec<Command> {
        self.names.iter().map(|name| Command::new("CONFIG GET").arg(name)).collect()
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Self::Answer, ReplyError> {
        let mut settings = BTreeMap::new();
        for reply in replies {
            for (name, value) in fields(reply)? {
                settings.insert(name, value.text()?);
            }
        }
        Ok(settings)
    }
}

/// Which of these commands the server has: `CLUSTER|SLOT-STATS` names a subcommand.
///
/// Subcommands are known to servers from Redis 7.0 on; older ones answer "no" for all of them.
#[derive(Debug, Clone)]
pub struct KnownCommands {
    /// Commands, lower case, subcommands after a bar.
    pub names: Vec<String>,
}

impl Question for KnownCommands {
    type Answer = Vec<bool>;

    fn commands(&self) -> Vec<Command> {
        vec![self.names.iter().fold(Command::new("COMMAND INFO"), |command, name| command.arg(name))]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<bool>, ReplyError> {
        let entries = single(replies)?.list()?;
        if entries.len() != self.names.len() {
            return Err(Reply::List(entries).unexpected("one entry per command"));
        }
        Ok(entries.into_iter().map(|entry| matches!(entry, Reply::List(parts) if !parts.is_empty())).collect())
    }
}

/// The only reply of a question of one command.
fn single(replies: Vec<Reply>) -> Result<Reply, ReplyError> {
    let mut replies = replies.into_iter();
    match (replies.next(), replies.next()) {
        (Some(reply), None) => Ok(reply),
        (first, _) => Err(first.unwrap_or(Reply::Nil).unexpected("one reply")),
    }
}

/// A map, which RESP2 tells as a list of name, value, name, value.
fn fields(reply: Reply) -> Result<Vec<(String, Reply)>, ReplyError> {
    let mut items = reply.list()?.into_iter();
    let mut fields = Vec::with_capacity(items.len() / 2);
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        fields.push((name.text()?, value));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn settings_are_asked_one_by_one_and_read_together() {
        let question = ConfigGet::of(&["maxmemory", "cluster-databases"]);
        assert_eq!(question.commands().len(), 2);
        let settings = question
            .read(vec![Reply::List(vec![bytes("maxmemory"), bytes("0")]), Reply::List(Vec::new())])
            .expect("readable");
        assert_eq!(settings.get("maxmemory").map(String::as_str), Some("0"));
        assert!(!settings.contains_key("cluster-databases"), "an unknown setting is missing, not an error");
    }

    #[test]
    fn unknown_commands_are_told_by_nil() {
        let question = KnownCommands { names: vec!["cluster|slot-stats".into(), "cluster|migration".into()] };
        let known = question.read(vec![Reply::List(vec![Reply::List(vec![bytes("cluster|slot-stats")]), Reply::Nil])]);
        assert_eq!(known, Ok(vec![true, false]));
    }

    #[test]
    fn together_gives_each_question_its_own_replies() {
        let question = Together(vec![ConfigGet::of(&["a", "b"]), ConfigGet::of(&["c"])]);
        let setting = |name| Reply::List(vec![bytes(name), bytes("1")]);
        let answers = question.read(vec![setting("a"), setting("b"), setting("c")]).expect("readable");
        assert_eq!(answers.iter().map(BTreeMap::len).collect::<Vec<_>>(), [2, 1]);
    }
}
