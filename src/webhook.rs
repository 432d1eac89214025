//! Tells others over HTTP of what happens: signed, in order, and repeated while it is not taken.
//!
//! Each receiver has a queue of its own, so that one that does not answer keeps nobody else waiting. What waits is in memory:
//! a restart forgets it, and the history has it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::store::Event;
use crate::telemetry::chain;
use crate::web;

/// Events that may wait for one receiver; the newest are dropped then, and the log says so.
const QUEUE: usize = 1000;
/// How long a receiver may take for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause after a failure; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// And the longest.
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// After so long an event is dropped, and the next one has its turn.
const GIVE_UP: Duration = Duration::from_secs(3600);

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How the log calls it.
    pub name: String,
    /// Where it listens. May hold a secret, as Slack's do: it is never shown.
    pub url: String,
    /// A file with the key that signs; read for each delivery.
    pub secret_file: Option<PathBuf>,
    /// Of which events; all when empty.
    pub events: BTreeSet<String>,
    /// How it is told.
    pub format: Format,
}

/// Where a receiver listens, for people: without a user, a path or a query, any of which may be a secret. Absent when `url` is none.
#[must_use]
pub fn shown(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok().filter(reqwest::Url::has_host)?;
    let origin = url.origin().ascii_serialization();
    Some(if url.path() == "/" && url.query().is_none() { origin } else { format!("{origin}/***") })
}

impl Settings {
    /// The host and port that take connections; absent when `url` is none.
    #[must_use]
    pub fn receiver(&self) -> Option<(String, u16)> {
        let url = reqwest::Url::parse(&self.url).ok()?;
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
    }
}

/// How events are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The event as a document.
    #[default]
    Json,
    /// A line of text, as Slack and those like it take it.
    Slack,
}

/// Something that happened.
#[derive(Debug, Clone)]
struct Delivery {
    at_ms: u64,
    event: Event,
}

/// What came of telling a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// It was not, and is repeated.
    Failed,
    /// It never will be.
    Dropped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Failed, Self::Dropped];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Hears what came of telling the receiver of that name; must not block.
pub type Told = Arc<dyn Fn(&str, Outcome) + Send + Sync>;

/// All receivers.
#[derive(Clone)]
pub struct Webhooks {
    receivers: Vec<Receiver>,
    told: Told,
}

#[derive(Debug, Clone)]
struct Receiver {
    settings: Settings,
    queue: mpsc::Sender<Delivery>,
    /// How many deliveries are not over.
    waiting: watch::Sender<usize>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhooks").field(&self.receivers).finish()
    }
}

impl Webhooks {
    /// Begins to tell, in the name of the cluster that is called so.
    #[must_use]
    pub fn start(all: &[Settings], cluster: &str, told: Told) -> Self {
        let start = |settings: &Settings| {
            let (queue, deliveries) = mpsc::channel(QUEUE);
            let waiting = watch::Sender::new(0);
            let over = waiting.clone();
            let delivering = deliver_all(settings.clone(), cluster.to_owned(), deliveries, over, told.clone());
            tokio::spawn(delivering);
            Receiver { settings: settings.clone(), queue, waiting }
        };
        Self { receivers: all.iter().map(start).collect(), told }
    }

    /// Tells of an event, as soon as its receivers take it.
    pub fn tell(&self, at_ms: u64, event: &Event) {
        for Receiver { settings, queue, waiting } in &self.receivers {
            let wanted = settings.events.is_empty() || settings.events.contains(event.name());
            if !wanted {
                continue;
            }
            waiting.send_modify(|waiting| *waiting += 1);
            if queue.try_send(Delivery { at_ms, event: event.clone() }).is_err() {
                waiting.send_modify(|waiting| *waiting -= 1);
                warn!(webhook = settings.name, event = event.name(), "not told: too much waits already");
                (self.told)(&settings.name, Outcome::Dropped);
            }
        }
    }
}

impl Webhooks {
    /// Waits until all have been told, for no longer than that.
    pub async fn told(&self, patience: Duration) {
        let told = self.receivers.iter().map(|receiver| {
            let mut waiting = receiver.waiting.subscribe();
            async move { drop(waiting.wait_for(|waiting| *waiting == 0).await) }
        });
        let _some_are_not = timeout(patience, join_all(told)).await;
    }
}

async fn deliver_all(
    settings: Settings,
    cluster: String,
    mut deliveries: mpsc::Receiver<Delivery>,
    waiting: watch::Sender<usize>,
    told: Told,
) {
    let client = match web::client().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => {
            warn!(webhook = settings.name, error = %chain(&error), "nobody is told");
            return;
        }
    };
    while let Some(delivery) = deliveries.recv().await {
        let body = body(&settings, &cluster, &delivery);
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            let why = match deliver(&client, &settings, &delivery, &body).await {
                Ok(outcome) => break told(&settings.name, outcome),
                Err(why) => why,
            };
            told(&settings.name, Outcome::Failed);
            if began.elapsed() > GIVE_UP {
                told(&settings.name, Outcome::Dropped);
                warn!(
                    webhook = settings.name,
                    event = delivery.event.name(),
                    why,
                    "not told: it was not taken for an hour"
                );
                break;
            }
            if pause == PAUSE {
                info!(webhook = settings.name, event = delivery.event.name(), why, "not taken yet; it is repeated");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        waiting.send_modify(|waiting| *waiting -= 1);
    }
}

