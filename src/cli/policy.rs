//! `ballast policy`: is this file a policy, and what does it say?

use std::path::PathBuf;

use super::outcome::{Exit, Outcome, Stop};
use super::screen::Screen;
use crate::policy::{PolicyHost, Settings, Source, check, embedded_names};

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
}

pub(super) fn run(command: Command, screen: &Screen) -> Outcome {
    let Command::Check { file, parameters } = command;
    let name = file.to_string_lossy();
    let embedded = embedded_names().contains(&&*name) && !file.exists();
    let source = if embedded { Source::Embedded(name.into_owned()) } else { Source::File(file) };
    let host = PolicyHost::new(Settings::default())?;
    let report = check(&host, &source, &parameters).map_err(|failure| Stop {
        exit: Exit::Failed,
        message: failure.to_string(),
        hint: failure.next_step.clone(),
    })?;
    screen.show("PolicyCheck", &report, || format!("{report}\n"))?;
    Ok(if report.passed() { Exit::Ok } else { Exit::Failed })
}
