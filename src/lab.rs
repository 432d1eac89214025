//! Local clusters of real servers, and a load that checks what it wrote: for the demo, the tests and the benchmarks.
//!
//! Everything started here dies with this process, whatever ends it, and its directories go when the values are
//! dropped. The lab knows servers and nothing of the daemon; it speaks to servers by a client of its own, so that
//! what it finds is not seen through the code that it tests.

mod cluster;
mod detour;
mod link;
pub mod load;
mod port;
mod program;
mod resp;
mod server;
mod view;

use std::io;
use std::path::PathBuf;

use crate::cluster::{LinkError, ReplyError};
use crate::model::Address;

pub use cluster::{Builder, LocalCluster, Node};
pub use detour::{Detour, Traffic};
pub use link::{Link, TlsFiles};
pub use port::PortLease;
pub use program::{Family, Kind, Program, servers_directory};
pub use server::{Server, ServerSettings, spawn};
pub use view::{NodeView, Role, parse_nodes};

/// What kept the lab from doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The server was not fetched.
    #[error("{name} is not in {}: run `make servers` in the source tree, or name a server: --server PATH", directory.display())]
    NotFetched {
        /// The server's directory name.
        name: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The program does not start.
    #[error("cannot run {}", path.display())]
    NotRunnable {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The program is something else.
    #[error("{} is no Redis or Valkey server: asked for its version, it says '{said}'", path.display())]
    NotAServer {
        /// The program.
        path: PathBuf,
        /// Its answer.
        said: String,
    },
    /// The server started and ended.
    #[error("server on {address} ended by itself: {log}")]
    Ended {
        /// Where it should have listened.
        address: Address,
        /// The end of its log.
        log: String,
    },
    /// Every port that the lab uses is taken.
    #[error("no free pair of ports")]
    NoPort,
    /// The file system or the operating system refused.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A server could not be reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A server refused, or said something unexpected.
    #[error("{address}: {command}")]
    Reply {
        /// Whom we asked.
        address: Address,
        /// What we said.
        command: String,
        /// What was wrong with the reply.
        #[source]
        cause: ReplyError,
    },
    /// Something did not come true in time.
    #[error("waited {seconds} s in vain until {what}")]
    TimedOut {
        /// What was waited for, and what was seen last.
        what: String,
        /// How long.
        seconds: u64,
    },
}

/// A result of the lab.
pub type Result<T> = std::result::Result<T, LabError>;
