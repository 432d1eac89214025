//! Speaks with a running daemon over its HTTP API.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::outcome::{Exit, Outcome, Stop, not_let_in, refused};
use super::screen::Screen;
use super::target::load;

/// Which daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Daemon {
    /// Where the daemon listens; or unix:PATH, its socket
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The daemon's configuration, which says where it listens
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG")]
    config: Option<PathBuf>,
    /// A file that begins with a token of the daemon's http.operators_file or viewers_file
    #[arg(long, value_name = "FILE", env = "BALLAST_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// Where a daemon listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9899";
/// Before the path of a socket.
const UNIX: &str = "unix:";
/// The daemon answers from memory; a machine under load may take a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// A daemon within reach.
pub(super) struct Line {
    /// As people write it.
    url: String,
    way: Way,
    /// Commands are taken from whoever has one, and through a socket.
    token: Option<String>,
}

/// By what way it is asked.
struct Way {
    base: String,
    client: reqwest::Client,
    through_socket: bool,
}

/// Where commands are taken.
#[derive(Deserialize)]
struct Access {
    socket: Option<PathBuf>,
    /// Of a daemon of an earlier version empty, by both ways.
    #[serde(default)]
    instance: String,
}

/// Where it says so.
const ACCESS: &str = "/api/v1/access";

/// What became of a wish, in the daemon's words.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    done: String,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

impl Daemon {
    pub(super) fn reach(&self, screen: &Screen) -> anyhow::Result<Line> {
        let url = match (&self.url, &self.config) {
            (Some(url), _) if url.contains("://") || url.starts_with(UNIX) => url.trim_end_matches('/').to_owned(),
            (Some(url), _) => {
                return Err(refused(format!("--url {url} is no URL"), "http://HOST:PORT, or unix:PATH of a socket"));
            }
            (None, Some(path)) => {
                // What a daemon does not take, it goes on without; whoever has to pause it now need not mend that first.
                let unfit = |error: anyhow::Error| {
                    let hint = format!(
                        "a daemon at work goes on with what it had: --url {DEFAULT_URL}, or where it listens, asks it"
                    );
                    refused(format!("{error:#}"), hint)
                };
                let http = load(path, screen).map_err(unfit)?.http;
                match (http.listen, http.socket) {
                    (Some(address), _) => format!("http://{address}"),
                    (None, Some(socket)) => format!("{UNIX}{}", socket.display()),
                    (None, None) => {
                        let why = "the daemon does not listen: http.listen and http.socket are \"off\"";
                        return Err(refused(why, "set http.listen"));
                    }
                }
            }
            (None, None) => DEFAULT_URL.to_owned(),
        };
        let token = self.token_file.as_deref().map(first_word).transpose()?;
        Ok(Line { way: Way::to(&url)?, url, token })
    }
}

fn first_word(path: &Path) -> anyhow::Result<String> {
    let hint = "its first word is to be a token of the daemon's http.operators_file";
    let text = fs::read_to_string(path).map_err(|error| refused(format!("{}: {error}", path.display()), hint))?;
    let word = text.split_whitespace().next();
    word.map(str::to_owned).ok_or_else(|| refused(format!("{}: it is empty", path.display()), hint))
}

impl Way {
    fn to(url: &str) -> anyhow::Result<Self> {
        let client = crate::web::client_of(url).timeout(PATIENCE);
        Ok(match url.strip_prefix(UNIX) {
            // Whoever listens on a file has no use for the name of a host.
            Some(path) => Self {
                base: "http://ballast".to_owned(),
                client: client.unix_socket(PathBuf::from(path)).build()?,
                through_socket: true,
            },
            None => Self { base: url.to_owned(), client: client.build()?, through_socket: false },
        })
    }
}

impl Line {
    /// What the daemon shows at `path`, which people call `what`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> anyhow::Result<T> {
        self.answer(self.way.client.get(format!("{}{path}", self.way.base)), what).await
    }

    /// Asks the daemon to do something, and shows what it says.
    pub(super) async fn ask(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> Outcome {
        self.show(Method::POST, path, wish, screen).await
    }

    /// Takes back what was asked for, and shows what the daemon says.
    pub(super) async fn withdraw(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> Outcome {
        self.show(Method::DELETE, path, wish, screen).await
    }

    async fn show(&self, method: Method, path: &str, wish: &serde_json::Value, screen: &Screen) -> Outcome {
        let done = self.command(method, path, wish).await?;
        screen.show("Done", &done, || format!("{}\n", done.done))?;
        Ok(Exit::Ok)
    }

    /// Asks the daemon to do something, and tells people what it says.
    pub(super) async fn tell(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> anyhow::Result<()> {
        let done = self.command(Method::POST, path, wish).await?;
        screen.note(&done.done);
        Ok(())
    }

    /// Commands are taken over the network from whoever has a token, and from others through the socket that the daemon names.
    async fn command(&self, method: Method, path: &str, wish: &serde_json::Value) -> anyhow::Result<Done> {
        let there = if self.way.through_socket || self.token.is_some() { None } else { self.its_socket().await? };
        let way = there.as_ref().unwrap_or(&self.way);
        self.answer(way.client.request(method, format!("{}{path}", way.base)).json(wish), "answer").await
    }

    /// The way through the socket that the daemon names. It may be another machine's, where the same path leads to another daemon: both
    /// ways have to lead to the same one.
    async fn its_socket(&self) -> anyhow::Result<Option<Way>> {
        let told: Access = self.get(ACCESS, "word where commands are taken").await?;
        let Some(socket) = told.socket else { return Ok(None) };
        let way = Way::to(&format!("{UNIX}{}", socket.display()))?;
        let asked = way.client.get(format!("{}{ACCESS}", way.base)).send().await;
        let found = match asked {
            Ok(answer) => answer.json::<Access>().await.ok(),
            Err(_) => None,
        };
        let hint =
            "on the daemon's machine its socket takes commands; from elsewhere '--token-file FILE' shows a token";
        match found {
            Some(found) if found.instance == told.instance => Ok(Some(way)),
            Some(_) => {
                Err(not_let_in(format!("{} is the socket of another daemon than {}", socket.display(), self.url), hint))
            }
            None => Err(not_let_in(
                format!(
                    "{} takes commands through its socket {}, and nobody answers there to this user",
                    self.url,
                    socket.display()
                ),
                hint,
            )),
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, what: &str) -> anyhow::Result<T> {
        let unreachable = |error: anyhow::Error| {
            Stop {
            exit: Exit::Failed,
            message: format!("no {what} from {}: {error:#}", self.url),
            hint: "is the daemon running there, and may this user write to its socket? '--url http://HOST:PORT' asks another one, \
                   '--token-file FILE' shows a token"
                .into(),
        }
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.map_err(|error| unreachable(error.into()))?;
        let code = answer.status();
        if code.is_success() {
            let read = answer.json().await.with_context(|| format!("it answered something else than a {what}"));
            return Ok(read.map_err(unreachable)?);
        }
        let why =
            answer.json::<Failure>().await.map_or_else(|_| format!("it answered {code}"), |failure| failure.error);
        match code {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(not_let_in(
                format!("the daemon refused: {why}"),
                "'--token-file FILE' shows a token; on the daemon's machine its socket takes commands without one",
            )),
            StatusCode::CONFLICT | StatusCode::BAD_REQUEST => {
                Err(refused(format!("the daemon refused: {why}"), "'ballast status' shows what it is doing"))
            }
            _ => Err(unreachable(anyhow::anyhow!(why)).into()),
        }
    }
}
