//! `ballast policy`: is this file a policy, and what does it say? The contract that policies keep, and one to begin with.

use std::path::PathBuf;

use super::daemon::Daemon;
use super::loaded;
use super::new_policy::{self, Language};
use super::outcome::{Exit, Outcome, Stop};
use super::screen::Screen;
use crate::policy::{Golden, PolicyHost, Settings, Source, WIT, Wishes, check, embedded_names};

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
        /// Your own recorded snapshots: NAME.json, and what you expect in NAME.expect.json (docs/policies.md)
        #[arg(long, value_name = "DIR")]
        snapshots: Option<PathBuf>,
        /// What the policy moves now on those snapshots is expected from now on
        #[arg(long, requires = "snapshots")]
        bless: bool,
        /// Also times a call at 10, 100 and 1000 nodes
        #[arg(long)]
        bench: bool,
    },
    /// Shows what a running daemon has loaded: digest, since when, calls, faults, memory, shadows
    Show {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Lets a shadow decide in the configured policy's place
    Promote {
        /// The shadow, as the configuration calls it
        #[arg(required_unless_present = "undo")]
        shadow: Option<String>,
        /// Lets the configured policy decide again
        #[arg(long, conflicts_with = "shadow")]
        undo: bool,
        /// Why, for the history
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        daemon: Daemon,
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

pub(super) async fn run(command: Command, screen: &Screen) -> Outcome {
    match command {
        Command::Check { file, parameters, snapshots, bless, bench } => {
            let golden = snapshots.map(|directory| Golden { directory, bless });
            check_file(file, &Wishes { parameters, golden, bench }, screen)
        }
        Command::Show { daemon } => loaded::show(&daemon, screen).await,
        Command::Promote { shadow, reason, daemon, .. } => loaded::promote(shadow, &reason, &daemon, screen).await,
        Command::New { lang, name } => new_policy::run(&name, lang, screen),
        Command::Wit => {
            screen.show("PolicyContract", &serde_json::json!({ "wit": WIT }), || WIT.to_owned())?;
            Ok(Exit::Ok)
        }
    }
}

fn check_file(file: PathBuf, wishes: &Wishes, screen: &Screen) -> Outcome {
    let name = file.to_string_lossy();
    let embedded = embedded_names().contains(&&*name) && !file.exists();
    let source = if embedded { Source::Embedded(name.into_owned()) } else { Source::File(file) };
    let host = PolicyHost::new(Settings::default())?;
    let report = check(&host, &source, wishes).map_err(|failure| Stop {
        exit: Exit::Failed,
        message: failure.to_string(),
        hint: failure.next_step.clone(),
    })?;
    screen.show("PolicyCheck", &report, || format!("{report}\n"))?;
    Ok(if report.passed() { Exit::Ok } else { Exit::Failed })
}
