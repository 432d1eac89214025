//! Puts the daemon together: state, servers, policies, faces, and the loop between them.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::gethostname;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::command::{Handle, Notice, Notify, tell};
use super::conduct::{Control, Start, stale_after_ms};
use super::deciders::Deciders;
use super::feed::Feed;
use super::keeper::{Keeper, key};
use super::peers::Peers;
use super::promotion::Promotion;
use super::shadows::{Shadows, Tell};
use super::signals::Signals;
use super::status::Status;
use super::turn::{Crew, Lasting, Sizing};
use crate::clock::now_ms;
use crate::cluster::Cluster;
use crate::collector::Collector;
use crate::config::{self, Config, Loaded};
use crate::guard::{DAY_MS, Past};
use crate::http::{self, Door, Faces};
use crate::lease::{self, EtcdError, Fenced, Lease, Peer, SharedJournal};
use crate::metrics::Metrics;
use crate::model::Mode;
use crate::policy::{Ground, HostError, PolicyHost};
use crate::store::{Store, StoreError};
use crate::telemetry::chain;
use crate::webhook::{Outcome, Told, Webhooks};

/// Connections by which the faces read the history.
const READERS: usize = 2;

/// Requests that may wait for the loop, which answers each in milliseconds.
const REQUESTS_MAX: usize = 16;

/// Why the daemon could not begin, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Where daemons agree on who leads.
    #[error("[lease]: cannot be used")]
    Lease(#[from] EtcdError),
    /// The port.
    #[error("cannot listen on {address}; is another daemon running? set `listen` of [http] to another one")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The Unix socket.
    #[error("cannot listen on the Unix socket {}; set `socket` of [http] to another path, or to \"off\"", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The signals.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// Told twice to end.
    #[error("stopped at once; slots may be open: the next start closes them")]
    StoppedAtOnce,
    /// Slots could not be closed in time.
    #[error("ended with slots of ours open, since the cluster did not let us close them in time; the next start will")]
    NotClosed,
}

/// Runs the daemon with what was loaded until it is told to end. Logs must have been started. A `forced` mode stands in the place of the
/// configured one for as long as the daemon runs, whatever a reload says; pausing and halting work as ever.
///
/// # Errors
/// [`RunError`] when it cannot begin, or did not end in order.
pub async fn run(loaded: Loaded, forced: Option<Mode>) -> Result<(), RunError> {
    let Loaded { config, settings, .. } = loaded;
    // First of all: from here on a signal finds somebody who knows what to do about open slots.
    let signals = Signals::listen().map_err(RunError::Signals)?;
    let store = Arc::new(Store::open(&config.state_dir)?);
    let history = (0..READERS).map(|_| Store::look(&config.state_dir)).collect::<Result<Vec<_>, _>>()?;
    let host = PolicyHost::new(config.policy.settings.clone())?;
    let metrics = Metrics::new(&config.cluster.name);
    let metrics = Arc::new(if config.http.slot_metrics { metrics.with_every_slot() } else { metrics });
    let listener = listen(config.http.listen).await?;
    let socket = socket(&config.http).await?;
    let status = first_status(&config);
    let (shown, seen) = watch::channel(Arc::new(status.clone()));
    let (ask, requests) = mpsc::channel(REQUESTS_MAX);
    let faces = Arc::new(Faces::new(Handle::new(ask, seen), metrics.clone(), history, config.http.clone()));

    let promotion: Option<Promotion> = store.get(key::PROMOTION)?.filter(|kept: &Promotion| kept.holds(&config.policy));
    let (source, parameters) = Promotion::decides(promotion.as_ref(), &config.policy);
    for (hook, outcome) in config.webhooks.iter().flat_map(|hook| Outcome::ALL.map(|outcome| (hook, outcome))) {
        metrics.webhook(&hook.name, outcome.as_str(), 0);
    }
    let counting = metrics.clone();
    let told: Told = Arc::new(move |hook, outcome| counting.webhook(hook, outcome.as_str(), 1));
    let webhooks = Webhooks::start(&config.webhooks, &config.cluster.name, told);
    let last_words = webhooks.clone();
    let showing = faces.clone();
    let notify: Notify = Arc::new(move |notice| {
        if let Notice::Event(event) = &notice {
            webhooks.tell(event.at_ms, &event.event);
            showing.happened(event.clone());
        }
        metrics.observe(&notice);
    });
    let shadows = {
        let (store, notify) = (store.clone(), notify.clone());
        let tell: Tell = Arc::new(move |event| tell(&store, &notify, event));
        Shadows::start(&host, config.shadows.clone(), tell)
    };
    let feed = Feed::start(host, source, Ground { parameters, ..Ground::default() });
    let lease = match &config.lease {
        Some(settings) => {
            let at = listener.as_ref().and_then(|listener| listener.local_addr().ok());
            Some(Lease::seek(settings, &config.cluster.name, peer(settings, at), name_among_daemons(&store)?)?)
        }
        None => None,
    };
    let crew = crew(&config, &store, lease.as_ref())?;
    let peers = match &lease {
        Some(lease) => {
            let journal = SharedJournal::new(store.clone(), lease.clone());
            Some(Peers::new(lease.clone(), journal))
        }
        None => None,
    };
    let control = Control::new(Start {
        config,
        settings,
        forced,
        keeper: Keeper { store, lease },
        peers,
        crew,
        feed,
        promotion,
        shadows,
        signals,
        requests,
        shown,
        status,
        notify,
    })?;

    let doors = listener.map(Door::Network).into_iter().chain(socket.map(Door::Socket)).collect();
    let (ending, ended) = watch::channel(false);
    let serving = tokio::spawn(http::serve(doors, faces, ended));
    let outcome = control.conduct().await;
    ending.send_replace(true);
    last_words.told(Duration::from_secs(2)).await;
    // Somebody may hold a connection open; they have their second.
    if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(1), serving).await {
        warn!(%error, "the HTTP faces ended early");
    }
    outcome
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|cause| RunError::Listen { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    info!(%address, "listening");
    Ok(Some(listener))
}

