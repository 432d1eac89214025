//! From a policy's file to machine code, in a bounded child process; and the cache that spares doing so twice.
//!
//! The daemon itself neither reads the file nor runs the compiler: Cranelift takes seconds and hundreds of megabytes for a
//! policy in JavaScript or Python, hostile code can make it take more, and a hostile file can overflow the stack of whoever
//! reads its types. It only deserialises what its own child made.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tracing::warn;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::componentize::{self, Unfit};
use super::failure::Stage;
use super::fault::one_line;
use super::settings::{Compiler, Settings};
use super::unroll::{self, unroll};

/// The hidden subcommand that runs [`compile_child_main`].
pub const COMPILE_SUBCOMMAND: &str = "policy-compile";

/// Compiled policies kept: the live one, its predecessors, and those that an author tries in an afternoon.
const CACHED_MAX: usize = 16;

/// How often a waiting parent looks at its child. A Rust policy compiles in 50 ms; five more are no loss.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes of SHA-256 behind the machine code in a cached file.
const CHECKSUM: usize = 32;

/// The program that runs, as Linux keeps it for us: an upgrade may have put another one in its place, or be about to, and its path
/// then leads to nothing, or to one that answers otherwise.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Compiles the policy in `file`, a component or a core module, or finds it compiled.
pub(super) fn compile(engine: &Engine, settings: &Settings, file: &[u8]) -> Result<Component, Unfit> {
    let cached = settings.cache_dir.as_deref().and_then(|directory| match own_directory(directory) {
        Ok(()) => Some(directory.join(cache_name(engine, file))),
        Err(cause) => {
            warn!(directory = %directory.display(), error = %cause, "compiled policies are not cached");
            None
        }
    });
    if let Some(loaded) = cached.as_deref().and_then(read_cached).and_then(|code| adopt(engine, &code).ok()) {
        return Ok(loaded);
    }
    let code = make(engine, settings, file)?;
    if let Some(path) = &cached
        && let Err(error) = write_cached(path, &code)
    {
        warn!(path = %path.display(), %error, "compiled policy not cached");
    }
    adopt(engine, &code).map_err(uncompiled)
}

/// What went wrong with compiling itself.
fn uncompiled(reason: String) -> Unfit {
    let next_step = "run `ballast policy check` on it".to_owned();
    Unfit { stage: Stage::Compile, reason, next_step, unfinished: false }
}

/// Machine code of the policy in `file`. Only for who may take any time, memory and stack.
fn translate(engine: &Engine, file: Vec<u8>) -> Result<Vec<u8>, Unfit> {
    let component = unroll(componentize::to_component(file)?);
    engine.precompile_component(&component).map_err(|error| uncompiled(one_line(&error)))
}

fn adopt(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: `code` is what our own compiler made just now, or lay unchanged (by its checksum) in a directory that
    // belongs to us and that nobody else may write. wasmtime itself refuses code of another engine or version.
    #[expect(unsafe_code, reason = "machine code has to be trusted; the lines above say why this is")]
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| one_line(&error))
}

fn make(engine: &Engine, settings: &Settings, file: &[u8]) -> Result<Vec<u8>, Unfit> {
    let program = match &settings.compiler {
        Compiler::InProcess => return translate(engine, file.to_vec()),
        Compiler::Program(path) => path.clone(),
        Compiler::ThisProgram => PathBuf::from(THIS_PROGRAM),
    };
    in_child(&program, settings, file)
}

