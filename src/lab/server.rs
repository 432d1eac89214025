//! One server process on this machine: started, stopped, killed, frozen, and gone when we are.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::link::{Door, Link, TlsFiles};
use super::port::PortLease;
use super::program::Program;
use super::{LabError, Result};
use crate::cluster::{Command, LinkError, Reply, ReplyError};
use crate::model::Address;

/// How long a server may take until it answers. Seconds, for machines that run many at once.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long a call of the lab itself may take: longer than a server is frozen in any test.
const CALL_PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at something that we wait for.
pub(super) const POLL: Duration = Duration::from_millis(25);

/// How servers of a cluster are set up.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// `cluster-node-timeout`: how long a node is silent before the others suspect it.
    pub node_timeout: Duration,
    /// Whether writes survive [`Server::restart`].
    pub append_only: bool,
    /// `requirepass` and `masterauth`; with a [`user`](Self::user), only what the lab says itself.
    pub password: Option<String>,
    /// As whom the lab says its password. [`more`](Self::more) has to make this user, and the one that servers are to
    /// each other.
    pub user: Option<String>,
    /// Speak TLS, and nothing but TLS.
    pub tls: Option<TlsFiles>,
    /// More settings, each a name and its words: `["maxmemory", "64mb"]`.
    pub more: Vec<Vec<String>>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            node_timeout: Duration::from_secs(5),
            append_only: false,
            password: None,
            user: None,
            tls: None,
            more: Vec::new(),
        }
    }
}

/// A running server in cluster mode, alone until it meets others. Killed, and its directory removed, when dropped.
#[derive(Debug)]
pub struct Server {
    program: Program,
    settings: ServerSettings,
    lease: PortLease,
    // Declared before the directory: the process must be gone when the directory is removed.
    process: Running,
    directory: TempDir,
}

/// A child process, or none. Killed and waited for when dropped.
#[derive(Debug, Default)]
struct Running(Option<Child>);

impl Server {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Errors
    /// [`LabError`] when it does not start; the end of its log is in it.
    pub async fn start(program: &Program, settings: &ServerSettings) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ballast-lab-")
            .tempdir()
            .map_err(|cause| LabError::Io { what: "cannot make a directory for a server".into(), cause })?;
        let mut server = Self {
            program: program.clone(),
            settings: settings.clone(),
            lease: PortLease::take()?,
            process: Running::default(),
            directory,
        };
        server.run().await?;
        Ok(server)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new("127.0.0.1", self.lease.port)
    }

    /// What runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its working directory, with `nodes.conf` and `server.log`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its process id, or `None` while it is killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.0.as_ref().map(Child::id)
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone. Nothing happens if it is.
    pub fn kill9(&mut self) {
        self.process.end();
    }

    /// Freezes it (`SIGSTOP`): connections stay, answers do not come.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Thaws it (`SIGCONT`).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it if it runs, and starts it again on the same port and directory: the cluster knows it again, while its
    /// keys are there again only if it is [`append_only`](ServerSettings::append_only).
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9();
        self.run().await
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn link(&self) -> std::result::Result<Link, LinkError> {
        let ServerSettings { user, password, tls, .. } = &self.settings;
        let door = Door { user: user.as_deref(), password: password.as_deref(), tls: tls.as_ref() };
        Link::enter(&self.address(), door).await
    }

    /// Says one command on a connection of its own.
    ///
    /// # Errors
    /// [`LabError::Link`] without a reply; [`LabError::Reply`] when the server refuses.
    pub async fn call(&self, command: Command) -> Result<Reply> {
        let mut replies = self.link().await?.call(std::slice::from_ref(&command), CALL_PATIENCE).await?;
        replies.pop().unwrap_or(Reply::Nil).ok().map_err(|cause| self.reply_error(&command, cause))
    }

    /// As [`Server::call`], for a command that replies text.
    ///
    /// # Errors
    /// As [`Server::call`].
    pub async fn text(&self, command: Command) -> Result<String> {
        self.call(command.clone()).await?.text().map_err(|cause| self.reply_error(&command, cause))
    }

    fn reply_error(&self, command: &Command, cause: ReplyError) -> LabError {
        LabError::Reply { address: self.address(), command: command.to_string(), cause }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            // The child is ours and not waited for, so the id cannot be another's; failing, it is gone already.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn run(&mut self) -> Result<()> {
        let mut process = Process::new(&self.program.path);
        process.args(self.arguments()).current_dir(self.directory()).stdin(Stdio::null());
        process.stdout(Stdio::null()).stderr(Stdio::null());
        let path = self.program.path.clone();
        self.process = Running(Some(spawn(process).map_err(|cause| LabError::NotRunnable { path, cause })?));

        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(child) = &mut self.process.0
                && matches!(child.try_wait(), Ok(Some(_)))
            {
                return Err(LabError::Ended { address: self.address(), log: self.last_words() });
            }
            // A server that loads its append-only file answers, but with errors.
            if matches!(self.call(Command::new("PING")).await, Ok(Reply::Bytes(_))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("{} answers: {}", self.address(), self.last_words());
                return Err(LabError::TimedOut { what, seconds: START_PATIENCE.as_secs() });
            }
            sleep(POLL).await;
        }
    }

    fn arguments(&self) -> Vec<String> {
        let port = self.lease.port.to_string();
        let node_timeout = self.settings.node_timeout.as_millis().to_string();
        let append_only = if self.settings.append_only { "yes" } else { "no" };
        let mut settings: Vec<Vec<&str>> = vec![
            vec![if self.settings.tls.is_some() { "tls-port" } else { "port" }, &port],
            vec!["bind", "127.0.0.1"],
            vec!["daemonize", "no"],
            vec!["logfile", LOG],
            vec!["save", ""],
            vec!["appendonly", append_only],
            vec!["cluster-enabled", "yes"],
            vec!["cluster-config-file", "nodes.conf"],
            vec!["cluster-node-timeout", &node_timeout],
            // Replicas of an idle cluster need not wait for others to sync together with.
            vec!["repl-diskless-sync", "yes"],
            vec!["repl-diskless-sync-delay", "0"],
        ];
        if self.program.has_slot_stats() {
            settings.push(vec!["cluster-slot-stats-enabled", "yes"]);
        }
        let tls = self.settings.tls.as_ref().map(tls_settings).unwrap_or_default();
        settings.extend(tls.iter().map(|(name, value)| vec![*name, value.as_str()]));
        if let (Some(password), None) = (&self.settings.password, &self.settings.user) {
            settings.extend([vec!["requirepass", password], vec!["masterauth", password]]);
        }
        settings.extend(self.settings.more.iter().map(|words| words.iter().map(String::as_str).collect()));
        let as_arguments = |words: Vec<&str>| {
            let (name, values) = words.split_first().map_or(("", &[][..]), |(name, values)| (*name, values));
            std::iter::once(format!("--{name}")).chain(values.iter().map(ToString::to_string)).collect::<Vec<_>>()
        };
        settings.into_iter().flat_map(as_arguments).collect()
    }

    /// The last lines of the log, in one.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// What makes a server speak TLS to everybody, and nothing else.
