//! What people and scripts see: data on standard output, everything else on standard error.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::outcome::{Exit, explain, refused};
use crate::telemetry;

/// Says which shape of documents this program writes.
const API_VERSION: &str = "ballast/v1";

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One JSON document, with apiVersion and kind
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// How a word is meant to strike the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Quiet,
    Warning,
    Alarm,
}

/// Where a command writes and asks.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    format: Format,
    /// On standard error.
    colour: bool,
    /// On standard output.
    painted: bool,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, colour: !plain && io::stderr().is_terminal(), painted: !plain && io::stdout().is_terminal() }
    }

    /// A word for standard output; in colour on a terminal only.
    pub(super) fn painted(&self, tone: Tone, word: &str) -> String {
        let colour = match tone {
            Tone::Plain => "",
            Tone::Quiet => "\x1b[2m",
            Tone::Warning => "\x1b[33m",
            Tone::Alarm => "\x1b[1;31m",
        };
        if self.painted && !colour.is_empty() { format!("{colour}{word}\x1b[0m") } else { word.to_owned() }
    }

    /// Whether standard output is a terminal that takes more than text.
    pub(super) const fn is_painted(&self) -> bool {
        self.painted
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes data to standard output, as the person asked for it.
    pub(super) fn show<T: Serialize>(
        &self,
        kind: &'static str,
        body: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Text => text(),
            Format::Json => document(kind, body)?,
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever read us has seen enough: `ballast check … | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Tells people something on standard error.
    pub(super) fn note(&self, text: &str) {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
    }

    /// Tells how a command failed, once, with its causes and what to try next.
    pub(super) fn failed(&self, error: &anyhow::Error) -> Exit {
        let (exit, hint) = explain(error);
        let (red, plain) = if self.colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.note(&format!("{red}error{plain}: {}", telemetry::chain(error.as_ref())));
        if let Some(hint) = hint {
            self.note(&format!("hint: {hint}"));
        }
        exit
    }

    /// Whether there will be an answer; asked before anything that takes time.
    pub(super) fn can_ask(&self, yes: bool) -> anyhow::Result<()> {
        if yes || has_terminal() {
            return Ok(());
        }
        Err(refused("this changes the cluster, and there is no terminal to ask on", "give --yes"))
    }

    /// Asks whether to go on. Without a terminal there is nobody to ask, and `--yes` must have answered.
    pub(super) fn confirm(&self, question: &str, yes: bool) -> anyhow::Result<bool> {
        if yes {
            return Ok(true);
        }
        let answer = self.ask(&format!("{question} [y/N]"), "--yes")?;
        Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
    }

    /// Asks for what the flag `flag` would have said.
    pub(super) fn ask(&self, question: &str, flag: &str) -> anyhow::Result<String> {
        if !has_terminal() {
            return Err(refused(format!("nobody to ask: {question}"), format!("there is no terminal; give {flag}")));
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} ")?;
        stderr.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Whether progress bars make sense.
    pub(super) fn is_live(&self) -> bool {
        io::stderr().is_terminal()
    }
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A JSON document of this kind.
pub(super) fn document<T: Serialize>(kind: &'static str, body: &T) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(&Document { api_version: API_VERSION, kind, body })?;
    text.push('\n');
    Ok(text)
}

/// How long ago that was, to the second: both are Unix times in milliseconds.
pub(super) fn since(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// Columns under headings; all but the first `left` are aligned to the right.
pub(super) fn table(left: usize, head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _ = if column < left { write!(line, "  {cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_names_left_and_numbers_right() {
        let rows = [vec!["a:7000".to_owned(), "5461".into()], vec!["long-name:7001".into(), "1".into()]];
        assert_eq!(
            table(1, &["NODE", "SLOTS"], &rows),
            "  NODE            SLOTS\n  a:7000           5461\n  long-name:7001      1\n"
        );
    }

    #[test]
    fn documents_name_their_version_and_kind() {
        let text = document("Check", &serde_json::json!({ "healthy": true })).expect("serialises");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, serde_json::json!({ "apiVersion": "ballast/v1", "kind": "Check", "healthy": true }));
    }
}
