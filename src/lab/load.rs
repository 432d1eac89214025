//! A load of a fixed rate that checks every write that a server acknowledged.
//!
//! The rate is *open*: a request is due at its instant whether or not earlier ones have come back, and its latency
//! counts from that instant, so that a server that stalls is charged for everybody whom it kept waiting.
//!
//! Each key carries a version, which its writes raise one by one, at most one at a time. A read, during the load or by
//! [`verify`] after it, that shows less than the last acknowledged version is a lost write.

mod check;
mod client;
mod keys;
mod latency;
mod zipf;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use check::{Placement, Verification, find_duplicates, verify};
pub use client::Client;
use client::Trouble;
pub use keys::{Filled, KeySpace};
use latency::Latencies;
pub use latency::{Latency, Phase};
use zipf::Zipf;

/// Requests under way at most; those due beyond wait, and their latency counts the wait.
const IN_FLIGHT: usize = 20_000;

/// How the dispatcher looks for requests that are due. Tokio's clock is no finer.
const TICK: Duration = Duration::from_millis(1);

/// What the load is like.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    /// Requests per second.
    pub rate: f64,
    /// The part of requests that write, 0 to 1.
    pub writes: f64,
    /// The part of requests that make the server reckon over a whole value, 0 to 1; the rest read one.
    pub scripts: f64,
    /// Whether scripts begin with `#!lua`, as Redis 7 and Valkey read them. A script without it may touch any slot, and
    /// its cpu is then in no slot's statistics.
    pub declared_scripts: bool,
    /// Zipf's exponent: 0 for all keys alike, about 1 for the usual caches.
    pub skew: f64,
    /// The part of requests that go to the key space's [`hot`](KeySpace::hot) keys only, 0 to 1.
    pub hot_share: f64,
    /// How many replicas have to have a write (`WAIT`) before it counts as acknowledged. 0: the primary's word counts.
    ///
    /// Replication is asynchronous: what a primary alone has acknowledged may be gone after a failover, and nobody but
    /// the servers is to blame. Stories with failovers ask for 1, so that whatever is missing then was lost by a move.
    pub wait_replicas: u32,
    /// Chooses the sequence of keys.
    pub seed: u64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            rate: 2000.0,
            writes: 0.3,
            scripts: 0.0,
            declared_scripts: true,
            skew: 0.8,
            hot_share: 0.0,
            wait_replicas: 0,
            seed: 1,
        }
    }
}

/// A load that runs. Dropped, it stops at once; what was under way has an unknown outcome.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    keys: Arc<KeySpace>,
    latencies: Latencies,
    counters: Counters,
    declared_scripts: bool,
    wait_replicas: u32,
    /// The first refusal, for people.
    complaint: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    writes: AtomicU64,
    failed: AtomicU64,
    stale: AtomicU64,
}

/// What a load did, so far or all in all.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Requests that have come to an end.
    pub requests: u64,
    /// Writes that a server acknowledged.
    pub writes: u64,
    /// Requests that a server refused for good, or that had no reply within the client's patience.
    pub failed: u64,
    /// What the first of them met.
    pub complaint: Option<String>,
    /// Reads that showed less than a write acknowledged before they were sent: each proves a lost write.
    pub stale: u64,
    /// Redirections and refusals that the client followed or outwaited: MOVED, ASK, TRYAGAIN and their like.
    pub redirected: u64,
    /// Latency by phase, from the instant at which each request was due.
    pub latency: Vec<(Phase, Latency)>,
}