/// The Unix socket. What lies there of a daemon that was killed goes: the state directory, which was taken before, is held by one
/// daemon at a time, and elsewhere nobody answers on it.
async fn socket(http: &config::Http) -> Result<Option<UnixListener>, RunError> {
    let Some(path) = &http.socket else { return Ok(None) };
    let bound = async {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody answers on it"));
        }
        match fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        // Who may write to it may give commands: its owner, and its group.
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    match bound.await {
        Ok(listener) => {
            info!(path = %path.display(), "commands are taken on a Unix socket");
            Ok(Some(listener))
        }
        Err(cause) if http.socket_is_wanted => Err(RunError::Socket { path: path.clone(), cause }),
        Err(error) => {
            warn!(path = %path.display(), %error, "no commands are taken here: set `socket` of [http] to another path");
            Ok(None)
        }
    }
}

/// How the other daemons see this one, which listens `at`.
fn peer(settings: &lease::Settings, at: Option<SocketAddr>) -> Peer {
    let host = gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    // Two on one machine listen at different ports.
    let port = at.map(|at| format!(":{}", at.port())).unwrap_or_default();
    let url = at.map(|at| match at.ip() {
        // Whoever reads this sits elsewhere: "all addresses" is none, and one of this machine's own leads nowhere from there.
        ip if ip.is_unspecified() => format!("http://{host}{port}"),
        ip if ip.is_loopback() => String::new(),
        _ => format!("http://{at}"),
    });
    let url = url.unwrap_or_default();
    Peer { name: settings.name.clone().unwrap_or(host + &port), url: settings.url.clone().unwrap_or(url) }
}

/// What this daemon is called where it must not be taken for another one: made once, by chance.
fn name_among_daemons(store: &Store) -> Result<String, StoreError> {
    const KEY: &str = "name-among-daemons";
    if let Some(name) = store.get(KEY)? {
        return Ok(name);
    }
    let name = format!("{:016x}", rand::random::<u64>());
    store.put(KEY, &name)?;
    Ok(name)
}

fn crew(config: &Config, store: &Store, lease: Option<&Lease>) -> Result<Crew, RunError> {
    let live = config.cluster.live();
    let cluster: Arc<dyn Cluster> = match lease {
        Some(lease) => Arc::new(Fenced::new(Arc::new(live), lease.fence().clone())),
        None => Arc::new(live),
    };
    let past = past(config, store).unwrap_or_else(|error| {
        warn!(error = %chain(&error), "what was moved cannot be read; budgets and cool-downs begin afresh");
        Past::default()
    });
    Ok(Crew {
        collector: Collector::new(cluster.clone(), config.collector.clone()),
        cluster,
        deciders: Deciders::default(),
        past,
        members: store.get(key::MEMBERS)?,
        promise: None,
        sizing: Sizing::new(store.get(key::SCALER)?.unwrap_or_default()),
        lasting: Lasting::default(),
        seen: None,
    })
}

/// What was moved lately: as it was kept when a plan had been carried out, with what a plan moved that was cut off since.
fn past(config: &Config, store: &Store) -> Result<Past, StoreError> {
    // As far back as anything in the guard looks: a day of budgets, or a longer cool-down.
    let cool_down_ms = u64::try_from(config.limits.slot_cool_down.as_millis()).unwrap_or(u64::MAX);
    let since_ms = now_ms().saturating_sub(DAY_MS.max(cool_down_ms));
    let mut past: Past = match store.get(key::PAST)? {
        Some(past) => past,
        // Kept by an older version: its history tells as much.
        None => {
            let mut past = Past::default();
            store.each_cycle_that_moved_since(since_ms, |report| past.note_cycle(&report))?;
            past
        }
    };
    for entry in store.moved_since(past.newest_ms().max(since_ms))? {
        let (ended_at_ms, moved) = (entry.ended_at_ms.unwrap_or_default(), entry.moved());
        // Which of them moved is not noted where some stayed: then they count, and do not rest.
        if moved == entry.intent.slots.len() {
            past.note_slots(ended_at_ms, &entry.intent.slots, 0);
        } else {
            past.note_amount(ended_at_ms, moved as u64, 0);
        }
    }
    Ok(past)
}

fn first_status(config: &Config) -> Status {
    let mut status = Status::starting(&config.cluster.name, now_ms(), stale_after_ms(config.interval));
    status.config.path = config.path.as_ref().map(|path| path.display().to_string());
    status
}