/// Runs the compiler as a child with files for its input and output: no pipe can fill up, no thread has to drain one.
fn in_child(program: &Path, settings: &Settings, file: &[u8]) -> Result<Vec<u8>, Unfit> {
    let failed = |what: &str, error: &io::Error| uncompiled(format!("{what}: {error}"));
    let files = || -> io::Result<(File, File, File)> {
        let mut input = tempfile::tempfile()?;
        input.write_all(file)?;
        input.rewind()?;
        Ok((input, tempfile::tempfile()?, tempfile::tempfile()?))
    };
    let (input, mut output, mut errors) = files().map_err(|e| failed("no room for the compiler's files", &e))?;
    let share = |file: &File| file.try_clone().map_err(|e| failed("no room for the compiler's files", &e));
    let mut child = Command::new(program)
        .arg(COMPILE_SUBCOMMAND)
        .arg(settings.compile_seconds.to_string())
        .arg(settings.compile_memory_mib.to_string())
        .env_clear()
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(share(&output)?))
        .stderr(Stdio::from(share(&errors)?))
        .spawn()
        .map_err(|e| failed("the compiler cannot be started", &e))?;
    let status = wait(&mut child, Duration::from_secs(settings.compile_seconds))
        .map_err(|e| failed("the compiler cannot be waited for", &e))?;
    let read = |file: &mut File| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match status {
        Some(status) if status.success() => read(&mut output).map_err(|e| failed("the compiler's output is gone", &e)),
        Some(status) => {
            let said = read(&mut errors).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            // What it knows about the file it says as such; else it died.
            Err(serde_json::from_str(&said).unwrap_or_else(|_| uncompiled(last_words(status, &said, settings))))
        }
        None => Err(uncompiled(format!("compiling took longer than {} s", settings.compile_seconds))),
    }
}

/// The child's end, or `None` if it had to be killed. It is reaped in either case.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn last_words(status: ExitStatus, said: &str, settings: &Settings) -> String {
    use std::os::unix::process::ExitStatusExt;
    if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
        return format!("compiling needs more than {} MiB", settings.compile_memory_mib);
    }
    if status.signal() == Some(libc::SIGXCPU) || status.signal() == Some(libc::SIGKILL) {
        return format!("compiling took more than {} s of processor time", settings.compile_seconds);
    }
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    format!("the compiler ended with {status}: {}", super::guest::cut(line, 2000))
}

/// The body of `ballast policy-compile SECONDS MIB`: reads a policy from standard input, writes machine code to standard output,
/// and cannot take more than it is told. Everything is read from the process's own arguments.
#[must_use]
pub fn compile_child_main() -> ExitCode {
    let run = || -> Result<(), Unfit> {
        let numbers: Vec<u64> = std::env::args().skip(2).filter_map(|argument| argument.parse().ok()).collect();
        let [seconds, memory_mib] = numbers[..] else {
            return Err(uncompiled(format!("usage: {COMPILE_SUBCOMMAND} SECONDS MIB < policy > machine-code")));
        };
        confine(seconds, memory_mib).map_err(|error| uncompiled(format!("cannot confine itself: {error}")))?;
        let mut file = Vec::new();
        io::stdin().lock().read_to_end(&mut file).map_err(|error| uncompiled(format!("cannot read: {error}")))?;
        let engine = super::engine::compiling(Settings::default().stack_kib);
        let code = translate(&engine.map_err(|error| uncompiled(one_line(&error)))?, file)?;
        io::stdout().lock().write_all(&code).map_err(|error| uncompiled(format!("cannot write: {error}")))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(unfit) => {
            // The parent reads this; there may be nobody to tell when even that fails.
            let _ = writeln!(io::stderr(), "{}", serde_json::to_string(&unfit).unwrap_or(unfit.reason));
            ExitCode::FAILURE
        }
    }
}

/// Bounds this process: processor time, address space, no core dump, last in line, dead when its parent is.
fn confine(seconds: u64, memory_mib: u64) -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    setrlimit(Resource::RLIMIT_AS, memory_mib << 20, memory_mib << 20)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // SAFETY: takes and returns plain numbers. A refusal only means an ordinary priority.
    #[expect(unsafe_code, reason = "nix does not offer it")]
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
    Ok(())
}

/// Named by what went in: the file, the shim that may be put beneath it, how loops are unrolled, and everything of the engine
/// that shapes the code.
fn cache_name(engine: &Engine, file: &[u8]) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut compatibility = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    componentize::PREVIEW1.hash(&mut compatibility);
    unroll::WAY.hash(&mut compatibility);
    format!("{}-{:016x}.cwasm", hex::encode(Sha256::digest(file)), compatibility.finish()).into()
}

