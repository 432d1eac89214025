//! `ballast doctor`: is everything fit for a daemon? Reads only.

use std::fmt::Write as _;

use serde::Serialize;

use super::config::ConfigFile;
use super::outcome::{Exit, Outcome};
use super::screen::{Screen, Tone};
use super::target::Target;
use crate::cluster::live::Url;
use crate::doctor::{self, Fix, Line, Scope, Verdict};

/// What to examine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Any node of a cluster, for which there is no configuration yet: what a daemon with the defaults would need
    url: Option<Url>,
    #[command(flatten)]
    file: ConfigFile,
    /// Examines configuration, policies, state directory and port, and connects to no node
    #[arg(long)]
    config_only: bool,
}

#[derive(Serialize)]
struct Diagnosis {
    failed: usize,
    warnings: usize,
    lines: Vec<Line>,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let scope = if args.config_only { Scope::Here } else { Scope::Everything };
    let lines = match &args.url {
        Some(url) => {
            let target = Target { url: Some(url.clone()), config: None };
            doctor::examine_for(&target.settle(screen)?, scope).await
        }
        None => doctor::examine(&args.file.path, scope).await,
    };
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let diagnosis = Diagnosis { failed: count(Verdict::Fail), warnings: count(Verdict::Warn), lines };
    screen.show("Doctor", &diagnosis, || text(&diagnosis, &|tone, word| screen.painted(tone, word)))?;
    Ok(if diagnosis.failed == 0 { Exit::Ok } else { Exit::Unhealthy })
}

/// No line is longer, but commands and settings, which stay whole.
const WIDTH: usize = 100;
/// Verdict, topic, and what parts them.
const INDENT: usize = 6 + 12;

fn text(diagnosis: &Diagnosis, paint: &dyn Fn(Tone, &str) -> String) -> String {
    let mut text = String::new();
    for line in &diagnosis.lines {
        let verdict = paint(tone(line.verdict), &format!("{:<4}", line.verdict));
        let found = wrapped(&line.found, INDENT);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{verdict}  {:<10}  {found}", line.topic);
        if let Some(Fix { advice, write }) = &line.fix {
            let _ = writeln!(text, "{:INDENT$}{} {}", "", paint(Tone::Quiet, "→"), wrapped(advice, INDENT + 2));
            for command in write {
                let _ = writeln!(text, "{:INDENT$}      {command}", "");
            }
        }
    }
    let _ = writeln!(text, "\n{}", sum(diagnosis));
    text
}

fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Ok => Tone::Plain,
        Verdict::Skip => Tone::Quiet,
        Verdict::Warn => Tone::Warning,
        Verdict::Fail => Tone::Alarm,
    }
}

fn sum(diagnosis: &Diagnosis) -> String {
    let warnings = match diagnosis.warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        more => format!(", {more} warnings"),
    };
    match diagnosis.failed {
        0 => format!("Nothing failed{warnings}."),
        more => format!("{more} failed{warnings}."),
    }
}

/// Broken at spaces, so that it ends before the right edge when it begins at `indent`, where its other lines begin too.
fn wrapped(words: &str, indent: usize) -> String {
    let mut text = String::new();
    let mut column = indent;
    for word in words.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        }
        if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_broken_at_spaces_and_hang_below_their_beginning() {
        let words = "nodes have to announce addresses ".repeat(6);
        let text = wrapped(&words, INDENT);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= WIDTH - INDENT + INDENT));
        assert!(text.lines().skip(1).all(|line| line.starts_with(&" ".repeat(INDENT))), "{text}");
        assert_eq!(text.split_whitespace().count(), words.split_whitespace().count());
    }
}
