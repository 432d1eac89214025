//! Requests over a real socket, and what comes back.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

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
    let asked = server.post("/api/v1/pause", r#"{"reason": "release", "who": "ann"}"#);
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
    let asked = server.post("/api/v1/cancel", r#"{"reason": "wrong policy", "who": "ann"}"#);
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
async fn commands_are_taken_through_the_socket_or_with_an_operator_s_token_and_never_by_get() {
    use reqwest::Method;
    let server = Server::start_as(true).await;
    let refused = async |method: &Method, path, token| server.ask(method.clone(), path, token).await.0;
    let pause = "/api/v1/pause?x";
    for (token, code) in [(None, 401), (Some("unknown-0123456789"), 401), (Some(VIEWER), 403)] {
        assert_eq!(refused(&Method::POST, pause, token).await, code, "{token:?}");
    }
    // A body that is no wish is looked at by whoever may give one.
    let sent = server.client.post(format!("{}{pause}", server.base)).bearer_auth(OPERATOR).body("nonsense");
    assert_eq!(server.send(sent).await.0, 400);
    assert_eq!(server.post(pause, "nonsense").await.0, 400);
    assert_eq!(refused(&Method::GET, pause, Some(OPERATOR)).await, 405);
    let (_, refusal) = server.ask(Method::POST, pause, Some(VIEWER)).await;
    assert!(refusal["error"].as_str().is_some_and(|why| why.contains("ballast.sock")), "{refusal}");
}

#[tokio::test]
async fn whoever_looks_shows_a_token_where_one_is_asked_for() {
    use reqwest::Method;
    let open = Server::start().await;
    assert_eq!(open.get("/api/v1/status").await.0, 200);
    assert_eq!(open.get("/api/v1/access").await.1["role"], "viewer");
    let guarded = Server::start_as(true).await;
    let code = async |path: &'static str, token| guarded.ask(Method::GET, path, token).await.0;
    for path in ["/api/v1/status", "/metrics", "/api/v1/stream", "/api/v1/slots.bin", "/api/v1/access"] {
        assert_eq!(code(path, None).await, 401, "{path}");
    }
    assert_eq!((code("/healthz", None).await, code("/", None).await), (200, 200), "these tell nothing");
    assert_eq!(code("/api/v1/status", Some(VIEWER)).await, 200);
    let (_, access) = guarded.ask(Method::GET, "/api/v1/access", Some(OPERATOR)).await;
    assert_eq!(access["role"], "operator");
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_ask_for_it() {
    let server = Server::start().await;
    let request = server.client.get(format!("{}/metrics", server.base)).header("accept-encoding", "gzip");
    let answer = request.send().await.expect("answers");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let small = answer.bytes().await.expect("bytes").len();
    let (_, whole) = server.get_text("/metrics").await;
    assert!(small * 3 < whole.len(), "{small} of {}", whole.len());
}

#[tokio::test]
async fn a_stream_tells_the_present_then_what_changes_and_ends_with_the_daemon() {
    let server = Server::start().await;
    let mut stream = server.client.get(format!("{}/api/v1/stream", server.base)).send().await.expect("answers");
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut told = String::new();
    let mut until = async |word: &str| {
        while !told.contains(word) {
            let chunk = stream.chunk().await.expect("it goes on").expect("it has not ended");
            told.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    };
    until(r#""mode":"dry-run""#).await;
    server.status.send_replace(Arc::new(Status { mode: crate::model::Mode::Auto, ..fresh_status() }));
    until(r#""mode":"auto""#).await;
    let event = crate::store::Event::Recovered { slots: 3 };
    server.faces.happened(StoredEvent { id: 4, at_ms: 5, event });
    until(r#"data: {"id":4,"at_ms":5,"event":"recovered","slots":3}"#).await;
    drop(server.status);
    let rest = stream.chunk().await;
    assert!(matches!(rest, Ok(None)), "{rest:?}");
}

#[tokio::test]
async fn as_many_listen_as_can_be_told_and_a_place_is_free_again_when_one_goes() {
    let server = Server::start().await;
    let listen = async || server.client.get(format!("{}/api/v1/stream", server.base)).send().await.expect("answers");
    let mut listeners = Vec::new();
    for _ in 0..stream::STREAMS_MAX {
        listeners.push(listen().await);
    }
    assert_eq!(listen().await.status(), 503);
    listeners.clear();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while listen().await.status() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "nobody's place became free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_never_says_what_it_wants_is_let_go_and_what_is_no_http_is_an_error() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start().await;
    let mut slow = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.expect("sent");
    let mut wrong = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    wrong.write_all(b"\x16\x03\x01 hello\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    wrong.read_to_string(&mut answer).await.expect("it is closed");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Others are served meanwhile, and in time the slow one is let go.
    assert_eq!(server.get_text("/healthz").await.0, 200);
    tokio::time::pause();
    let mut nothing = Vec::new();
    slow.read_to_end(&mut nothing).await.expect("it is closed");
}

#[tokio::test]
async fn serving_ends_when_it_is_told_to() {
    let server = Server::start().await;
    assert_eq!(server.get_text("/healthz").await.0, 200);
    server.ending.send_replace(true);
    let Server { serving, client, .. } = server;
    drop(client);
    serving.await.expect("no panic").expect("in order");
}

#[tokio::test]
async fn bad_and_large_bodies_are_refused() {
    let server = Server::start().await;
    let (code, body) = server.post("/api/v1/pause", r#"{"raeson": "typo"}"#).await;
    assert_eq!(code, 400);
    assert!(body["error"].as_str().is_some_and(|error| error.contains("unknown field `raeson`")), "{body}");
    assert_eq!(server.post("/api/v1/pause", &" ".repeat(BODY_BYTES_MAX + 1)).await.0, 413);
}

/// What the loop hears.
type Requests = mpsc::Receiver<(Command, oneshot::Sender<Answer>)>;

/// Tokens.
const OPERATOR: &str = "operator-0123456789";
const VIEWER: &str = "viewer-0123456789ab";

struct Server {
    base: String,
    address: SocketAddr,
    client: reqwest::Client,
    /// Through the socket.
    commander: reqwest::Client,
    requests: Option<Requests>,
    store: Arc<Store>,
    faces: Arc<Faces>,
    serving: tokio::task::JoinHandle<io::Result<()>>,
    status: watch::Sender<Arc<Status>>,
    ending: watch::Sender<bool>,
    _state: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::start_as(false).await
    }

    /// With `guarded`, whoever looks has to show a token.
    async fn start_as(guarded: bool) -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
        let store = Arc::new(Store::open(state.path()).expect("opens"));
        let (requests, heard) = mpsc::channel(1);
        let (shown, status) = watch::channel(Arc::new(fresh_status()));
        let path = |name: &str| state.path().join(name);
        fs::write(path("operators"), format!("{OPERATOR} ann\n")).expect("writable");
        fs::write(path("viewers"), format!("{VIEWER} the wall\n")).expect("writable");
        let http = config::Http {
            listen: None,
            socket: Some(path("ballast.sock")),
            socket_is_wanted: false,
            operators_file: Some(path("operators")),
            viewers_file: guarded.then(|| path("viewers")),
            slot_metrics: false,
        };
        let control = Handle::new(requests, status);
        let history = vec![Store::look(state.path()).expect("it is there")];
        let faces = Arc::new(Faces::new(control, Arc::new(Metrics::new("test")), history, http));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let socket = UnixListener::bind(path("ballast.sock")).expect("a free path");
        let (ending, ended) = watch::channel(false);
        let doors = vec![Door::Network(listener), Door::Socket(socket)];
        let serving = tokio::spawn(serve(doors, faces.clone(), ended));
        Self {
            base: format!("http://{address}"),
            address,
            client: crate::web::client().build().expect("a client"),
            commander: crate::web::client().unix_socket(path("ballast.sock")).build().expect("a client"),
            requests: Some(heard),
            store,
            faces,
            serving,
            status: shown,
            ending,
            _state: state,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("answers");
        let code = response.status().as_u16();
        (code, serde_json::from_str(&response.text().await.expect("text")).unwrap_or_default())
    }

    async fn get_text(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.expect("answers");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (code, text) = self.get_text(path).await;
        (code, serde_json::from_str(&text).expect("a document"))
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.send(self.commander.post(format!("http://ballast{path}")).body(body.to_owned())).await
    }

    /// Over the network, with a token.
    async fn ask(&self, method: reqwest::Method, path: &str, token: Option<&str>) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.base));
        self.send(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await
    }
}

fn fresh_status() -> Status {
    Status { mode_reason: "by configuration".into(), ..Status::starting("test", 0, 30_000) }
}
