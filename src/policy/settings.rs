//! How much a policy may use, and what happens when it fails. Every number is a key of `daemon.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a cycle does when the policy gives no plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// No moves until it answers again. The default: a cluster that stays as it is, is never a guess.
    #[default]
    Hold,
    /// After [`Settings::faults_before_fallback`] faults in a row, the policy that ran before it.
    Previous,
    /// After as many faults, the embedded `balance`.
    Balance,
}

/// Who compiles a policy to machine code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// A child of the program that runs now, as `PROGRAM policy-compile`. The default: compiling a Python policy takes
    /// ten seconds and 400 MB, and none of that belongs in a daemon.
    #[default]
    ThisProgram,
    /// A child of another program that knows `policy-compile`: for tests, whose own program does not.
    Program(PathBuf),
    /// The calling thread, unbounded: for tests and benchmarks.
    InProcess,
}

/// Bounds of every policy that one host runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Milliseconds that one call into a policy may take.
    pub deadline_ms: u64,
    /// MiB of linear memory, all memories of a policy together.
    pub memory_mib: usize,
    /// Elements, all tables of a policy together.
    pub table_elements: usize,
    /// KiB of native stack that a call may use.
    pub stack_kib: usize,
    /// MiB that one call may make the host copy out of a policy.
    pub transfer_mib: usize,
    /// Moves in one proposal.
    pub moves_max: usize,
    /// Bytes kept of each move's reason.
    pub reason_bytes_max: usize,
    /// Bytes kept of a summary or description.
    pub summary_bytes_max: usize,
    /// Gauges kept of one proposal.
    pub gauges_max: usize,
    /// Log lines kept of one call.
    pub log_lines_max: usize,
    /// Bytes kept of one log line.
    pub log_line_bytes_max: usize,
    /// KiB that a policy may save for its next instance.
    pub state_kib_max: usize,
    /// Calls of `search.solve` in one call.
    pub searches_max: u64,
    /// MiB that a policy's file may have.
    pub file_mib_max: u64,
    /// Seconds that compiling one policy may take, of processor time as well as by the clock.
    pub compile_seconds: u64,
    /// MiB of address space that compiling one policy may take.
    pub compile_memory_mib: u64,
    /// Where compiled policies are kept between starts; nowhere if absent. The directory is made with mode 0700 and
    /// must be the daemon's own: what lies there is machine code.
    pub cache_dir: Option<PathBuf>,
    /// What a cycle does when the policy fails.
    pub on_failure: OnFailure,
    /// Faults in a row before `on-failure` hands over to another policy.
    pub faults_before_fallback: u32,
    /// The only digest that a policy file may have: 64 hexadecimal digits of SHA-256. Embedded policies are exempt.
    pub sha256: Option<String>,
    /// Who compiles.
    #[serde(skip)]
    pub compiler: Compiler,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // `balance` takes up to half a second on 1000 nodes, and other work on the machine counts, since the clock on
            // the wall decides. A cycle takes ten seconds, and nothing else waits for the policy.
            deadline_ms: 2000,
            // Python on a view of 1000 nodes peaks at a quarter of this; the daemon itself stays below 100 MiB.
            memory_mib: 256,
            // The largest runtime tried (Python) has some 30,000 functions in its table.
            table_elements: 100_000,
            // wasmtime's own default; deep recursion in a guest ends here or on its own shadow stack.
            stack_kib: 512,
            // 16384 moves with reasons are 5 MiB.
            transfer_mib: 16,
            // Each slot once.
            moves_max: 16_384,
            // A line on a terminal or two.
            reason_bytes_max: 256,
            // The same for a summary, four times: it may name a few nodes.
            summary_bytes_max: 1024,
            // What a dashboard can show; more would be a way to flood Prometheus.
            gauges_max: 16,
            // Enough for a stack trace and a handful of remarks each cycle.
            log_lines_max: 100,
            log_line_bytes_max: 4096,
            // Python's pickled history of 16384 slots fits; the store keeps it for every decision.
            state_kib_max: 1024,
            // Each may spend a whole deadline's worth of work.
            searches_max: 4,
            // The largest policy tried, StarlingMonkey or Python, has 18 MB.
            file_mib_max: 64,
            // The same policies take 12 s on two busy cores.
            compile_seconds: 60,
            // They peak at 475 MB resident; address space is about twice that.
            compile_memory_mib: 2048,
            cache_dir: None,
            on_failure: OnFailure::Hold,
            // One fault may be the cluster's doing, three in a row are the policy's.
            faults_before_fallback: 3,
            sha256: None,
            compiler: Compiler::ThisProgram,
        }
    }
}

impl Settings {
    /// How long one call may take.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What is wrong with these numbers, as `key: what and what is accepted`.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |fine: bool, text: &str| {
            if !fine {
                problems.push(text.to_owned());
            }
        };
        require((10..=60_000).contains(&self.deadline_ms), "deadline-ms: 10 to 60000 are accepted");
        require((1..=4096).contains(&self.memory_mib), "memory-mib: 1 to 4096 are accepted");
        require((64..=2048).contains(&self.stack_kib), "stack-kib: 64 to 2048 are accepted");
        require((1..=1024).contains(&self.transfer_mib), "transfer-mib: 1 to 1024 are accepted");
        require(self.compile_seconds > 0, "compile-seconds: at least 1 is accepted");
        require(self.compile_memory_mib >= 256, "compile-memory-mib: at least 256 is accepted");
        require(self.faults_before_fallback > 0, "faults-before-fallback: at least 1 is accepted");
        let hexadecimal = |pin: &String| pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit());
        require(self.sha256.as_ref().is_none_or(hexadecimal), "sha256: 64 hexadecimal digits are accepted");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems() {
        assert_eq!(Settings::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_reported_together_with_their_key() {
        let settings = Settings { deadline_ms: 0, sha256: Some("abc".into()), ..Settings::default() };
        let problems = settings.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("deadline-ms:") && problems[1].starts_with("sha256:"), "{problems:?}");
    }
}
