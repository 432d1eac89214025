//! Server programs: where they are, and what their version can do.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{LabError, Result};

/// A server that `scripts/servers` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Redis 6.2: the oldest that we serve.
    Redis62,
    /// Redis 7.0, as Debian 12 has it.
    Redis70,
    /// Redis 8.6: `CLUSTER MIGRATION`, memory per slot.
    Redis86,
    /// Valkey 8.0: the first with statistics per slot.
    Valkey80,
    /// Valkey 9.1: atomic slot migration. What the demo runs.
    Valkey91,
    /// Valkey 9 as Debian builds it, with TLS and `valkey-cli`.
    Valkey9Tls,
}

impl Kind {
    /// Every kind, oldest first within its family.
    pub const ALL: [Self; 6] =
        [Self::Redis62, Self::Redis70, Self::Redis86, Self::Valkey80, Self::Valkey91, Self::Valkey9Tls];

    /// The name of its directory under [`servers_directory`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2",
            Self::Redis70 => "redis-7.0",
            Self::Redis86 => "redis-8.6",
            Self::Valkey80 => "valkey-8.0",
            Self::Valkey91 => "valkey-9.1",
            Self::Valkey9Tls => "valkey-9-sid",
        }
    }

    /// The path of one of its programs: `redis-server`, `redis-cli`, `valkey-server`, `valkey-cli`.
    ///
    /// # Errors
    /// [`LabError::NotFetched`] when it is not there.
    pub fn tool(self, program: &str) -> Result<PathBuf> {
        let directory = servers_directory();
        let path = directory.join(self.name()).join("bin").join(program);
        if path.is_file() { Ok(path) } else { Err(LabError::NotFetched { name: self.name(), directory }) }
    }

    /// Its server.
    ///
    /// # Errors
    /// [`LabError::NotFetched`] when it is not there; as [`Program::at`] otherwise.
    pub fn program(self) -> Result<Program> {
        let server = match self {
            Self::Redis62 | Self::Redis70 | Self::Redis86 => "redis-server",
            Self::Valkey80 | Self::Valkey91 | Self::Valkey9Tls => "valkey-server",
        };
        Program::at(&self.tool(server)?)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where `scripts/servers` puts the servers: `$BALLAST_SERVERS`, or `target/servers` of the working directory, or
/// `servers` beside the build directory that this program runs from.
#[must_use]
pub fn servers_directory() -> PathBuf {
    if let Some(directory) = env::var_os("BALLAST_SERVERS") {
        return directory.into();
    }
    let here = PathBuf::from("target/servers");
    let beside = || {
        let program = env::current_exe().ok()?;
        program.ancestors().skip(1).take(3).map(|place| place.join("servers")).find(|place| place.is_dir())
    };
    if here.is_dir() { here } else { beside().unwrap_or(here) }
}

/// Who makes the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// A server program whose version is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Who makes it.
    pub family: Family,
    /// Major and minor version.
    pub version: (u16, u16),
}

impl Program {
    /// The server at `path`, asked for its version.
    ///
    /// # Errors
    /// [`LabError::NotRunnable`] or [`LabError::NotAServer`].
    pub fn at(path: &Path) -> Result<Self> {
        // Servers run in directories of their own: a relative path would not reach the program from there.
        let absolute = |cause| LabError::NotRunnable { path: path.to_owned(), cause };
        let path = path.canonicalize().map_err(absolute)?;
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|cause| LabError::NotRunnable { path: path.clone(), cause })?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match read_version(&said) {
            Some((family, version)) => Ok(Self { path, family, version }),
            None => Err(LabError::NotAServer { path, said }),
        }
    }

    /// Whether `CLUSTER ADDSLOTSRANGE` is there.
    #[must_use]
    pub fn has_slot_ranges(&self) -> bool {
        self.version >= (7, 0)
    }

    /// Whether scripts may begin with `#!lua`.
    #[must_use]
    pub fn reads_declared_scripts(&self) -> bool {
        self.version >= (7, 0)
    }

    /// Whether `CLUSTER SLOT-STATS` is there.
    #[must_use]
    pub fn has_slot_stats(&self) -> bool {
        self.version >= if self.family == Family::Valkey { (8, 0) } else { (8, 2) }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "{:?} {major}.{minor}", self.family)
    }
}

/// Reads `Valkey server v=9.1.2 sha=…`.
fn read_version(said: &str) -> Option<(Family, (u16, u16))> {
    let family = match said.split(' ').next()? {
        "Redis" => Family::Redis,
        "Valkey" => Family::Valkey,
        _ => return None,
    };
    let mut numbers = said.split(' ').find_map(|word| word.strip_prefix("v="))?.split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    Some((family, (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_who_they_are() {
        let said = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150";
        assert_eq!(read_version(said), Some((Family::Valkey, (9, 1))));
        assert_eq!(read_version("Redis server v=6.2.5 sha=0:0"), Some((Family::Redis, (6, 2))));
        assert_eq!(read_version("ls (GNU coreutils) 9.1"), None);
    }

    #[test]
    fn a_program_that_is_no_server_is_refused_by_name() {
        let refused = Program::at(Path::new("/bin/true")).expect_err("not a server").to_string();
        assert!(refused.contains("is no Redis or Valkey server"), "{refused}");
    }
}
