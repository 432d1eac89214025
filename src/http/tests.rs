//! Requests over a real socket, and what comes back.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::control::{Answer, Command, Status};

#[tokio::test]
async fn status_is_a_document() {
    let server = Server::start().await;
    let (code, body) = server.get("/api/v1/status").await;
    assert_eq!((code, &body["apiVersion"], &body["kind"]), (200, &"ballast/v1".into(), &"Status".into()));
    assert_eq!((&body["mode"], &body["totals"]["slots_moved"]), (&"dry-run".into(), &0.into()));
}

#[tokio::test]
async fn a_daemon_lives_before_it_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.get_text("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(server.get_text("/readyz").await, (503, "no policy is loaded: it is being loaded\n".to_owned()));
}

#[tokio::test]
async fn metrics_count_the_requests_by_route() {
    let server = Server::start().await;
    server.get("/api/v1/cycles/7").await;
    server.get("/nowhere").await;
    let (code, text) = server.get_text("/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains(r#"code="404",handler="/api/v1/cycles/{cycle}",method="GET"} 1"#), "{text}");
    assert!(text.contains(r#"code="404",handler="none",method="GET"} 1"#), "{text}");
}

#[tokio::test]
async fn a_pause_reaches_the_loop_with_who_and_why() {
    let mut server = Server::start().await;
    let mut requests = server.requests.take().expect("taken once");
    let asked = server.post("/api/v1/pause", r#"{"reason": "release", "who": "ann"}"#, None);
    let heard = async {
        let (command, answer) = requests.recv().await.expect("a request");
        answer.send(Ok("paused".into())).expect("somebody waits");
        command
    };
    let ((code, body), command) = tokio::join!(asked, heard);
    assert_eq!((code, &body["done"]), (200, &"paused".into()));
    assert!(matches!(&command, Command::Pause { who, why, until_ms: None } if who == "ann" && why == "release"));
}

#[tokio::test]
async fn a_cancel_reaches_the_loop_and_a_refusal_comes_back() {
    let mut server = Server::start().await;
    let mut requests = server.requests.take().expect("taken once");
    let asked = server.post("/api/v1/cancel", r#"{"reason": "wrong policy", "who": "ann"}"#, None);
    let heard = async {
        let (command, answer) = requests.recv().await.expect("a request");
        answer.send(Err("no cycle is under way".into())).expect("somebody waits");
        command
    };
    let ((code, body), command) = tokio::join!(asked, heard);
    assert_eq!((code, &body["error"]), (409, &"no cycle is under way".into()));
    assert!(matches!(&command, Command::Cancel { who, why } if who == "ann" && why == "wrong policy"));
}

#[tokio::test]
async fn the_journal_says_who_began_what_and_what_came_of_it() {
    use crate::migration::{Intent, Journal as _};
    let server = Server::start().await;
    assert_eq!(server.get("/api/v1/journal").await.1["items"], Value::Array(Vec::new()));
    let node = |digit: &str| digit.repeat(40).parse().expect("node id");
    let intent = Intent {
        source: node("a"),
        target: node("b"),
        source_shard: vec![node("a")],
        target_shard: vec![node("b")],
        source_run_id: "run".into(),
        source_epoch: 3,
        slots: "1-4".parse().expect("slots"),
        protocol: crate::model::Protocol::Atomic,
        started_at_ms: 5,
        began_by: "ann@host".into(),
        reason: "by hand: a new rack".into(),
    };
    let id = server.store.begin(&intent).expect("notes");
    server.store.finish(id, "4 moved").expect("notes");
    let (code, body) = server.get("/api/v1/journal?limit=1").await;
    let item = &body["items"][0];
    assert_eq!((code, &body["kind"], &item["ending"]), (200, &"JournalList".into(), &"4 moved".into()));
    let told = (&item["intent"]["began_by"], &item["intent"]["reason"], &item["intent"]["protocol"]);
    assert_eq!(told, (&"ann@host".into(), &"by hand: a new rack".into(), &"atomic".into()));
}

#[tokio::test]
async fn what_changes_something_is_not_taken_from_web_pages_nor_by_get() {
    let server = Server::start().await;
    assert_eq!(server.post("/api/v1/pause", "", Some("http://evil.example")).await.0, 403);
    assert_eq!(server.get("/api/v1/pause").await.0, 405);
}

#[tokio::test]
async fn bad_and_large_bodies_are_refused() {
    let server = Server::start().await;
    let (code, body) = server.post("/api/v1/pause", r#"{"raeson": "typo"}"#, None).await;
    assert_eq!(code, 400);
    assert!(body["error"].as_str().is_some_and(|error| error.contains("unknown field `raeson`")), "{body}");
    assert_eq!(server.post("/api/v1/pause", &" ".repeat(BODY_BYTES_MAX + 1), None).await.0, 413);
}

/// What the loop hears.
type Requests = mpsc::Receiver<(Command, oneshot::Sender<Answer>)>;

struct Server {
    base: String,
    client: reqwest::Client,
    requests: Option<Requests>,
    store: Arc<Store>,
    _status: watch::Sender<Arc<Status>>,
    _state: tempfile::TempDir,
    _ending: oneshot::Sender<()>,
}

impl Server {
    async fn start() -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
        let store = Arc::new(Store::open(state.path()).expect("opens"));
        let (requests, heard) = mpsc::channel(1);
        let (shown, status) = watch::channel(Arc::new(fresh_status()));
        let faces = Faces {
            control: Handle::new(requests, status),
            metrics: Arc::new(Metrics::new("test")),
            store: store.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let (ending, ended) = oneshot::channel();
        tokio::spawn(serve(listener, Arc::new(faces), async { drop(ended.await) }));
        Self {
            base,
            client: crate::web::client().build().expect("a client"),
            requests: Some(heard),
            store,
            _status: shown,
            _state: state,
            _ending: ending,
        }
    }

    async fn get_text(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.expect("answers");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (code, text) = self.get_text(path).await;
        (code, serde_json::from_str(&text).expect("a document"))
    }

    async fn post(&self, path: &str, body: &str, origin: Option<&str>) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.base)).body(body.to_owned());
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        let response = request.send().await.expect("answers");
        let code = response.status().as_u16();
        (code, serde_json::from_str(&response.text().await.expect("text")).unwrap_or_default())
    }
}

fn fresh_status() -> Status {
    Status { mode_reason: "by configuration".into(), ..Status::starting("test", 0, 30_000) }
}
