//! `ballast policy`: is this file a policy, and what does it say? The contract that policies keep, and one to begin with.

use std::path::PathBuf;

use super::new_policy::{self, Language};
use super::outcome::{Exit, Outcome, Stop};
use super::screen::Screen;
use crate::policy::{PolicyHost, Settings, Source, WIT, check, embedded_names};

/// What to do with policies.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Loads a policy as the daemon would, and tries it on made-up clusters
    Check {
        /// A component, a core module with its component type, or the name of an embedded policy
        file: PathBuf,
        /// The policy's own parameters
        #[arg(long, value_name = "JSON", default_value = "{}")]
        parameters: String,
    },
    /// Makes a project with a small policy that builds as it stands
    New {
        /// The language that it is written in
        #[arg(long, value_enum)]
        lang: Language,
        /// The directory to make; its name is the policy's
        name: PathBuf,
    },
    /// Prints the contract that policies keep (WIT)
    Wit,
}

pub(super) fn run(command: Command, screen: &Screen) -> Outcome {
    match command {
        Command::Check { file, parameters } => check_file(file, &parameters, screen),
        Command::New { lang, name } => new_policy::run(&name, lang, screen),
        Command::Wit => {
            screen.show("PolicyContract", &serde_json::json!({ "wit": WIT }), || WIT.to_owned())?;
            Ok(Exit::Ok)
        }
    }
}

fn check_file(file: PathBuf, parameters: &str, screen: &Screen) -> Outcome {
    let name = file.to_string_lossy();
    let embedded = embedded_names().contains(&&*name) && !file.exists();
    let source = if embedded { Source::Embedded(name.into_owned()) } else { Source::File(file) };
    let host = PolicyHost::new(Settings::default())?;
    let report = check(&host, &source, parameters).map_err(|failure| Stop {
        exit: Exit::Failed,
        message: failure.to_string(),
        hint: failure.next_step.clone(),
    })?;
    screen.show("PolicyCheck", &report, || format!("{report}\n"))?;
    Ok(if report.passed() { Exit::Ok } else { Exit::Failed })
}
