//! Imports point one way: the house stands as `ARCHITECTURE.md` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with those that it may use besides itself; tests may use what they like.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("telemetry", &[]),
    ("clock", &[]),
    ("web", &[]),
    ("marked", &[]),
    ("cluster", &["model", "web"]),
    ("guard", &["model"]),
    ("explain", &["model", "store"]),
    ("collector", &["model", "cluster", "clock"]),
    ("policy", &["model", "clock"]),
    ("scaling", &["model", "marked"]),
    ("examine", &["model", "cluster", "collector", "telemetry", "clock"]),
    ("migration", &["model", "cluster", "guard", "telemetry", "clock"]),
    ("verify", &["model", "cluster", "collector", "clock"]),
    ("repair", &["model", "cluster", "examine", "migration", "telemetry"]),
    ("retire", &["model", "cluster", "telemetry"]),
    ("join", &["model", "cluster"]),
    ("store", &["model", "migration", "clock"]),
    ("webhook", &["store", "telemetry", "web"]),
    ("lease", &["model", "cluster", "migration", "telemetry", "web"]),
    (
        "config",
        &[
            "model",
            "cluster",
            "guard",
            "collector",
            "policy",
            "scaling",
            "migration",
            "store",
            "lease",
            "webhook",
            "telemetry",
            "marked",
        ],
    ),
    (
        "control",
        &[
            "model",
            "cluster",
            "guard",
            "collector",
            "policy",
            "scaling",
            "migration",
            "examine",
            "repair",
            "retire",
            "join",
            "store",
            "webhook",
            "lease",
            "config",
            "telemetry",
            "clock",
            "metrics",
            "http",
        ],
    ),
    ("simulate", &["model", "cluster", "guard", "collector", "policy", "scaling", "migration"]),
    ("metrics", &["model", "migration", "policy", "store", "control"]),
    ("http", &["model", "migration", "store", "explain", "config", "control", "metrics", "telemetry", "clock"]),
    (
        "doctor",
        &[
            "webhook",
            "model",
            "cluster",
            "guard",
            "policy",
            "migration",
            "store",
            "lease",
            "config",
            "telemetry",
            "clock",
            "web",
        ],
    ),
    ("lab", &["model", "cluster"]),
    ("demo", &["model", "cluster", "policy", "lab", "telemetry", "control", "web"]),
    (
        "cli",
        &[
            "model",
            "cluster",
            "guard",
            "collector",
            "examine",
            "explain",
            "policy",
            "migration",
            "repair",
            "store",
            "config",
            "telemetry",
            "clock",
            "control",
            "demo",
            "doctor",
            "verify",
            "simulate",
            "join",
            "web",
        ],
    ),
    ("main", &["cli"]),
];

/// Crates that one place alone may name.
const GUESTS: &[(&str, &[&str])] = &[
    ("redis", &["src/cluster/live.rs", "src/cluster/live/"]),
    ("wasmtime", &["src/policy.rs", "src/policy/"]),
    ("axum", &["src/http.rs", "src/http/"]),
    ("prometheus", &["src/metrics.rs", "src/metrics/"]),
    ("rusqlite", &["src/store.rs", "src/store/"]),
    ("sd_notify", &["src/control/supervisor.rs"]),
    ("clap_complete", &["src/cli/shell.rs"]),
    ("clap_mangen", &["src/cli/shell.rs"]),
    ("clap", &["src/cli.rs", "src/cli/", "src/demo.rs", "src/demo/", "src/main.rs"]),
];

struct Source {
    /// `src/guard/each.rs`.
    path: String,
    /// `guard`.
    module: String,
    /// The program part: without comments, and without what follows `#[cfg(test)]`.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    assert!(files.len() > 20, "only {} files were found", files.len());
    files
        .into_iter()
        // A file of tests alone.
        .filter(|file| !file.ends_with("tests.rs") && !file.iter().any(|part| part == "tests"))
        .map(|file| {
            let inside = file.strip_prefix(root.join("src")).expect("it was found there");
            let first = inside.iter().next().expect("a name").to_str().expect("Unicode");
            let text = fs::read_to_string(&file).expect("readable");
            let program = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = program.lines().filter(|line| !line.trim_start().starts_with("//"));
            Source {
                path: format!("src/{}", inside.display()),
                module: first.trim_end_matches(".rs").to_owned(),
                text: lines.collect::<Vec<_>>().join("\n"),
            }
        })
        .collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The top modules that `text` names after `crate::` (or, in the binary, `ballast::`), those in braces included.
fn named(text: &str, root: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for (place, _) in text.match_indices(root) {
        // `mycrate::x` is not `crate::x`.
        if text[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[place + root.len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, character) in inside.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && c.is_alphanumeric() => {
                    names.insert(word(&inside[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let Some((_, may)) = MAY_USE.iter().find(|(module, _)| *module == source.module) else {
            wrong.push(format!("{}: module `{}` has no line in this table", source.path, source.module));
            continue;
        };
        let root = if source.module == "main" { "ballast::" } else { "crate::" };
        let known =
            named(&source.text, root).into_iter().filter(|name| MAY_USE.iter().any(|(module, _)| module == name));
        for name in known.filter(|name| *name != source.module && !may.contains(&name.as_str())) {
            wrong.push(format!("{}: `{}` must not know `{name}`", source.path, source.module));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_guest_has_one_user() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (guest, homes) in GUESTS {
            let named = source.text.match_indices(&format!("{guest}::")).any(|(place, _)| {
                !source.text[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
            });
            let at_home =
                homes.iter().any(|home| source.path == *home || (home.ends_with('/') && source.path.starts_with(home)));
            if named && !at_home {
                wrong.push(format!("{}: `{guest}` belongs to {}", source.path, homes[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "use crate::model::{Move, Plan};\nuse crate::{guard::{self, x}, store, cluster::Lane};\nlet _ = crate::policy::f();";
    let names: Vec<String> = named(text, "crate::").into_iter().collect();
    assert_eq!(names, ["cluster", "guard", "model", "policy", "store"]);
}