fn body(settings: &Settings, cluster: &str, Delivery { at_ms, event }: &Delivery) -> String {
    let mut told = serde_json::to_value(event).expect("an event is made of plain values");
    match settings.format {
        Format::Json => {
            if let Some(fields) = told.as_object_mut() {
                fields.insert("apiVersion".to_owned(), json!("ballast/v1"));
                fields.insert("kind".to_owned(), json!("Event"));
                fields.insert("cluster".to_owned(), json!(cluster));
                fields.insert("at_ms".to_owned(), json!(at_ms));
            }
            told.to_string()
        }
        Format::Slack => {
            let fields = told.as_object().into_iter().flatten().filter(|(name, _)| *name != "event");
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {}", plain(value))).collect();
            json!({ "text": format!("{cluster}: {} ({})", event.name(), fields.join(", ")) }).to_string()
        }
    }
}

/// Tells once. A receiver that says that it will never take it (4xx, but for 408 and 429) is not asked again.
async fn deliver(
    client: &reqwest::Client,
    settings: &Settings,
    delivery: &Delivery,
    body: &str,
) -> Result<Outcome, String> {
    let mut request = client
        .post(&settings.url)
        .header("content-type", "application/json")
        .header("x-ballast-event", delivery.event.name())
        .body(body.to_owned());
    if let Some(path) = &settings.secret_file {
        let key = tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        request = request.header("x-ballast-signature", signature(key.trim_ascii(), body));
    }
    let answer = request.send().await.map_err(|error| chain(&error.without_url()))?;
    let status = answer.status();
    match status.as_u16() {
        200..=299 => Ok(Outcome::Delivered),
        408 | 429 | 500..=599 => Err(format!("it answers {status}")),
        _ => {
            warn!(webhook = settings.name, %status, "it refuses what it is told");
            Ok(Outcome::Dropped)
        }
    }
}

/// `sha256=` and the HMAC of the body, in hexadecimal digits.
fn signature(key: &[u8], body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn settings(url: String, secret_file: Option<PathBuf>, events: &[&str]) -> Settings {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Settings { name: "chat".into(), url, secret_file, events, format: Format::Json }
    }

    fn cancelled(cycle: u64) -> Event {
        Event::Cancelled { cycle, who: "ann".into(), why: "release".into() }
    }

    /// Takes one request, answers it with this status; its head and body.
    async fn take(listener: &TcpListener, status: &str) -> (String, String) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await.expect("readable");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if Some(body.len()) == length {
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.expect("writable");
                    return (head.to_owned(), body.to_owned());
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_told_is_signed_in_order_and_repeated_until_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let secret = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(secret.path(), "hunter2\n").expect("writable");
        let outcomes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = outcomes.clone();
        let told: Told = Arc::new(move |hook, outcome| heard.lock().expect("whole").push((hook.to_owned(), outcome)));
        let hooks = Webhooks::start(&[settings(url, Some(secret.path().to_owned()), &["cancelled"])], "prod", told);
        hooks.tell(1, &Event::Stopped { why: "not asked for".into() });
        hooks.tell(2, &cancelled(7));
        hooks.tell(3, &cancelled(8));
        let (head, first) = take(&listener, "503 Service Unavailable").await;
        assert!(head.contains("x-ballast-event: cancelled"), "{head}");
        // As `openssl dgst -sha256 -hmac hunter2` has it.
        let signed = head.lines().find_map(|line| line.strip_prefix("x-ballast-signature: ")).expect("a signature");
        assert_eq!(signed, signature(b"hunter2", &first));
        let (_, again) = take(&listener, "200 OK").await;
        assert_eq!(first, again);
        let told: Value = serde_json::from_str(&first).expect("a document");
        assert_eq!(
            (&told["cluster"], &told["event"], &told["cycle"]),
            (&json!("prod"), &json!("cancelled"), &json!(7))
        );
        let (_, next) = take(&listener, "200 OK").await;
        assert!(next.contains(r#""cycle":8"#), "{next}");
        let outcomes = outcomes.lock().expect("whole").clone();
        assert_eq!(outcomes[..2], [("chat".to_owned(), Outcome::Failed), ("chat".to_owned(), Outcome::Delivered)]);
    }

    #[tokio::test]
    async fn a_receiver_that_refuses_is_not_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let hooks = Webhooks::start(&[settings(url, None, &[])], "prod", Arc::new(|_, _| {}));
        hooks.tell(1, &cancelled(1));
        hooks.tell(2, &cancelled(2));
        take(&listener, "400 Bad Request").await;
        let (_, next) = take(&listener, "200 OK").await;
        assert!(next.contains(r#""cycle":2"#), "{next}");
    }

    #[test]
    fn of_a_receiver_nothing_is_shown_but_where_it_listens() {
        for (url, expected) in [
            ("https://hooks.example.com/T0/B0/secret", Some("https://hooks.example.com/***")),
            ("https://hooks.example.com?token=secret", Some("https://hooks.example.com/***")),
            ("http://ann:secret@10.0.0.7:9093", Some("http://10.0.0.7:9093")),
            ("hooks", None),
        ] {
            assert_eq!(shown(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn the_signature_is_the_one_of_rfc_4231() {
        // Its second test case.
        assert_eq!(
            signature(b"Jefe", "what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_chat_gets_a_line() {
        let hook = Settings { format: Format::Slack, ..settings(String::new(), None, &[]) };
        let delivery = Delivery { at_ms: 0, event: cancelled(7) };
        assert_eq!(body(&hook, "prod", &delivery), r#"{"text":"prod: cancelled (cycle: 7, who: ann, why: release)"}"#);
    }
}
