//! `ballast run` as a child, steered as a user would: by files, signals and HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ballast::model::Address;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::eventually;

/// How long a daemon may take for anything: two cores may be busy with other stories.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a configuration, a policy and a state, in which daemons run one after the other.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    client: reqwest::Client,
    /// Through the socket in the state directory, where commands are taken.
    commander: reqwest::Client,
    seed: Address,
    starts: std::cell::Cell<usize>,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon<'h> {
    home: &'h Home,
    child: Child,
    log: PathBuf,
    base: String,
}

/// What the tests vary in a configuration.
pub(crate) struct Settings {
    pub(crate) mode: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) pace: &'static str,
    /// Slots per cycle.
    pub(crate) moves: u32,
    /// After which a step is stuck.
    pub(crate) stuck_after: &'static str,
    /// More sections.
    pub(crate) more: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: "auto", protocol: "auto", pace: "fast", moves: 16384, stuck_after: "2m", more: String::new() }
    }
}

impl Home {
    /// A home for daemons of the cluster that answers at `seed`, with the policy that evens slot counts.
    pub(crate) fn new(seed: Address, settings: &Settings) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(directory.path().join("policy")).expect("writable");
        let client = ballast::web::client().build().expect("a client");
        let socket = directory.path().join("state/ballast.sock");
        let commander = ballast::web::client().unix_socket(socket).build().expect("a client");
        let home = Self { directory, client, commander, seed, starts: 0.into() };
        home.put_policy(&slots_policy());
        home.configure(settings);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the policy's file, as a careful author does.
    pub(crate) fn put_policy(&self, bytes: &[u8]) {
        replace(&self.path().join("policy/policy.wasm"), bytes);
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, settings: &Settings) {
        let Settings { mode, protocol, pace, moves, stuck_after, more } = settings;
        self.write_config(&format!(
            r#"
            mode = "{mode}"
            [cluster]
            name = "test"
            seeds = ["redis://{seed}"]
            [collect]
            interval = "1s"
            [policy]
            file = "policy/policy.wasm"
            [limits]
            max_moves_per_cycle = {moves}
            max_moves_per_node = {moves}
            max_moves_per_hour = 1000000
            max_moves_per_day = 1000000
            slot_cool_down = "0s"
            pair_cool_down = "0s"
            [migration]
            protocol = "{protocol}"
            pace = "{pace}"
            stuck_after = "{stuck_after}"
            [http]
            listen = "127.0.0.1:0"
            [log]
            format = "json"
            [state]
            directory = "state"
            {more}
            "#,
            seed = self.seed,
        ));
    }

    /// Has the drains that are kept there have begun, and have waited for those who are away, so much longer ago. No daemon may run.
    pub(crate) fn age_drains(&self, by: Duration) {
        let store = ballast::store::Store::open(&self.path().join("state")).expect("nobody holds it");
        let mut drains: Value = store.get("drains").expect("readable").expect("there are some");
        let by = u64::try_from(by.as_millis()).expect("small");
        for drain in drains.as_array_mut().into_iter().flatten() {
            for key in ["since_ms", "away_since_ms"] {
                drain[key] = drain[key].as_u64().expect("a time").saturating_sub(by).into();
            }
        }
        store.put("drains", &drains).expect("writable");
    }

    /// Replaces the configuration by any text.
    pub(crate) fn write_config(&self, text: &str) {
        replace(&self.path().join("daemon.toml"), text.as_bytes());
    }

    /// Starts a daemon, and waits until it answers.
    pub(crate) async fn start(&self) -> Daemon<'_> {
        self.start_as(Path::new(env!("CARGO_BIN_EXE_ballast")), &[]).await
    }

    /// The same with these variables in its environment.
    pub(crate) async fn start_with(&self, variables: &[(&str, &str)]) -> Daemon<'_> {
        self.start_as(Path::new(env!("CARGO_BIN_EXE_ballast")), variables).await
    }

    /// The same, of the program at that path.
    pub(crate) async fn start_of(&self, program: &Path) -> Daemon<'_> {
        self.start_as(program, &[]).await
    }

    async fn start_as(&self, program: &Path, variables: &[(&str, &str)]) -> Daemon<'_> {
        self.starts.set(self.starts.get() + 1);
        let log = self.path().join(format!("log-{}", self.starts.get()));
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(self.path().join("daemon.toml"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("writable"))
            .spawn()
            .expect("the daemon starts");
        let mut daemon = Daemon { home: self, child, log, base: String::new() };
        daemon.base = eventually("the daemon says where it listens", PATIENCE, async || {
            let line = daemon.log_lines().into_iter().find(|line| line["message"] == "listening")?;
            Some(format!("http://{}", line["address"].as_str()?))
        })
        .await;
        daemon
    }
}

