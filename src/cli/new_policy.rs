//! `ballast policy new`: a policy to begin with, in any language, that builds as it stands.
//!
//! The templates are `policies/examples`, which `make test-languages` builds and compares: there is no second copy.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::outcome::{Exit, Outcome, refused};
use super::screen::Screen;
use crate::policy::WIT;

/// What the examples are called; the new policy's name takes its place.
const EXAMPLE: &str = "even-memory";

/// As long as the contract allows.
const NAME_MAX: usize = 64;

/// Paths below the project, and texts.
type Files = &'static [(&'static str, &'static str)];

/// What every project has besides its own files.
const COMMON: Files = &[
    ("toolchains", include_str!("../../scripts/toolchains")),
    (".gitignore", include_str!("../../policies/examples/.gitignore")),
];

/// `files!("c": "policy.c", …)`: the example's files, as they are.
macro_rules! files {
    ($language:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../policies/examples/", $language, "/", $file)))),+]
    };
}

/// A language that policies can begin in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    #[value(name = "assemblyscript")]
    AssemblyScript,
    C,
    Go,
    #[value(name = "javascript")]
    JavaScript,
    Python,
    Rust,
    #[value(name = "typescript")]
    TypeScript,
    Wat,
    Zig,
}

impl Language {
    const fn files(self) -> Files {
        match self {
            Self::AssemblyScript => {
                files!("assemblyscript": "policy.ts", "ballast.ts", "build.sh", "package.json", "package-lock.json")
            }
            Self::C => files!("c": "policy.c", "ballast.c", "ballast.h", "build.sh"),
            Self::Go => files!("go": "policy.go", "ballast/ballast.go", "build.sh", "go.mod"),
            Self::JavaScript => {
                files!("javascript": "policy.js", "ballast.js", "build.sh", "package.json", "package-lock.json")
            }
            Self::Python => files!("python": "policy.py", "ballast.py", "build.sh"),
            Self::Rust => files!("rust": "src/even_memory.rs", "src/lib.rs", "build.sh", "Cargo.toml", "Cargo.lock"),
            Self::TypeScript => {
                files!("typescript": "policy.ts", "ballast.ts", "contract.d.ts", "build.sh", "package.json",
                "package-lock.json", "tsconfig.json")
            }
            Self::Wat => files!("wat": "policy.wat", "build.sh"),
            Self::Zig => files!("zig": "policy.zig", "ballast.zig", "build.sh"),
        }
    }

    /// What has to be there before `build.sh`, which fetches the rest.
    const fn needs(self) -> &'static str {
        match self {
            Self::AssemblyScript => "python3 with pip, node and npm",
            Self::JavaScript | Self::TypeScript => "python3, node and npm",
            Self::Rust => "cargo with the target wasm32-unknown-unknown; or python3, cc and Debian's apt-get",
            Self::C | Self::Go | Self::Python | Self::Wat | Self::Zig => "python3 with pip",
        }
    }
}

/// What was made, for people and programs.
#[derive(Debug, Serialize)]
struct Project {
    path: PathBuf,
    name: String,
    language: Language,
    /// Paths below the project; the policy itself first.
    files: Vec<&'static str>,
}

pub(super) fn run(path: &Path, language: Language, screen: &Screen) -> Outcome {
    let project = make(path, language)?;
    screen.show("PolicyProject", &project, || next_steps(&project))?;
    Ok(Exit::Ok)
}

fn make(path: &Path, language: Language) -> anyhow::Result<Project> {
    let name = name_of(path)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(refused(
                format!("'{}' is there already", path.display()),
                "give a directory that does not exist",
            ));
        }
        made => made.with_context(|| format!("the directory '{}' cannot be made", path.display()))?,
    }
    let contract = [("wit/policy.wit", WIT)];
    let files = || language.files().iter().chain(COMMON).chain(&contract);
    for (file, text) in files() {
        write(&path.join(file), &text.replace(EXAMPLE, &name))
            .with_context(|| format!("'{}' cannot be written", path.join(file).display()))?;
    }
    Ok(Project { path: path.to_owned(), name, language, files: files().map(|(file, _)| *file).collect() })
}

