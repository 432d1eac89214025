//! Speaks with a running daemon over its HTTP API.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::outcome::{Exit, Outcome, Stop, refused};
use super::screen::Screen;
use super::target::load;

/// Which daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Daemon {
    /// Where the daemon listens
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The daemon's configuration, which says where it listens
    #[arg(long, value_name = "FILE", env = "BALLAST_CONFIG")]
    config: Option<PathBuf>,
}

/// Where a daemon listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9899";
/// The daemon answers from memory; a machine under load may take a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// A daemon within reach.
pub(super) struct Line {
    url: String,
    client: reqwest::Client,
}

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
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(path)) => match load(path, screen)?.listen {
                Some(address) => format!("http://{address}"),
                None => return Err(refused("the daemon does not listen: http.listen is \"off\"", "set http.listen")),
            },
            (None, None) => DEFAULT_URL.to_owned(),
        };
        Ok(Line { url, client: crate::web::client().timeout(PATIENCE).build()? })
    }
}

impl Line {
    /// What the daemon shows at `path`, which people call `what`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> anyhow::Result<T> {
        self.answer(self.client.get(format!("{}{path}", self.url)), what).await
    }

    /// Asks the daemon to do something, and shows what it says.
    pub(super) async fn ask(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> Outcome {
        self.show(self.client.post(format!("{}{path}", self.url)).json(wish), screen).await
    }

    /// Takes back what was asked for, and shows what the daemon says.
    pub(super) async fn withdraw(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> Outcome {
        self.show(self.client.delete(format!("{}{path}", self.url)).json(wish), screen).await
    }

    async fn show(&self, request: reqwest::RequestBuilder, screen: &Screen) -> Outcome {
        let done: Done = self.answer(request, "answer").await?;
        screen.show("Done", &done, || format!("{}\n", done.done))?;
        Ok(Exit::Ok)
    }

    /// Asks the daemon to do something, and tells people what it says.
    pub(super) async fn tell(&self, path: &str, wish: &serde_json::Value, screen: &Screen) -> anyhow::Result<()> {
        let request = self.client.post(format!("{}{path}", self.url)).json(wish);
        let done: Done = self.answer(request, "answer").await?;
        screen.note(&done.done);
        Ok(())
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, what: &str) -> anyhow::Result<T> {
        let unreachable = |error: anyhow::Error| Stop {
            exit: Exit::Failed,
            message: format!("no {what} from {}: {error:#}", self.url),
            hint: "is the daemon running there? '--url http://HOST:PORT' asks another one".into(),
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
            StatusCode::CONFLICT | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                Err(refused(format!("the daemon refused: {why}"), "'ballast status' shows what it is doing"))
            }
            _ => Err(unreachable(anyhow::anyhow!(why)).into()),
        }
    }
}
