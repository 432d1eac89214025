//! What a user may do: `ACL DRYRUN` from Redis 7.0 on and on every Valkey, and before that what `ACL GETUSER` lists.

use super::{fields, single};
use crate::cluster::{Command, Question, Reply, ReplyError};

/// May `user` say these commands? Nothing is executed; keys in them count.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// Whom it is about.
    pub user: String,
    /// Whole commands: the server counts their words before it judges them.
    pub commands: Vec<String>,
}

/// What the server thinks of one command in the mouth of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It would execute it.
    Allowed,
    /// It would refuse it, with these words.
    Denied(String),
    /// It does not know the command, or not in this form.
    Unknown(String),
}

impl Question for DryRun {
    type Answer = Vec<Ruling>;

    fn commands(&self) -> Vec<Command> {
        let command = |words: &String| words.split(' ').fold(Command::new("ACL DRYRUN").arg(&self.user), Command::arg);
        self.commands.iter().map(command).collect()
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Vec<Ruling>, ReplyError> {
        replies.into_iter().map(ruling).collect()
    }
}

fn ruling(reply: Reply) -> Result<Ruling, ReplyError> {
    let error = match reply {
        Reply::Error(error) => error,
        reply => {
            let text = reply.text()?;
            return Ok(if text == "OK" { Ruling::Allowed } else { Ruling::Denied(text) });
        }
    };
    // Words about the command in question, not about ours.
    let message = error.message.to_lowercase();
    let about_it = message.starts_with("command '") || message.starts_with("wrong number of arguments for '");
    if about_it && !message.contains("'acl") { Ok(Ruling::Unknown(error.message)) } else { Err(error.into()) }
}

/// The rules of a user, as `ACL GETUSER` tells them.
#[derive(Debug, Clone)]
pub struct UserRules {
    /// Whom it is about.
    pub user: String,
}

/// What a user may do, as far as its rules say so by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// `-@all`, `+ping`, `+cluster|nodes`, in the order in which they count.
    pub commands: Vec<String>,
    /// Whether every key is within reach.
    pub all_keys: bool,
}

impl Question for UserRules {
    type Answer = Rules;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("ACL GETUSER").arg(&self.user)]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Rules, ReplyError> {
        let mut rules = Rules::default();
        for (name, value) in fields(single(replies)?)? {
            match name.as_str() {
                "commands" => rules.commands = value.text()?.split(' ').map(str::to_owned).collect(),
                // A list of patterns before Redis 7.0, a text of them since.
                "keys" => {
                    let patterns = match value {
                        Reply::List(items) => items.into_iter().map(Reply::text).collect::<Result<Vec<_>, _>>()?,
                        text => text.text()?.split(' ').map(str::to_owned).collect(),
                    };
                    rules.all_keys = patterns.iter().any(|pattern| pattern.trim_start_matches('~') == "*");
                }
                _ => {}
            }
        }
        Ok(rules)
    }
}

impl Rules {
    /// Whether `command` (`migrate`, `cluster|nodes`) is allowed; `None` when a category decides of whose commands we
    /// know nothing.
    #[must_use]
    pub fn allow(&self, command: &str) -> Option<bool> {
        let container = command.split('|').next().unwrap_or(command);
        let mut verdict = Some(false);
        for rule in &self.commands {
            let (grants, name) = match rule.split_at_checked(1) {
                Some(("+", name)) => (true, name),
                Some(("-", name)) => (false, name),
                _ => continue,
            };
            if name == "@all" || name == command || name == container {
                verdict = Some(grants);
            } else if name.starts_with('@') && verdict != Some(grants) {
                verdict = None;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServerError;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    fn error(message: &str) -> Reply {
        Reply::Error(ServerError { code: "ERR".into(), message: message.into() })
    }

    #[test]
    fn a_dry_run_asks_for_whole_commands_and_reads_a_ruling_on_each() {
        let question =
            DryRun { user: "ann".into(), commands: vec!["PING".into(), "CLUSTER NODES".into(), "NEWER".into()] };
        assert_eq!(question.commands()[1].to_string(), "ACL DRYRUN ann CLUSTER NODES");
        let denial = "User ann has no permissions to run the 'cluster|nodes' command";
        let rulings = question.read(vec![bytes("OK"), bytes(denial), error("Command 'newer' not found")]);
        let unknown = Ruling::Unknown("Command 'newer' not found".into());
        assert_eq!(rulings.expect("read"), [Ruling::Allowed, Ruling::Denied(denial.into()), unknown]);
    }

    #[test]
    fn a_server_that_rules_on_nothing_is_no_ruling() {
        let question = DryRun { user: "ann".into(), commands: vec!["PING".into()] };
        for words in [
            "Unknown subcommand or wrong number of arguments for 'DRYRUN'. Try ACL HELP.",
            "User 'ann' not found",
            "wrong number of arguments for 'acl|dryrun' command",
        ] {
            assert!(question.read(vec![error(words)]).is_err(), "{words}");
        }
    }

    #[test]
    fn rules_are_read_in_the_form_of_either_generation() {
        for keys in [Reply::List(vec![bytes("*")]), bytes("~*")] {
            let reply = Reply::List(vec![bytes("commands"), bytes("-@all +ping"), bytes("keys"), keys]);
            let rules = UserRules { user: "ann".into() }.read(vec![reply]).expect("read");
            assert_eq!(rules, Rules { commands: vec!["-@all".into(), "+ping".into()], all_keys: true });
        }
    }

    #[test]
    fn rules_tell_of_commands_and_not_of_categories() {
        let allow = |rules: &str, command: &str| {
            Rules { commands: rules.split(' ').map(str::to_owned).collect(), all_keys: true }.allow(command)
        };
        assert_eq!(allow("+@all", "migrate"), Some(true));
        assert_eq!(allow("-@all +ping", "migrate"), Some(false));
        assert_eq!(allow("-@all +cluster|nodes", "cluster|nodes"), Some(true));
        assert_eq!(allow("-@all +cluster|nodes", "cluster|setslot"), Some(false));
        assert_eq!(allow("-@all +cluster", "cluster|setslot"), Some(true));
        assert_eq!(allow("+@all -@dangerous", "migrate"), None);
        assert_eq!(allow("+@all -@dangerous +migrate", "migrate"), Some(true));
        assert_eq!(allow("-@all +@read +ping", "ping"), Some(true));
    }
}