/// Makes sure that nobody but us can put machine code into `directory`.
fn own_directory(directory: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| error.to_string())?;
    let metadata = fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it is not a directory of the user that Ballast runs as".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("others may use it (mode {:o}): run `chmod 700` on it", metadata.mode() & 0o777));
    }
    Ok(())
}

/// Absent, cut short or changed: all three mean compiling again.
fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let code = bytes.len().checked_sub(CHECKSUM)?;
    if Sha256::digest(&bytes[..code])[..] != bytes[code..] {
        return None;
    }
    bytes.truncate(code);
    Some(bytes)
}

/// Writes beside and renames, so that nobody ever reads half a file.
fn write_cached(path: &Path, code: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().suffix(".part").tempfile_in(directory)?;
    file.write_all(code)?;
    file.write_all(&Sha256::digest(code))?;
    file.persist(path)?;
    prune(directory)
}

fn prune(directory: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    let surplus = files.len().saturating_sub(CACHED_MAX);
    files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::Fixture;

    /// Compiles through a cache in `directory`, in process, and counts the files there.
    fn compile_into(directory: &Path, module: &[u8]) -> usize {
        let settings =
            Settings { compiler: Compiler::InProcess, cache_dir: Some(directory.to_owned()), ..Settings::default() };
        let engine = super::super::engine::compiling(settings.stack_kib).expect("an engine");
        compile(&engine, &settings, module).expect("it compiles");
        fs::read_dir(directory).expect("it is there").count()
    }

    fn only_file(directory: &Path) -> PathBuf {
        fs::read_dir(directory).expect("it is there").next().expect("one file").expect("readable").path()
    }

    #[test]
    fn a_policy_is_compiled_once_and_a_damaged_entry_again() {
        let parent = tempfile::tempdir().expect("room");
        let directory = parent.path().join("compiled");
        let module = Fixture::default().module();
        assert_eq!(compile_into(&directory, &module), 1);
        let path = only_file(&directory);
        let good = fs::read(&path).expect("readable");

        // An entry that is used stays as it is: the time of its last change tells.
        let before = fs::metadata(&path).expect("there").modified().expect("known");
        assert_eq!(compile_into(&directory, &module), 1);
        assert_eq!(fs::metadata(&path).expect("there").modified().expect("known"), before);

        for damage in [good[..good.len() / 2].to_vec(), Vec::new(), vec![0; good.len()]] {
            fs::write(&path, damage).expect("writable");
            assert_eq!(compile_into(&directory, &module), 1);
            assert_eq!(fs::read(&path).expect("readable").len(), good.len(), "it was made anew");
        }
    }

    #[test]
    fn the_cache_is_ours_alone_and_bounded() {
        let parent = tempfile::tempdir().expect("room");
        let directory = parent.path().join("compiled");
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"];
        let counts: Vec<usize> = names
            .iter()
            .map(|name| compile_into(&directory, &Fixture { name, ..Fixture::default() }.module()))
            .collect();
        assert_eq!(counts.last(), Some(&CACHED_MAX));
        assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_cache_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("room");
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(own_directory(parent.path()).is_err_and(|reason| reason.contains("chmod 700")));
        assert_eq!(compile_into(parent.path(), &Fixture::default().module()), 0);
    }

    #[test]
    fn a_compiler_that_hangs_is_killed_and_one_that_fails_is_quoted() {
        let run = |script: &str| {
            let directory = tempfile::tempdir().expect("room");
            let path = directory.path().join("compiler");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writable");
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
            let settings = Settings { compile_seconds: 1, ..Settings::default() };
            in_child(&path, &settings, b"component").map_err(|unfit| unfit.reason)
        };
        assert_eq!(run("exec sleep 60"), Err("compiling took longer than 1 s".to_owned()));
        let failed = run("echo 'no such instruction' >&2; exit 3").expect_err("it failed");
        assert!(failed.contains("no such instruction") && failed.contains('3'), "{failed}");
        assert_eq!(run("exec cat"), Ok(b"component".to_vec()), "input and output are connected");
    }
}