/// The policy's name: the directory's, if a policy may be called that.
fn name_of(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_');
    let starts = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if starts && name.len() <= NAME_MAX && name.chars().all(letters) {
        return Ok(name);
    }
    Err(refused(
        format!("'{name}' cannot be a policy's name"),
        format!("begin with a letter; a-z, 0-9, - and _ follow; at most {NAME_MAX}"),
    ))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)?;
    if text.starts_with("#!") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn next_steps(project: &Project) -> String {
    let (path, needs) = (project.path.display(), project.language.needs());
    // `./` so that the shell does not look elsewhere.
    let here = if project.path.components().count() == 1 { "./" } else { "" };
    format!(
        "{path}: a policy that evens memory, to begin with\n\
         next:\n  \
           {here}{path}/build.sh      (needs {needs}; fetches the rest)\n  \
           ballast policy check {path}/policy.wasm\n  \
           edit {path}/{policy}; what it may ask is in {path}/wit/policy.wit\n",
        policy = project.files[0],
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum as _;

    use super::*;

    /// Files below `directory` that are not made by `build.sh` and no links to what all share.
    fn sources(directory: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("Unicode");
            let kind = entry.file_type().expect("readable");
            let made = ["policy.wasm", "build", "target", "__pycache__", "node_modules"].contains(&name.as_str());
            if kind.is_symlink() || made {
                continue;
            }
            if kind.is_dir() {
                sources(&entry.path(), &format!("{below}{name}/"), found);
            } else {
                found.insert(format!("{below}{name}"));
            }
        }
    }

    #[test]
    fn every_example_is_a_template_with_all_its_files() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples");
        for language in Language::value_variants() {
            let name = language.to_possible_value().expect("it has a name").get_name().to_owned();
            let mut found = BTreeSet::new();
            sources(&examples.join(&name), "", &mut found);
            let listed: BTreeSet<String> = language.files().iter().map(|(file, _)| (*file).to_owned()).collect();
            assert_eq!(listed, found, "{name}");
            assert!(language.files().iter().any(|(_, text)| text.contains(EXAMPLE)), "{name} has no name to replace");
        }
    }

    #[test]
    fn a_project_has_its_name_the_contract_and_programs_that_run() {
        let home = tempfile::tempdir().expect("room");
        for language in Language::value_variants() {
            let path = home.path().join(format!("mine-in-{language:?}").to_lowercase());
            make(&path, *language).expect("it is made");
            let read = |file: &str| fs::read_to_string(path.join(file)).expect("it is there");
            assert_eq!(read("wit/policy.wit"), WIT);
            let all: String = language.files().iter().map(|(file, _)| read(file)).collect();
            assert!(!all.contains(EXAMPLE), "{language:?}");
            assert!(all.contains(&*path.file_name().expect("a name").to_string_lossy()), "{language:?}");
            for program in ["build.sh", "toolchains"] {
                let mode = fs::metadata(path.join(program)).expect("it is there").permissions().mode();
                assert_eq!(mode & 0o111, 0o111, "{program} of {language:?}");
            }
        }
    }

    #[test]
    fn neither_bad_names_nor_what_is_there_are_taken() {
        let home = tempfile::tempdir().expect("room");
        let refusal = |name: &str| make(&home.path().join(name), Language::C).expect_err(name).to_string();
        for name in ["Mine", "1st", "a b", "a\"b", "ä", &"x".repeat(65)] {
            assert!(refusal(name).ends_with("cannot be a policy's name"), "{name}");
        }
        fs::create_dir(home.path().join("mine")).expect("room");
        assert!(refusal("mine").ends_with("is there already"));
        assert_eq!(fs::read_dir(home.path().join("mine")).expect("there").count(), 0, "nothing is written into it");
    }
}