impl Daemon<'_> {
    /// The lines of its log so far.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The end of its log, for the message of a failed assertion.
    pub(crate) fn log(&self) -> String {
        end_of(&self.log)
    }

    pub(crate) async fn get_text(&self, path: &str) -> (u16, String) {
        let response = self.home.client.get(format!("{}{path}", self.base)).send().await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()));
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (code, text) = self.get_text(path).await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("a document")
    }

    /// Gives a command.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let response = self.home.commander.post(format!("http://ballast{path}")).body(body.to_owned()).send().await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()));
        let code = response.status().as_u16();
        (code, serde_json::from_str(&response.text().await.expect("text")).expect("a document"))
    }

    /// Runs `ballast` with these words against this daemon; what it says.
    pub(crate) fn ballast(&self, words: &[&str]) -> String {
        let ran = Command::new(env!("CARGO_BIN_EXE_ballast")).args(words).args(["--url", &self.base]).output();
        let ran = ran.expect("it starts");
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{words:?}: {}: {told}\n{}", ran.status, self.log());
        String::from_utf8(ran.stdout).expect("Unicode")
    }

    pub(crate) async fn status(&self) -> Value {
        self.get("/api/v1/status").await
    }

    /// The first status for which `look` finds something.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let last = std::cell::RefCell::new(Value::Null);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if let Some(found) = look(&status) {
                return found;
            }
            last.replace(status);
            if tokio::time::Instant::now() > deadline {
                panic!("waited {PATIENCE:?} in vain until {what}; status {:#}\nlog:\n{}", last.borrow(), self.log());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The report of the next cycle that begins from now on.
    pub(crate) async fn next_cycle(&self) -> Value {
        let now = self.status().await["last_cycle"]["cycle"].as_u64().unwrap_or(0);
        // The next one may have begun already.
        self.until("another cycle is over", |status| {
            let last = &status["last_cycle"];
            (last["cycle"].as_u64()? > now + 1).then(|| last.clone())
        })
        .await
    }

    /// Where it answers.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        kill(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let log = self.log.clone();
        let child = &mut self.child;
        let status = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = child.try_wait().expect("it is our child") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        status.await.unwrap_or_else(|_| panic!("it does not end:\n{}", end_of(&log)))
    }

    /// Asks it to end, and checks that it ended in order.
    pub(crate) async fn stop(self) {
        let log = self.log.clone();
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", end_of(&log));
    }

    /// Kills it, as a crash or the kernel would.
    pub(crate) async fn kill9(self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The policy that evens slot counts, as it is embedded.
pub(crate) fn slots_policy() -> Vec<u8> {
    embedded_policy("slots")
}

/// The file of an embedded policy.
pub(crate) fn embedded_policy(name: &str) -> Vec<u8> {
    let prebuilt = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/prebuilt"));
    fs::read(prebuilt.join(name).with_extension("wasm")).expect("it is committed")
}

/// The same program under another digest: a custom section of WebAssembly means nothing to anybody.
pub(crate) fn with_remark(mut wasm: Vec<u8>, remark: &str) -> Vec<u8> {
    let length = |bytes: usize| u8::try_from(bytes).ok().filter(|length| *length < 128).expect("a short remark");
    wasm.extend([0, length(remark.len() + 1), length(remark.len())]);
    wasm.extend(remark.as_bytes());
    wasm
}

/// The last lines of a file.
fn end_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).expect("writable");
    fs::rename(beside, path).expect("same directory");
}
