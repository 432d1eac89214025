//! What is wrong with a configuration, and where: file, line, column and the line itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::file::File;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file, or it may not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Everything that is wrong with it.
    #[error("the configuration is not usable:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(
        /// At least one.
        Vec<Problem>,
    ),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `daemon.toml:12:5`, the name of an environment variable, or the key alone when nothing was written.
    pub place: String,
    /// What is wrong and what is accepted.
    pub message: String,
    /// The offending line, as written, with a mark below the place; empty where there is none or it may hold a secret.
    pub excerpt: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

/// A key, as `limits.min_gain` or `node.0.weight`, and what is wrong with its value.
pub(super) struct Finding {
    pub(super) key: String,
    pub(super) message: String,
}

/// Keys set by the environment, with the variable that did.
pub(super) type Overridden = BTreeMap<String, String>;

/// The text of a configuration, to point into.
pub(super) struct Source<'a> {
    text: &'a str,
    name: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, path: Option<&Path>) -> Self {
        Self { text, name: path.map_or_else(|| "daemon.toml".into(), |path| path.display().to_string()) }
    }

    /// The text as a table that [`File`] is sure to accept.
    pub(super) fn table(&self) -> Result<toml::Table, Vec<Problem>> {
        let table = self.text.parse().map_err(|error: toml::de::Error| vec![self.refusal(&error)])?;
        // Read from the text rather than from the table: only this knows where an error stands.
        let problems = self.refusals();
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// All that the reader refuses, in the order of the text. It stops at the first that it meets, so it is asked again as
    /// if that line were not there.
    fn refusals(&self) -> Vec<Problem> {
        let mut text = self.text.to_owned();
        let mut problems = Vec::new();
        while let Err(error) = toml::Deserializer::parse(&text).and_then(File::deserialize) {
            // Missed only because its line was taken out.
            if problems.is_empty() || !error.message().starts_with("missing field") {
                let start = error.span().map_or(0, |span| span.start);
                problems.push((start, self.refusal(&error)));
            }
            let rest = error.span().and_then(|span| without_line(&text, span.start));
            let Some(rest) = rest else { break };
            text = rest;
        }
        problems.sort_by_key(|(start, _)| *start);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    fn refusal(&self, error: &toml::de::Error) -> Problem {
        self.problem(without_value(error.message()), error.span())
    }

    /// Findings with their places, in the order of the file: where it sets the key, or the variable that does.
    pub(super) fn locate(&self, findings: Vec<Finding>, overridden: &Overridden) -> Vec<Problem> {
        let mut located: Vec<(usize, Problem)> = findings
            .into_iter()
            .map(|finding| {
                let message = format!("{}: {}", finding.key, finding.message);
                match overridden.get(&finding.key) {
                    Some(variable) => (0, Problem { place: variable.clone(), message, excerpt: String::new() }),
                    None => {
                        let span = self.span_of(&finding.key);
                        (span.as_ref().map_or(0, |span| span.start), self.problem(message, span))
                    }
                }
            })
            .collect();
        located.sort_by_key(|(start, _)| *start);
        located.into_iter().map(|(_, problem)| problem).collect()
    }

    /// Where the value of `key` stands; of a key that is not there, the nearest section that is.
    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let root = DeTable::parse(self.text).ok()?;
        let mut span = None;
        let mut table = Some(root.get_ref());
        let mut list = None;
        for word in key.split('.') {
            let value = match (table, list) {
                (Some(table), _) => table.iter().find(|(name, _)| name.get_ref() == word).map(|(_, value)| value),
                (None, Some(list)) => word.parse().ok().and_then(|place: usize| {
                    let list: &toml::de::DeArray<'_> = list;
                    list.get(place)
                }),
                (None, None) => None,
            };
            let Some(value) = value else { break };
            span = Some(value.span());
            (table, list) = match value.get_ref() {
                DeValue::Table(table) => (Some(table), None),
                DeValue::Array(list) => (None, Some(list)),
                _ => (None, None),
            };
        }
        span
    }

    /// The line on which the value of `key` stands, if the text sets it.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let root = DeTable::parse(self.text).ok()?;
        let mut value: Option<&DeValue<'_>> = None;
        let mut start = 0;
        let root = root.get_ref();
        for word in key.split('.') {
            let found = match value {
                None => root.iter().find(|(name, _)| name.get_ref() == word).map(|(_, value)| value),
                Some(DeValue::Table(table)) => {
                    table.iter().find(|(name, _)| name.get_ref() == word).map(|(_, value)| value)
                }
                Some(DeValue::Array(list)) => list.get(word.parse::<usize>().ok()?),
                Some(_) => None,
            }?;
            start = found.span().start;
            value = Some(found.get_ref());
        }
        Some(self.text.get(..start)?.matches('\n').count() + 1)
    }

    fn problem(&self, message: String, span: Option<Range<usize>>) -> Problem {
        let Some(span) = span else {
            return Problem { place: self.name.clone(), message, excerpt: String::new() };
        };
        let before = &self.text[..span.start.min(self.text.len())];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (row, column) = (before.matches('\n').count() + 1, before[start..].chars().count() + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let place = format!("{}:{row}:{column}", self.name);
        let excerpt = match line.is_empty() || may_hold_secret(&self.text[..start], line) {
            true => String::new(),
            false => excerpt(line, row, column, span.len()),
        };
        Problem { place, message, excerpt }
    }
}

