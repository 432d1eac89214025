//! Who is told of what happens: whether the key can be read, and whether anybody listens. Nothing is sent.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Scope;
use super::line::{Fix, Line, Topic};
use crate::webhook::Settings;

/// A receiver that takes longer for a connection alone will not keep up.
const PATIENCE: Duration = Duration::from_secs(3);

/// A line for each receiver. Whether they take connections is asked when more than this machine is examined.
pub(super) async fn found(hooks: &[Settings], scope: Scope) -> Vec<Line> {
    join_all(hooks.iter().map(|hook| async move {
        let heard = if scope == Scope::Everything { Some(listens(hook).await) } else { None };
        line(hook, &key(hook), heard.as_ref())
    }))
    .await
}

/// Whether what is told is signed, or why the key is none.
fn key(hook: &Settings) -> Result<bool, String> {
    let Some(path) = &hook.secret_file else { return Ok(false) };
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(format!("{}: it is empty", path.display())),
        Ok(_) => Ok(true),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Where somebody listens, or why nobody does.
async fn listens(hook: &Settings) -> Result<String, String> {
    let (host, port) = hook.receiver().ok_or("its url names no host")?;
    let at = format!("{host}:{port}");
    match timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Ok(at),
        Ok(Err(error)) => Err(format!("{at}: {error}")),
        Err(_) => Err(format!("{at}: no connection within {} s", PATIENCE.as_secs())),
    }
}

fn line(hook: &Settings, key: &Result<bool, String>, heard: Option<&Result<String, String>>) -> Line {
    let name = &hook.name;
    if let Err(why) = key {
        let fix = Fix::of("make the file readable for the daemon's user: until then nobody is told");
        return Line::warn(Topic::Hooks, format!("'{name}' cannot be signed for: {why}"), fix);
    }
    let signed = if *key == Ok(true) { "signed" } else { "not signed" };
    match heard {
        None => Line::ok(Topic::Hooks, format!("'{name}' is told of what happens, {signed}")),
        Some(Ok(at)) => {
            Line::ok(Topic::Hooks, format!("'{name}' takes connections at {at}; what it is told is {signed}"))
        }
        Some(Err(why)) => Line::warn(
            Topic::Hooks,
            format!("'{name}' does not take connections: {why}"),
            Fix::of(
                "correct url of its [[webhook]], or let this machine through: events wait for an hour, and are dropped then",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::line::Verdict;
    use super::*;
    use crate::webhook::Format;

    #[tokio::test]
    async fn who_cannot_be_told_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let secret = directory.path().join("key");
        fs::write(&secret, "s3cret\n").expect("writes");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let hook = |url: String, secret_file: Option<PathBuf>| Settings {
            name: "pager".into(),
            url,
            secret_file,
            events: [].into(),
            format: Format::Json,
        };
        let there = format!("http://127.0.0.1:{port}/T0/secret-path");
        check(&hook(there.clone(), Some(secret)), Scope::Everything, Verdict::Ok, "told is signed").await;
        check(&hook(there.clone(), None), Scope::Here, Verdict::Ok, "not signed").await;
        check(&hook(there.clone(), Some("/nowhere".into())), Scope::Here, Verdict::Warn, "cannot be signed for").await;
        drop(listener);
        check(&hook(there, None), Scope::Everything, Verdict::Warn, "does not take connections").await;
    }

    async fn check(hook: &Settings, scope: Scope, verdict: Verdict, words: &str) {
        let lines = found(std::slice::from_ref(hook), scope).await;
        assert_eq!(lines.iter().map(|line| line.verdict).collect::<Vec<_>>(), [verdict]);
        assert!(lines[0].found.contains(words), "{}", lines[0].found);
        assert!(!format!("{lines:?}").contains("secret-path"), "a path may be a secret");
    }
}
