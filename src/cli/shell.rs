//! `ballast completions` and `ballast man`: what shells and manuals want to know of the command line, made from it.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use super::outcome::{Exit, Outcome};
use super::screen::Screen;

/// The name that completions are for, whatever this file is called.
const PROGRAM: &str = "ballast";

/// For which shell.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Whose words are written; each shell's manual says where it looks for them
    #[arg(value_enum)]
    shell: Spoken,
}

/// Where to.
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// The directory that gets the pages; made when it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The shells whose completions are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoken {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn completions(args: &Completions, screen: &Screen) -> Outcome {
    let script = script(args.shell);
    screen.show("Completions", &json!({ "script": script }), || script.clone())?;
    Ok(Exit::Ok)
}

fn script(shell: Spoken) -> String {
    let shell = match shell {
        Spoken::Bash => Shell::Bash,
        Spoken::Zsh => Shell::Zsh,
        Spoken::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

pub(super) fn manual(args: &Manual, screen: &Screen) -> Outcome {
    let pages = write_pages(&args.directory)
        .with_context(|| format!("cannot write the manual to {}", args.directory.display()))?;
    screen.show("Manual", &json!({ "pages": pages }), || pages.iter().map(|page| format!("{page}\n")).collect())?;
    Ok(Exit::Ok)
}

/// One page for each command, in the order of their names. The paths that were written.
fn write_pages(directory: &std::path::Path) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(PROGRAM) && name.ends_with(".1") {
            pages.push(path.display().to_string());
        }
    }
    pages.sort();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Spoken::Bash, Spoken::Zsh, Spoken::Fish] {
            let script = script(shell);
            for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell:?} does not know {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let pages = write_pages(&directory.path().join("man1")).expect("written");
        let page = |name: &str| pages.iter().any(|page| page.ends_with(&format!("/{name}.1")));
        assert!(page("ballast"), "{pages:?}");
        for command in Cli::command().get_subcommands() {
            assert!(page(&format!("ballast-{}", command.get_name())), "{} is missing in {pages:?}", command.get_name());
        }
        assert!(page("ballast-policy-check") && !pages.iter().any(|page| page.contains("-help")), "{pages:?}");
    }
}