fn tls_settings(files: &TlsFiles) -> Vec<(&'static str, String)> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let (server, client) = (&files.server, &files.client);
    let yes = || "yes".to_owned();
    vec![
        ("port", "0".to_owned()),
        ("tls-cluster", yes()),
        ("tls-replication", yes()),
        ("tls-auth-clients", yes()),
        ("tls-ca-cert-file", path(&files.authority)),
        ("tls-cert-file", path(&server.0)),
        ("tls-key-file", path(&server.1)),
        ("tls-client-cert-file", path(&client.0)),
        ("tls-client-key-file", path(&client.1)),
    ]
}

const LOG: &str = "server.log";

impl Running {
    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Both fail only if the process is gone, which is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process to start, and whom to tell.
type Order = (Process, Sender<io::Result<Child>>);

/// Starts a process that the kernel kills when ours ends, however that comes about.
///
/// The kernel's promise holds for the *thread* that started it (`man 2 PR_SET_PDEATHSIG`), and a runtime's threads come
/// and go: so one thread, which lives as long as we do, starts them all.
///
/// It is in a process group of its own, so that Ctrl-C reaches us alone and we end it in our order.
///
/// # Errors
/// What starting it met.
pub fn spawn(process: Process) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel();
        thread::spawn(move || start_all(&inbox));
        Mutex::new(orders)
    });
    let (answer, started) = channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send((process, answer)).map_err(|_| gone(()))?;
    started.recv().map_err(|_| gone(()))?
}

fn start_all(inbox: &Receiver<Order>) {
    while let Ok((mut process, answer)) = inbox.recv() {
        process.process_group(0);
        die_with_us(&mut process);
        let _ = answer.send(process.spawn());
    }
}

fn die_with_us(process: &mut Process) {
    let us = Pid::this();
    let ask = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // We may have died before the kernel was asked.
        if getppid() == us { Ok(()) } else { Err(io::Error::other("the parent is gone")) }
    };
    #[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
    // SAFETY: two system calls, which are safe between fork and exec; nothing allocates on the way that succeeds.
    unsafe {
        process.pre_exec(ask);
    }
}
