//! `ballast config`: what holds, and who said so.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::outcome::{Exit, Outcome};
use super::screen::Screen;
use super::target::load_whole;
use crate::config::Setting;

/// What to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Shows every setting with its value and where that comes from; passwords are never shown
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// Hides users, hosts and paths too, so that it can be shown to others
        #[arg(long)]
        redacted: bool,
    },
}

/// The configuration of a daemon that was installed as a package.
pub(super) const PACKAGED: &str = "/etc/ballast/daemon.toml";

/// Which configuration.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigFile {
    /// Configuration file
    #[arg(long = "config", value_name = "FILE", env = "BALLAST_CONFIG", default_value = PACKAGED)]
    pub(super) path: PathBuf,
}

#[derive(Serialize)]
struct Shown {
    file: String,
    settings: Vec<Setting>,
}

pub(super) fn run(command: &Command, screen: &Screen) -> Outcome {
    let Command::Show { file, redacted } = command;
    let settings = load_whole(&file.path, screen)?.settings;
    let shown = if *redacted {
        Shown { file: "<path>".to_owned(), settings: settings.into_iter().map(Setting::redacted).collect() }
    } else {
        Shown { file: file.path.display().to_string(), settings }
    };
    screen.show("Config", &shown, || text(&shown))?;
    Ok(Exit::Ok)
}

/// As the file would say it, with the origin beside each value: keys of no section first.
fn text(shown: &Shown) -> String {
    let parted = |setting: &Setting| match setting.key.rsplit_once('.') {
        Some((section, key)) => (section.to_owned(), key.to_owned()),
        None => (String::new(), setting.key.clone()),
    };
    let mut rows: Vec<(String, String, &Setting)> =
        shown.settings.iter().map(|setting| (parted(setting).0, parted(setting).1, setting)).collect();
    rows.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let widest = |of: &dyn Fn(&(String, String, &Setting)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let key_width = widest(&|(_, key, _)| key.chars().count());
    // One long path must not push all origins off the screen.
    let value_width = widest(&|(_, _, setting)| setting.text().chars().count()).min(VALUE_WIDTH_MAX);
    let mut text = format!("# {}\n", shown.file);
    let mut section = "";
    for (of, key, setting) in &rows {
        if of != section {
            // Writing to a string does not fail.
            let _ = writeln!(text, "\n[{of}]");
            section = of;
        }
        let _ = writeln!(text, "{key:<key_width$}  {:<value_width$}  {}", setting.text(), setting.origin);
    }
    text
}

const VALUE_WIDTH_MAX: usize = 40;
