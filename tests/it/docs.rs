//! Every example of README.md and docs/ is executed, as it stands there.
//!
//! A shell says the lines of commands, in a directory of its own, to a real cluster and a real daemon; settings, scenarios and
//! expectations are given to the commands that read them. [`STANDS_FOR`] says what takes the place of addresses and paths, [`ALSO`]
//! what is added so that a line ends soon and asks nobody, and [`NOT_RUN`] what is not executed here, and why. A block that is
//! neither executed nor listed fails the test, as does an entry of a list that nothing needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use ballast::lab::{Kind, LocalCluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::daemon::child::{Home, Settings};
use crate::daemon::filled;
use crate::support::{start, turn};

/// What takes the place of what: `SEED` is a node's URL, `LEAVER` the address of one that can be spared, `DAEMON` where the daemon
/// listens, `STATE` its state directory, and `HERE` the directory in which lines are said.
const STANDS_FOR: [(&str, &str); 9] = [
    ("redis://127.0.0.1:7000", "SEED"),
    ("redis://10.0.0.1:7000", "SEED"),
    ("redis://10.0.0.1:6379", "SEED"),
    ("10.0.0.4:6379", "LEAVER"),
    ("http://127.0.0.1:9899", "DAEMON"),
    ("/var/lib/ballast", "STATE"),
    ("/srv/ballast/", "HERE/"),
    ("/etc/ballast/", "HERE/etc/"),
    // Of a recording that is seconds long.
    ("--hours 24", "--hours 0.0167"),
];

/// What is added to a line that begins so, unless it says so itself.
const ALSO: [(&str, &str, &str); 6] = [
    // One look of a second instead of ten.
    ("ballast plan", "--sample", "1s"),
    ("ballast rebalance", "--sample", "1s"),
    // Nobody is there to be asked.
    ("ballast rebalance", "--yes", ""),
    ("ballast fix", "--yes", ""),
    // The daemon listens where it found a free port.
    ("ballast drain", "--url", "DAEMON"),
    // A minute of each day.
    ("ballast simulate", "--hours", "0.0167"),
];

/// What is not executed here: where, how the line or the block begins, and why.
const NOT_RUN: [(&str, &str, &str); 21] = [
    ("README.md", "make demo", "builds Ballast and runs its demo, which tests/it/demo.rs does"),
    ("README.md", "make test", "runs this test"),
    ("README.md", "cargo build", "builds Ballast"),
    ("docs/access.md", "ACL SETUSER ballast on", "sets rights for each kind of server, which tests/it/access.rs does"),
    ("docs/install.md", "make package", "builds Ballast; scripts/check-package checks what that makes"),
    ("docs/install.md", "sudo", "changes the machine; scripts/check-package installs in a root of its own"),
    ("docs/install.md", "\"password\"", "a credential, which systemd hands over"),
    ("docs/install.md", "docker", "needs a Docker; scripts/check-deploy has hadolint"),
    ("docs/install.md", "# my-values.yaml", "values for Helm; scripts/check-deploy has others"),
    ("docs/install.md", "helm", "needs a Kubernetes; scripts/check-deploy has Helm make its files"),
    ("docs/api.md", "curl -fsS -H", "shows a token, which scripts/check-api and src/http/tests.rs do"),
    ("docs/languages.md", "mine/build.sh", "fetches a toolchain, which tests/languages.rs does for each language"),
    ("docs/languages.md", "from wit_world", "lines of a Python policy, for an author to build"),
    ("docs/languages.md", "import log from", "lines of a JavaScript policy, for an author to build"),
    ("docs/languages.md", "  ballast_text report", "lines of a C policy, for an author to build"),
    ("docs/policies.md", "mine/build.sh", "fetches a toolchain, which tests/languages.rs does for each language"),
    ("docs/scaling.md", "kubectl", "needs a Kubernetes; scripts/check-deploy holds the files to its schemas"),
    ("docs/scaling.md", "printf", "makes a secret in a Kubernetes"),
    ("docs/scaling.md", "ballast-lifecycle", "needs an AWS; deploy/aws/test_ballast_lifecycle.py has a stand-in"),
    ("docs/search.md", "\"trigger\"", "goals, by which policies/search/tests/plans.rs plans"),
    ("docs/search.md", "\"utilisation\"", "a report, whose keys policies/search/tests/plans.rs compares"),
];

/// A policy as the example of one of the languages is built.
const BUILT: &str = "tests/compat/0.1.0/c.wasm";

/// How long one line may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fenced block of a document.
#[derive(Debug, Clone)]
struct Block {
    file: String,
    /// Of its first line, counted from 1.
    line: usize,
    language: String,
    text: String,
}

