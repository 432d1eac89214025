//! The example policies of all languages answer as the Rust one does natively: the same moves, summary and gauge.
//!
//! `make test-languages` builds them first; nothing else runs these tests, since they need each language's toolchain.

#[path = "../policies/examples/rust/src/even_memory.rs"]
#[allow(unreachable_pub, dead_code, reason = "an example stands for itself: what is public there is private here")]
mod even_memory;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ballast::model::{Column, Move, NO_OWNER, Owners, Primary, SLOT_COUNT, Snapshot, Tag};
use ballast::policy::{
    Compiler, LoadedPolicy, Policy as _, PolicyHost, Settings, Source, Wishes, check, search_view, synthetic_snapshot,
};
use even_memory::{Node, Parameters, View};

/// What each test tries every policy with.
const PARAMETERS: [&str; 4] = [
    "{}",
    r#"{"threshold-percent": 100, "max-moves": 300}"#,
    " {\t\"max-moves\" : 1 ,\n\"threshold-percent\" : 150}\r\n",
    r#"{"threshold-percent":1000}"#,
];

/// Parameters that all refuse, with what they say.
const REFUSED: [(&str, &str); 18] = [
    (r#"{"treshold": 2}"#, "unknown parameter 'treshold': there are threshold-percent and max-moves"),
    (r#"{"max-moves": 5, "": 1}"#, "unknown parameter '': there are threshold-percent and max-moves"),
    (r#"{"threshold-percent": 99}"#, "threshold-percent: give a whole number from 100 to 1000"),
    (r#"{"threshold-percent": 1001}"#, "threshold-percent: give a whole number from 100 to 1000"),
    (r#"{"threshold-percent": "110"}"#, "threshold-percent: give a whole number from 100 to 1000"),
    (r#"{"threshold-percent": 110.5}"#, "threshold-percent: give a whole number from 100 to 1000"),
    (r#"{"threshold-percent": null}"#, "threshold-percent: give a whole number from 100 to 1000"),
    (r#"{"max-moves": 0}"#, "max-moves: give a whole number from 1 to 1000"),
    (r#"{"max-moves": -5}"#, "max-moves: give a whole number from 1 to 1000"),
    (r#"{"max-moves": true}"#, "max-moves: give a whole number from 1 to 1000"),
    (r#"{"max-moves": 99999999999999999999}"#, "max-moves: give a whole number from 1 to 1000"),
    ("", "parameters: give one JSON object"),
    ("[]", "parameters: give one JSON object"),
    ("null", "parameters: give one JSON object"),
    ("{", "parameters: give one JSON object"),
    ("{} {}", "parameters: give one JSON object"),
    (r#"{"max-moves": 5,}"#, "parameters: give one JSON object"),
    (r#"{"max-moves": 5"#, "parameters: give one JSON object"),
];

/// Mistakes in `plan`: the language, the file, the line that they come before, and what is said then.
const MISTAKES: [(&str, &str, &str, &str, &str); 3] = [
    ("python", "policy.py", PYTHON, "raise KeyError('oh no');", "KeyError: 'oh no'; policy.py:"),
    ("javascript", "policy.js", SCRIPT, "return { moves: [], summary: '' };", "gauges: missing"),
    ("javascript", "policy.js", SCRIPT, "Date.now();", "a policy has no clock"),
];

/// The first lines of `plan` in the examples.
const PYTHON: &str = "sizes = cluster.slot_metric(\"bytes\")";
const SCRIPT: &str = "const bytes = cluster.slotMetric('bytes');";

fn settings() -> Settings {
    Settings { compiler: Compiler::InProcess, deadline_ms: 60_000, ..Settings::default() }
}

fn host() -> PolicyHost {
    // Python takes ten seconds to compile: once is enough for as long as its policy stays the same.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-languages");
    PolicyHost::new(Settings { cache_dir: Some(cache), ..settings() }).expect("the engine starts")
}

fn built(language: &str) -> Source {
    let policy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies/examples").join(language).join("policy.wasm");
    assert!(policy.exists(), "{} is not built: run make test-languages", policy.display());
    Source::File(policy)
}

/// Clusters on which there is something to decide, by name.
fn snapshots() -> Vec<(String, Arc<Snapshot>)> {
    let mut snapshots: Vec<(String, Snapshot)> = recorded();
    for nodes in [3, 10, 100, 1000] {
        let uneven = uneven(nodes);
        let with = |change: fn(&mut Snapshot)| {
            let mut snapshot = uneven.clone();
            change(&mut snapshot);
            snapshot
        };
        let cases: [(&str, fn(&mut Snapshot)); 6] = [
            ("uneven", |_| {}),
            ("draining and cordoned", |snapshot| {
                tag(snapshot, &[(0, Tag::Draining), (1, Tag::Cordoned)]);
            }),
            ("loading, suspect, drained into what is left", |snapshot| {
                let last = snapshot.primaries.len() - 1;
                tag(snapshot, &[(0, Tag::Loading), (1, Tag::Suspect), (last, Tag::Draining)]);
            }),
            ("an empty node, ties, slots of nobody", |snapshot| {
                let nodes = snapshot.primaries.len();
                let owner = |slot: usize| {
                    if slot % 50 == 7 {
                        NO_OWNER
                    } else {
                        u32::try_from(slot * (nodes - 1) / SLOT_COUNT).expect("small")
                    }
                };
                snapshot.owners = Owners::new((0..SLOT_COUNT).map(owner).collect());
                let bytes = snapshot.slot_columns.get_mut("bytes").expect("it has bytes");
                *bytes = bytes.iter().map(|bytes| (bytes / 1e6).floor() * 1e6).collect();
                tag(snapshot, &[(nodes - 1, Tag::Empty)]);
            }),
            ("a giant on the fullest node", |snapshot| {
                let bytes = snapshot.slot_columns.get_mut("bytes").expect("it has bytes");
                let total: f64 = bytes.iter().sum();
                *bytes = bytes.iter().enumerate().map(|(slot, bytes)| if slot == 5 { total } else { *bytes }).collect();
            }),
            ("moves in flight", |snapshot| {
                let begun = |slot: u16| Move {
                    slot: slot.try_into().expect("a slot"),
                    from: snapshot.primaries[0].id.clone(),
                    to: snapshot.primaries[2].id.clone(),
                    reason: "begun before".to_owned(),
                };
                snapshot.in_flight = (0..40).map(begun).collect();
            }),
        ];
        // Those with 1000 nodes take long in an interpreter.
        for (name, change) in cases.into_iter().take(if nodes == 1000 { 2 } else { 6 }) {
            snapshots.push((format!("{nodes} nodes, {name}"), with(change)));
        }
    }
    snapshots.into_iter().map(|(name, snapshot)| (name, Arc::new(snapshot))).collect()
}

/// Some nodes have several times the bytes of others, and no two slots as many.
fn uneven(nodes: usize) -> Snapshot {
    let mut snapshot = synthetic_snapshot(nodes);
    let heavy = |slot: usize| 1.0 + f64::from(snapshot.owners.as_slice()[slot] % 5) * 1.7;
    let bytes: Column =
        snapshot.slot_columns["bytes"].iter().enumerate().map(|(slot, bytes)| bytes * heavy(slot) + 0.1).collect();
    snapshot.slot_columns.insert("bytes".to_owned(), bytes);
    snapshot
}

fn tag(snapshot: &mut Snapshot, tags: &[(usize, Tag)]) {
    for (node, tag) in tags {
        snapshot.primaries[*node].tags.push(*tag);
    }
}

/// A real cluster, as the daemon's `/api/v1/snapshot` told of it: Valkey 9.1, 40,000 keys of very different sizes, one node with
/// half of all slots and one with none. Columns that the policy does not ask for were left out.
fn recorded() -> Vec<(String, Snapshot)> {
    let recorded: Snapshot = serde_json::from_str(include_str!("languages/valkey-9.1.json")).expect("a snapshot");
    let mut draining = recorded.clone();
    tag(&mut draining, &[(1, Tag::Draining), (3, Tag::Cordoned)]);
    vec![("recorded".to_owned(), recorded), ("recorded, draining and cordoned".to_owned(), draining)]
}

fn native(snapshot: &Arc<Snapshot>, parameters: &str) -> even_memory::Plan {
    let view = search_view(snapshot);
    let node = |primary: &Primary| {
        Node::of_tags(&primary.tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<String>>())
    };
    let view = View {
        nodes: snapshot.primaries.iter().map(node).collect(),
        owners: view.owners.to_vec(),
        bytes: view.slot_columns["bytes"].to_vec(),
        in_flight: view.in_flight.iter().map(|begun| (begun.slot, begun.target)).collect(),
    };
    even_memory::plan(view, Parameters::parse(parameters).expect("sound parameters"))
}

fn answers_as_native(language: &str) {
    let mut policy = host().load(&built(language), "{}").expect("it loads");
    assert_eq!((policy.id().name.as_str(), policy.id().version.as_str()), ("even-memory", "0.1.0"));
    assert!(policy.imports().iter().all(|import| import.starts_with("ballast:policy/")), "{:?}", policy.imports());
    refuses_what_makes_no_sense(&mut policy);
    let mut moved = 0;
    for (name, snapshot) in snapshots() {
        for parameters in PARAMETERS {
            policy.configure(parameters).expect("it takes them");
            let plan = policy.plan(&snapshot).expect("it plans");
            let native = native(&snapshot, parameters);
            let moves: Vec<_> = plan.moves.iter().map(|step| (step.slot, step.target, step.reason.as_str())).collect();
            let wanted: Vec<_> = native.moves.iter().map(|step| (step.slot, step.target, step.reason)).collect();
            assert_eq!(moves, wanted, "{name}, {parameters}");
            assert_eq!(plan.summary, native.summary, "{name}, {parameters}");
            let gauges: Vec<_> =
                native.imbalance.map(|imbalance| ("imbalance".to_owned(), imbalance)).into_iter().collect();
            assert_eq!(plan.gauges, gauges, "{name}, {parameters}");
            moved += moves.len();
        }
    }
    assert!(moved > 1000, "snapshots that move nothing compare nothing");
}

fn refuses_what_makes_no_sense(policy: &mut LoadedPolicy) {
    for (parameters, why) in REFUSED {
        let refusal = policy.configure(parameters).expect_err(parameters);
        assert!(refusal.reason.contains(why), "{parameters} should be refused with '{why}': {}", refusal.reason);
        assert_eq!(policy.parameters(), "{}", "a refusal changes nothing");
    }
}

fn passes_the_check(language: &str) {
    let report = check(&host(), &built(language), &Wishes::default()).expect("it loads");
    let fine = |finding: &ballast::policy::Finding| finding.grade == ballast::policy::Grade::Pass;
    assert!(report.findings.iter().all(fine), "{report}");
}

/// The example of `language` in a directory of its own, with `mistake` before `line` of `file`, built.
fn rebuilt(language: &str, file: &str, line: &str, mistake: &str, directory: &Path) -> Source {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies/examples").join(language);
    for entry in fs::read_dir(&example).expect("an example") {
        let entry = entry.expect("readable");
        let target = directory.join(entry.file_name());
        let kind = entry.file_type().expect("readable");
        if kind.is_symlink() {
            // The contract and `toolchains`, which all examples share.
            symlink(entry.path().canonicalize().expect("it is there"), target).expect("room");
        } else if kind.is_file() && entry.file_name() != "policy.wasm" {
            fs::copy(entry.path(), target).expect("room");
        }
    }
    let text = fs::read_to_string(directory.join(file)).expect("the policy");
    assert!(text.contains(line), "{language}: `plan` does not begin with {line}");
    fs::write(directory.join(file), text.replace(line, &format!("{mistake} {line}"))).expect("room");
    let built = Command::new("bash").arg(directory.join("build.sh")).output().expect("it starts");
    assert!(built.status.success(), "{language}, {mistake}: {}", String::from_utf8_lossy(&built.stderr));
    Source::File(directory.join("policy.wasm"))
}

#[test]
fn mistakes_are_told_by_their_place_or_their_field() {
    let host = PolicyHost::new(settings()).expect("the engine starts");
    let snapshot = Arc::new(synthetic_snapshot(3));
    for (language, file, line, mistake, words) in MISTAKES {
        let directory = tempfile::tempdir().expect("room");
        let source = rebuilt(language, file, line, mistake, directory.path());
        let mut policy = host.load(&source, "{}").expect("it loads");
        let failure = policy.plan(&snapshot).expect_err(mistake);
        assert_eq!(failure.kind(), "error", "{language}, {mistake}: {failure}");
        assert!(failure.reason.contains(words), "{language}, {mistake}: '{words}' is not in {failure}");
    }
}

macro_rules! languages {
    ($($language:ident)*) => {$(
        #[test]
        fn $language() {
            answers_as_native(stringify!($language));
            passes_the_check(stringify!($language));
        }
    )*};
}

languages! { assemblyscript c go javascript python rust typescript wat zig }
