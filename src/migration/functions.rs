//! Functions do not travel with keys: whoever calls one on a node that lacks it is refused. Pure.
//!
//! Only Redis' own atomic migration takes them along. So before any other, the target has to know every library of the
//! source, with the same code.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::survey::Objection;
use crate::cluster::{Command, Question, Reply, ReplyError};

/// Libraries by name, each with the hash of its code.
pub(super) type Libraries = BTreeMap<String, [u8; 32]>;

/// Which libraries of functions does the node have?
#[derive(Debug)]
pub(super) struct FunctionList;

impl Question for FunctionList {
    type Answer = Libraries;

    fn commands(&self) -> Vec<Command> {
        vec![Command::new("FUNCTION LIST WITHCODE")]
    }

    fn read(&self, replies: Vec<Reply>) -> Result<Libraries, ReplyError> {
        match replies.into_iter().next().unwrap_or(Reply::Nil) {
            // Before Redis 7.0 there were none.
            Reply::Error(error) if error.message.starts_with("unknown command") => Ok(Libraries::new()),
            reply => reply.list()?.into_iter().map(library).collect(),
        }
    }
}

fn library(entry: Reply) -> Result<(String, [u8; 32]), ReplyError> {
    let mut words = entry.list()?.into_iter();
    let (mut name, mut code) = (None, None);
    while let (Some(word), Some(value)) = (words.next(), words.next()) {
        match word.text()?.as_str() {
            "library_name" => name = Some(value.text()?),
            "library_code" => code = Some(Sha256::digest(value.bytes()?).into()),
            _ => {}
        }
    }
    name.zip(code).ok_or_else(|| Reply::Nil.unexpected("a library with its name and code"))
}

/// Whether the target knows what calls on the source may ask for; what it knows beside does no harm.
pub(super) fn check(source: &Libraries, target: &Libraries) -> Result<(), Objection> {
    let lacks: Vec<&str> = source.keys().filter(|name| !target.contains_key(*name)).map(String::as_str).collect();
    if !lacks.is_empty() {
        return Err(format!("the target lacks the function libraries {}: FUNCTION LOAD them there", lacks.join(", ")));
    }
    let differs = source.iter().filter(|(name, code)| target.get(*name) != Some(code));
    let differs: Vec<&str> = differs.map(|(name, _)| name.as_str()).collect();
    if !differs.is_empty() {
        return Err(format!(
            "the function libraries {} differ between source and target: FUNCTION LOAD REPLACE them",
            differs.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServerError;

    fn libraries(named: &[(&str, &str)]) -> Libraries {
        let word = |text: &str| Reply::Bytes(text.into());
        let entry = |(name, code): &(&str, &str)| {
            let functions = [word("functions"), Reply::List(Vec::new())];
            let about = [word("library_name"), word(name), word("engine"), word("LUA")];
            Reply::List(about.into_iter().chain(functions).chain([word("library_code"), word(code)]).collect())
        };
        FunctionList.read(vec![Reply::List(named.iter().map(entry).collect())]).expect("readable")
    }

    #[test]
    fn what_the_target_lacks_or_has_otherwise_is_named() {
        let source = libraries(&[("billing", "one"), ("search", "two")]);
        assert_eq!(check(&source, &libraries(&[("billing", "one"), ("search", "two"), ("more", "x")])), Ok(()));
        let lacks = check(&source, &libraries(&[("billing", "one")])).expect_err("search is missing");
        assert!(lacks.contains("lacks the function libraries search:"), "{lacks}");
        let differs =
            check(&source, &libraries(&[("billing", "new"), ("search", "two")])).expect_err("billing differs");
        assert!(differs.contains("libraries billing differ"), "{differs}");
    }

    #[test]
    fn an_old_server_has_none_and_a_refusal_is_not_none() {
        let refused = |code: &str, message: &str| {
            FunctionList.read(vec![Reply::Error(ServerError { code: code.into(), message: message.into() })])
        };
        assert_eq!(
            refused("ERR", "unknown command `FUNCTION`, with args beginning with: `LIST`, "),
            Ok(Libraries::new())
        );
        assert!(refused("NOPERM", "this user has no permissions to run the 'function|list' command").is_err());
    }
}