/// Whether a line that stands after `before` may hold a secret, as a receiver's path is one: errors end up in logs, with webhooks and on
/// the page.
fn may_hold_secret(before: &str, line: &str) -> bool {
    const SECTIONS: [&str; 3] = ["cluster", "webhook", "lease"];
    let section = before.lines().rev().find_map(|line| line.trim_start().strip_prefix('['));
    let of = |name: &str| {
        let bare = |sign: char| "[]\"' \t".contains(sign);
        let first =
            name.trim_start_matches(bare).split(['.', ']', '=', ' ', '\t', '"', '\'']).next().unwrap_or_default();
        SECTIONS.contains(&first) || name.contains("parameters")
    };
    section.is_some_and(of)
        || of(line.trim_start())
        || line.contains("password")
        || line.contains('@')
        || line.contains("url")
}

/// What the reader says, without the value that it refuses: that may be a password whose quotes were forgotten.
pub(super) fn without_value(message: &str) -> String {
    for refusal in ["invalid type: ", "invalid value: "] {
        let parts = message.strip_prefix(refusal).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = parts {
            let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
            return format!("{refusal}{kind}, expected {expected}");
        }
    }
    // Ours quote what is no address, no size, no duration: a URL with a password may stand in its place.
    let quoted = message.split_once('\'').and_then(|(before, rest)| Some((before, rest.rsplit_once('\'')?)));
    match quoted {
        Some((before, (value, after))) if value.contains('@') => format!("{before}what is given{after}"),
        _ => message.to_owned(),
    }
}

/// `text` with blanks in the place of the line that `place` is in, so that everything else stays where it is; `None` when
/// that is no line with a key of its own.
fn without_line(text: &str, place: usize) -> Option<String> {
    let (before, after) = text.split_at_checked(place)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = place + after.find('\n').unwrap_or(after.len());
    let line = text[start..end].trim_start();
    if line.is_empty() || line.starts_with('[') {
        return None;
    }
    let rest = format!("{}{}{}", &text[..start], " ".repeat(end - start), &text[end..]);
    // A value of several lines.
    rest.parse::<toml::Table>().is_ok().then_some(rest)
}

/// The line with a mark below `width` characters from `column`.
fn excerpt(line: &str, row: usize, column: usize, width: usize) -> String {
    let gutter = " ".repeat(row.to_string().len());
    let width = width.clamp(1, (line.chars().count() + 1).saturating_sub(column).max(1));
    format!(" {gutter} |\n {row} | {line}\n {gutter} | {}{}", " ".repeat(column - 1), "^".repeat(width))
}