impl Load {
    /// Starts asking for `keys`, which have to be [filled](KeySpace::fill).
    #[must_use]
    pub fn start(client: Arc<Client>, keys: Arc<KeySpace>, settings: &LoadSettings) -> Self {
        let shared = Arc::new(Shared {
            client,
            keys,
            latencies: Latencies::default(),
            counters: Counters::default(),
            declared_scripts: settings.declared_scripts,
            wait_replicas: settings.wait_replicas,
            complaint: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let driver = tokio::spawn(drive(shared.clone(), Chooser::new(&shared.keys, settings), settings.rate, stopped));
        Self { shared, stop, driver }
    }

    /// From now on, requests that fall due count for this phase, or for none.
    pub fn enter(&self, phase: impl Into<Option<Phase>>) {
        self.shared.latencies.enter(phase.into());
    }

    /// What it did so far.
    #[must_use]
    pub fn report(&self) -> LoadReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { client, latencies, counters, complaint, .. } = &*self.shared;
        LoadReport {
            requests: count(&counters.requests),
            writes: count(&counters.writes),
            failed: count(&counters.failed),
            complaint: complaint.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            stale: count(&counters.stale),
            redirected: client.redirected(),
            latency: latencies.read(),
        }
    }

    /// Asks no more, waits for what is under way, and tells what was done.
    pub async fn stop(mut self) -> LoadReport {
        // Sending fails only when the driver is gone.
        let _ = self.stop.send(true);
        let _ = (&mut self.driver).await;
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends every request at its instant until told to stop, then waits for those under way.
async fn drive(shared: Arc<Shared>, mut chooser: Chooser, rate: f64, mut stopped: watch::Receiver<bool>) {
    let start = Instant::now();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    let mut sent = 0_u64;
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = tick.tick() => {}
        }
        while under_way.try_join_next().is_some() {}
        let due = start.elapsed().as_secs_f64() * rate;
        while (sent as f64) < due && under_way.len() < IN_FLIGHT {
            let at = start + Duration::from_secs_f64(sent as f64 / rate);
            under_way.spawn(request(shared.clone(), chooser.choose(), at));
            sent += 1;
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// What to ask next.
#[derive(Debug, Clone, Copy)]
struct Choice {
    key: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Write,
    Script,
    Read,
}

/// Chooses keys, in a sequence that the seed decides.
#[derive(Debug)]
struct Chooser {
    random: StdRng,
    /// Every key, the most asked first.
    ranked: Vec<u32>,
    all: Zipf,
    /// The hot keys, the most asked first.
    hot_ranked: Vec<u32>,
    hot: Zipf,
    hot_share: f64,
    writes: f64,
    scripts: f64,
}

impl Chooser {
    fn new(keys: &KeySpace, settings: &LoadSettings) -> Self {
        let ranked = keys.shuffled(settings.seed);
        let hot_ranked: Vec<u32> = ranked.iter().copied().filter(|key| keys.is_hot(*key as usize)).collect();
        Self {
            random: StdRng::seed_from_u64(settings.seed),
            all: Zipf::new(ranked.len(), settings.skew),
            hot: Zipf::new(hot_ranked.len(), settings.skew),
            hot_share: if hot_ranked.is_empty() { 0.0 } else { settings.hot_share },
            ranked,
            hot_ranked,
            writes: settings.writes,
            scripts: settings.scripts,
        }
    }

    fn choose(&mut self) -> Choice {
        let [pool, place, kind]: [f64; 3] = self.random.random();
        let key = if pool < self.hot_share {
            self.hot_ranked[self.hot.rank(place)]
        } else {
            self.ranked[self.all.rank(place)]
        };
        let what = if kind < self.writes {
            What::Write
        } else if kind < self.writes + self.scripts {
            What::Script
        } else {
            What::Read
        };
        Choice { key: key as usize, what }
    }
}

/// One request, from the instant at which it was due.
async fn request(shared: Arc<Shared>, Choice { key, what }: Choice, due: Instant) {
    let phase = shared.latencies.phase();
    let done = match what {
        What::Write => write(&shared, key).await,
        What::Script => check::digest(&shared.client, &shared.keys, key, shared.declared_scripts).await,
        What::Read => read(&shared, key).await,
    };
    shared.latencies.record(phase, due.elapsed());
    shared.counters.requests.fetch_add(1, Ordering::Relaxed);
    if let Err(trouble) = done {
        shared.counters.failed.fetch_add(1, Ordering::Relaxed);
        let mut complaint = shared.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.get_or_insert_with(|| trouble.to_string());
    }
}

/// Writes a key, or reads it while another write of it is under way: versions have to rise one by one.
async fn write(shared: &Shared, key: usize) -> Result<(), Trouble> {
    let Some(write) = shared.keys.begin_write(key) else { return read(shared, key).await };
    if check::write(&shared.client, &shared.keys, key, write.version, shared.wait_replicas).await? {
        write.acknowledge();
        shared.counters.writes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn read(shared: &Shared, key: usize) -> Result<(), Trouble> {
    let acknowledged = shared.keys.acknowledged(key);
    let seen = check::read(&shared.client, &shared.keys, key).await?;
    if seen.is_none_or(|seen| seen < acknowledged) {
        shared.counters.stale.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
