//! Tells what happens, on standard error: lines, and on a terminal one more line that changes.

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The exit code of a program that SIGINT ended, as shells give it.
const INTERRUPTED: u8 = 130;

/// How often the changing line is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) struct Narrator {
    begun: Instant,
    /// Absent in a pipe.
    live: Option<ProgressBar>,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let live = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(REDRAW);
            bar
        });
        Self { begun: Instant::now(), live }
    }

    /// Something that happened.
    pub(super) fn line(&self, text: &str) {
        let line = format!("{:>6.1} s  {text}", self.begun.elapsed().as_secs_f64());
        match &self.live {
            Some(bar) if !bar.is_finished() => bar.println(line),
            // Nobody may be reading; the story goes on.
            _ => drop(writeln!(stderr(), "{line}")),
        }
    }

    /// How things stand, for those who watch.
    pub(super) fn now(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.live {
            bar.set_message(text());
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.live {
            bar.finish_and_clear();
        }
    }

    pub(super) fn interrupted(&self) -> ExitCode {
        self.end();
        self.line("interrupted: servers, daemon and their directories are gone");
        ExitCode::from(INTERRUPTED)
    }
}