/// What a block is an example of.
#[derive(Debug, PartialEq, Eq)]
enum Example {
    /// Lines for a shell.
    Shell,
    /// A part of `daemon.toml`.
    Settings,
    /// `ballast simulate --scenario FILE`.
    Scenario,
    /// `NAME.expect.json` beside a snapshot.
    Expectation,
    /// Commands for a server.
    Server,
    /// What a program printed.
    Output,
}

impl Block {
    /// `None` when nobody knows what to do with it.
    fn example(&self) -> Option<Example> {
        match self.language.as_str() {
            "sh" => Some(Example::Shell),
            "toml" if self.text.contains("summary = ") => Some(Example::Scenario),
            "toml" => Some(Example::Settings),
            "json" if self.text.contains("\"moves-min\"") => Some(Example::Expectation),
            "redis" => Some(Example::Server),
            "text" => Some(Example::Output),
            _ => None,
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Why this is not run, if it is not.
fn not_run(file: &str, text: &str) -> Option<usize> {
    let is = |(of, begins, _): &(&str, &str, &str)| {
        *of == file && (text.starts_with(begins) || begins.starts_with('"') && text.contains(begins))
    };
    NOT_RUN.iter().position(is)
}

/// The documents, each with its text: those of docs/ by name, and the README when they are through.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names =
        fs::read_dir(root.join("docs")).expect("the documents").map(|entry| entry.expect("an entry").file_name());
    let mut files: Vec<String> = names.filter_map(|name| Some(format!("docs/{}", name.to_str()?))).collect();
    files.retain(|file| file.ends_with(".md"));
    files.sort();
    files.push("README.md".to_owned());
    let read = |file: String| (fs::read_to_string(root.join(&file)).expect("text"), file);
    files.into_iter().map(read).map(|(text, file)| (file, text)).collect()
}

/// The runbooks: nobody has their emergencies at hand, but what they say has to be sayable.
fn runbooks() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let files = fs::read_dir(folder).expect("the runbooks").map(|entry| entry.expect("an entry").path());
    let read = |file: PathBuf| (file.display().to_string(), fs::read_to_string(&file).expect("text"));
    files.filter(|file| file.extension().is_some_and(|ending| ending == "md")).map(read).collect()
}

/// Commands of ours in running text and in blocks, each as it stands.
fn commands_in<'t>(file: &str, text: &'t str) -> Vec<String> {
    let spans: Vec<&'t str> = text.split('`').skip(1).step_by(2).filter(|span| !span.contains('\n')).collect();
    let lines =
        blocks(file, text).into_iter().flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let said = spans.into_iter().map(str::to_owned).chain(lines);
    said.filter(|said| said.starts_with("ballast "))
        .map(|said| said.split(" #").next().unwrap_or_default().to_owned())
        .collect()
}

fn blocks(file: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let (file, language) = (file.to_owned(), language.to_owned());
                open = Some(Block { file, line: number + 1, language, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{open:?} does not end");
    blocks
}

/// Where lines are said, and what takes the place of what there.
struct Ground<'c> {
    here: PathBuf,
    cluster: &'c LocalCluster,
    means: Vec<(&'static str, String)>,
}

impl Ground<'_> {
    /// The text with what takes the place of addresses and paths.
    fn translated(&self, text: &str) -> String {
        let word = STANDS_FOR.iter().fold(text.to_owned(), |text, (what, word)| text.replace(what, word));
        self.means.iter().fold(word, |text, (word, what)| text.replace(word, what))
    }

    fn command(&self, program: &str) -> Command {
        let ballast = Path::new(env!("CARGO_BIN_EXE_ballast")).parent().expect("a directory");
        let path = format!("{}:{}", ballast.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(&self.here).env("PATH", path).env("XDG_STATE_HOME", self.here.join("state-home"));
        // The port of the examples may be somebody's.
        command.env_remove("BALLAST_CONFIG").env("BALLAST_HTTP__LISTEN", "127.0.0.1:0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Says a line to a shell; it has to end well.
    #[expect(clippy::print_stdout, reason = "what a test tells")]
    async fn say(&self, place: &str, line: &str) {
        let (words, comment) = line.split_once(" # ").unwrap_or((line, ""));
        let also = ALSO.iter().filter(|(begins, flag, _)| line.starts_with(begins) && !words.contains(flag));
        let also: String = also.map(|(_, flag, value)| format!("{flag} {value} ")).collect();
        let said = self.translated(&format!("{words} {also}# {comment}"));
        if line.starts_with("ballast run") {
            return self.runs(place, &said).await;
        }
        let began = Instant::now();
        let output = timeout(PATIENCE, self.command("sh").args(["-c", &said]).output()).await;
        let Output { status, stdout, stderr } =
            output.unwrap_or_else(|_| panic!("{place}: {line}: takes too long")).expect("there is a shell");
        let told = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        println!("{:>6} ms  {place}  {line}", began.elapsed().as_millis());
        assert!(status.success(), "{place}: {line}\n{said}\n{status}: {told}");
    }

    /// A daemon listens, and ends in order when it is told to.
    async fn runs(&self, place: &str, said: &str) {
        let mut daemon = self.command("sh").args(["-c", &format!("exec {said}")]).spawn().expect("there is a shell");
        let mut lines = BufReader::new(daemon.stderr.take().expect("it is piped")).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if line.contains("listening") {
                    return;
                }
            }
            panic!("{place}: {said}: it ended");
        };
        timeout(PATIENCE, listens).await.unwrap_or_else(|_| panic!("{place}: {said}: it does not listen"));
        let pid = daemon.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        let ended = timeout(PATIENCE, daemon.wait()).await.expect("it ends").expect("it is our child");
        assert!(ended.success(), "{place}: {said}: {ended}");
    }

    /// A part of a configuration is one that a daemon would start with.
    async fn settings(&self, block: &Block) {
        let seeds = if block.text.contains("[cluster]") { "" } else { "\n[cluster]\nseeds = [\"SEED\"]\n" };
        let file = self.here.join("example.toml");
        fs::write(&file, self.translated(&format!("{}{seeds}", block.text))).expect("writable");
        self.say(&block.place(), "ballast doctor --config example.toml --config-only").await;
    }

    /// What `mine/build.sh` would have written.
    fn build(&self) {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(BUILT);
        fs::copy(built, self.here.join("mine/policy.wasm")).expect("the project was made before");
    }

    /// What a file says that a later line reads.
    fn put(&self, file: &str, text: &str) {
        fs::write(self.here.join(file), text).expect("writable");
    }

    async fn run(&self, block: &Block, needed: &mut BTreeSet<usize>) {
        let listed = |text: &str, needed: &mut BTreeSet<usize>| {
            not_run(&block.file, text).is_some_and(|entry| {
                needed.insert(entry);
                true
            })
        };
        let example = block.example();
        if example != Some(Example::Shell) && listed(&block.text, needed) {
            return;
        }
        match example.unwrap_or_else(|| panic!("{}: neither run nor listed: {}", block.place(), block.text)) {
            Example::Shell => {
                for line in block.text.lines().filter(|line| !line.trim().is_empty()) {
                    if !listed(line, needed) {
                        self.say(&block.place(), line).await;
                    } else if line.starts_with("mine/build.sh") {
                        self.build();
                    }
                }
            }
            Example::Settings => self.settings(block).await,
            Example::Scenario => {
                self.put("mine.toml", &block.text);
                self.say(&block.place(), "ballast simulate --scenario mine.toml --policy balance").await;
            }
            Example::Expectation => {
                self.put("golden/monday.expect.json", &block.text);
                self.say(&block.place(), "ballast policy check mine/policy.wasm --snapshots golden").await;
            }
            Example::Server => {
                for line in block.text.lines() {
                    let said = ballast::cluster::Command::new(line);
                    let node = &self.cluster.nodes[0].server;
                    node.call(said).await.unwrap_or_else(|why| panic!("{}: {line}: {why}", block.place()));
                }
            }
            Example::Output => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_is_executed() {
    let _turn = turn().await;
    // The first primary holds somewhat more than its part, so that a policy has something to even.
    let slots = ["0-4699", "4700-8594", "8595-12488", "12489-16383"].map(|slots| slots.parse().expect("slots"));
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.slots(slots.to_vec()))).await;
    filled(&cluster, 4_000).await;
    let home = Home::new(cluster.addresses()[0].clone(), &Settings { mode: "dry-run", ..Settings::default() });
    let daemon = home.start().await;
    daemon.until("it sees four primaries", |status| (status["nodes"].as_array()?.len() == 4).then_some(())).await;
    // Some lines ask why it decided as it did.
    daemon.until("it has planned", |status| (status["last_cycle"]["outcome"] == "planned").then_some(())).await;

    let means = [
        ("SEED", format!("redis://{}", cluster.addresses()[0])),
        ("LEAVER", cluster.addresses()[3].to_string()),
        ("DAEMON", daemon.base().to_owned()),
        ("STATE", home.path().join("state").display().to_string()),
    ];
    // What touches no server goes beside the rest: it takes a core as long.
    let (apart, documents): (Vec<_>, Vec<_>) =
        documents().into_iter().partition(|(file, _)| file == "docs/simulate.md");
    let beside = async {
        let mut needed = BTreeSet::new();
        for (file, text) in &apart {
            needed.extend(every_block(file, text, &cluster, &means).await);
        }
        needed
    };
    let rest = async {
        let mut needed = BTreeSet::new();
        for (file, text) in &documents {
            // What is drained has to move, and what is looked at before, not.
            if file == "docs/scaling.md" {
                home.configure(&Settings::default());
                daemon.until("it may move slots", |status| (status["mode"] == "auto").then_some(())).await;
            }
            needed.extend(every_block(file, text, &cluster, &means).await);
            if file == "docs/scaling.md" {
                // Else it moves slots beside what is said in the documents after this one.
                home.configure(&Settings { mode: "dry-run", ..Settings::default() });
                daemon.until("it moves nothing", |status| (status["mode"] == "dry-run").then_some(())).await;
                daemon.next_cycle().await;
            }
        }
        needed
    };
    let (mut needed, more) = tokio::join!(beside, rest);
    needed.extend(more);
    daemon.stop().await;
    let idle: Vec<_> = (0..NOT_RUN.len()).filter(|entry| !needed.contains(entry)).map(|entry| NOT_RUN[entry]).collect();
    assert!(idle.is_empty(), "nothing needs these any more: {idle:?}");
}

/// Executes the examples of a document, in a directory of its own. The entries of [`NOT_RUN`] that it needed.
async fn every_block(
    file: &str,
    text: &str,
    cluster: &LocalCluster,
    means: &[(&'static str, String)],
) -> BTreeSet<usize> {
    let here = tempfile::tempdir().expect("temporary directory");
    let place = [("HERE", here.path().display().to_string())];
    let ground = Ground { here: here.path().to_owned(), cluster, means: means.iter().cloned().chain(place).collect() };
    furnish(&ground);
    let mut blocks = blocks(file, text);
    // Lines read the files that are shown below them.
    blocks.sort_by_key(|block| block.example() != Some(Example::Scenario));
    let mut needed = BTreeSet::new();
    for block in &blocks {
        ground.run(block, &mut needed).await;
    }
    needed
}

/// The files that examples speak of, and which nothing in their document makes.
fn furnish(ground: &Ground<'_>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(ground.here.join("etc")).expect("writable");
    for file in ["ca.pem", "client.pem", "client.key"] {
        fs::copy(root.join("tests/it/tls").join(file), ground.here.join("etc").join(file)).expect("copied");
    }
    ground.put("etc/password", "secret\n");
    for tokens in ["operators", "viewers"] {
        ground.put(&format!("etc/{tokens}"), "0123456789abcdef ann\n");
    }
    fs::copy(root.join(BUILT), ground.here.join("mine.wasm")).expect("copied");
    let example = fs::read_to_string(root.join("daemon.toml")).expect("the example");
    ground.put("daemon.toml", &ground.translated(&example));
}

/// Commands in running text: what they are called, and what may be said with them.
#[tokio::test]
async fn every_command_that_is_spoken_of_exists() {
    let here = tempfile::tempdir().expect("temporary directory");
    let mut wrong = Vec::new();
    let mut asked = BTreeSet::new();
    for (file, text) in documents().into_iter().chain(runbooks()) {
        for span in commands_in(&file, &text) {
            if !asked.insert(span.clone()) {
                continue;
            }
            let words: Vec<&str> = span.split_whitespace().skip(1).collect();
            let named = words.iter().take_while(|word| word.starts_with(|letter: char| letter.is_ascii_lowercase()));
            let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
            command.args(named).arg("--help").current_dir(here.path()).kill_on_drop(true);
            let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            let flags = words.iter().map(|word| word.trim_matches(['[', ']', '(', ')', ',']));
            let flags = flags.filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word));
            let absent: Vec<&str> = flags.filter(|flag| !help.contains(*flag)).collect();
            if !output.status.success() || !absent.is_empty() {
                wrong.push(format!("{file}: `{span}`: {absent:?} {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked.len() > 50, "they are found at all: {}", asked.len());
}

#[test]
fn blocks_are_found_with_their_language_and_their_place() {
    let found = blocks("x.md", "text\n```sh\nballast check\n\n```\n\n```\nout\n```\n");
    let told = |block: &Block| (block.place(), block.language.clone(), block.text.clone());
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        [
            ("x.md:3".to_owned(), "sh".to_owned(), "ballast check\n\n".to_owned()),
            ("x.md:8".to_owned(), String::new(), "out\n".to_owned()),
        ]
    );
    assert_eq!(
        found.iter().map(Block::example).collect::<Vec<_>>(),
        [Some(Example::Shell), None],
        "no language: neither"
    );
}
