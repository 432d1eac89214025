//! What is asked of a load program, and what it answers.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::RedisError;
use serde_json::{Value, json};

/// The phases that lines on standard input switch between.
const PHASES: [&str; 3] = ["quiet", "moving", "after"];

/// How long the requests under way at the end may take. What is not answered by then counts as unanswered.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// The client has recovered if so much of what was due in the last five seconds was answered well.
const WELL: f64 = 0.99;
const LAST: Duration = Duration::from_secs(5);

/// What the command line says.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) seeds: Vec<String>,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Until standard input closes, if not given.
    pub(crate) seconds: Option<f64>,
    pub(crate) keys: usize,
}

impl Options {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seeds: Vec::new(), rate: 1000.0, seconds: None, keys: 20_000 };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = || value.parse::<f64>().map_err(|_| format!("{name}: '{value}' is no number"));
            match name.as_str() {
                "--seeds" => options.seeds = value.split(',').map(str::to_owned).collect(),
                "--rate" => options.rate = number()?,
                "--seconds" => options.seconds = Some(number()?),
                "--keys" => options.keys = number()? as usize,
                _ => return Err(format!("{name} is unknown")),
            }
        }
        if options.seeds.is_empty() { Err("--seeds host:port,host:port is missing".into()) } else { Ok(options) }
    }
}

/// Whose turn it is, and what became of it all. Shared by everybody who sends.
pub(crate) struct Run {
    begun: Instant,
    rate: f64,
    phase: AtomicUsize,
    sent: AtomicU64,
    stopped: AtomicBool,
    done: Mutex<Vec<Done>>,
    errors: Mutex<Errors>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Errors {
    by_kind: BTreeMap<String, u64>,
    /// What the first of them said, for people.
    complaint: Option<String>,
}

struct Done {
    phase: usize,
    due: Duration,
    ended: Duration,
    well: bool,
}

/// One request that is due.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    phase: usize,
    at: Duration,
}

impl Run {
    /// Starts the clock and follows standard input. `ready` is said on standard output: the driver waits for it.
    pub(crate) fn start(options: &Options) -> Arc<Self> {
        println!("ready");
        let run = Arc::new(Self {
            begun: Instant::now(),
            rate: options.rate,
            phase: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            done: Mutex::default(),
            errors: Mutex::default(),
            lost: AtomicU64::new(0),
        });
        let (listener, seconds) = (run.clone(), options.seconds);
        thread::spawn(move || {
            match seconds {
                Some(seconds) => thread::sleep(Duration::from_secs_f64(seconds)),
                None => listener.follow(std::io::stdin().lock()),
            }
            listener.stopped.store(true, Ordering::Relaxed);
        });
        run
    }

    fn follow(&self, input: impl BufRead) {
        for line in input.lines().map_while(Result::ok) {
            let named = line.strip_prefix("phase ").and_then(|name| PHASES.iter().position(|phase| *phase == name));
            if let Some(phase) = named {
                self.phase.store(phase, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Takes the next request of the schedule, and says how long it is until it is due: zero when it is late.
    pub(crate) fn next(&self) -> (Due, Duration) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let at = Duration::from_secs_f64(number as f64 / self.rate);
        (Due { phase: self.phase.load(Ordering::Relaxed), at }, at.saturating_sub(self.begun.elapsed()))
    }

    pub(crate) fn is_due(&self, due: Due) -> bool {
        due.at <= self.begun.elapsed()
    }

    /// Counts a lost write when a read shows less than was acknowledged before it.
    pub(crate) fn compare(&self, seen: Option<u64>, acknowledged: u64) {
        if seen.is_none_or(|seen| seen < acknowledged) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives back a request that was taken and never sent.
    pub(crate) fn untake(&self) {
        self.sent.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request has come to an end. Its phase is the one in which it was due.
    pub(crate) fn end(&self, due: Due, outcome: Result<(), RedisError>) {
        let done = Done { phase: due.phase, due: due.at, ended: self.begun.elapsed(), well: outcome.is_ok() };
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        if let Err(error) = outcome {
            let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
            // A few words that many errors share: the server's code where it is one of its errors.
            let kind = error.code().map_or_else(|| format!("{:?}", error.kind()), str::to_owned);
            *errors.by_kind.entry(kind).or_default() += 1;
            errors.complaint.get_or_insert_with(|| error.to_string());
        }
    }

    /// Prints the report, in one line. `client` is a module of redis-rs.
    pub(crate) fn report(&self, client: &str) {
        let client = format!("redis-rs {client} {}, tokio {}", version_of("redis"), version_of("tokio"));
        let sent = self.sent.load(Ordering::Relaxed);
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let well: Vec<&Done> = done.iter().filter(|done| done.well).collect();
        let phases: serde_json::Map<String, Value> =
            PHASES.iter().enumerate().map(|(phase, name)| ((*name).to_owned(), of_phase(&well, phase))).collect();
        // By what was due and not by the clock: a program that was late to stop has sent nothing in between.
        let last_due = Duration::from_secs_f64(sent as f64 / self.rate);
        let from = last_due.saturating_sub(LAST);
        let lately = well.iter().filter(|done| done.due >= from).count() as f64;
        let due_lately = (last_due - from).as_secs_f64() * self.rate;
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let report = json!({
            "client": client,
            "requests": sent,
            "answered_well": well.len(),
            "errors": errors.by_kind,
            "complaint": errors.complaint,
            "unanswered": sent.saturating_sub(done.len() as u64),
            "stall_ms": stall(&well, last_due).as_secs_f64() * 1000.0,
            "latency_max_ms": well.iter().map(|done| latency_ms(done)).fold(0.0, f64::max),
            "phases": phases,
            "recovered": lately >= due_lately * WELL,
            "lost": self.lost.load(Ordering::Relaxed),
        });
        println!("{report}");
    }
}

/// The version of a crate that this program was built with.
fn version_of(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
    package.and_then(|package| package.split("version = \"").nth(1)?.split('"').next()).unwrap_or("?")
}

fn latency_ms(done: &Done) -> f64 {
    done.ended.saturating_sub(done.due).as_secs_f64() * 1000.0
}

fn of_phase(well: &[&Done], phase: usize) -> Value {
    let mut latencies: Vec<f64> = well.iter().filter(|done| done.phase == phase).map(|done| latency_ms(done)).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).or(latencies.last()).copied();
    json!({
        "requests": latencies.len(),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": latencies.last(),
    })
}

/// The longest time in which nothing was answered well, up to `end`.
fn stall(well: &[&Done], end: Duration) -> Duration {
    let mut ends: Vec<Duration> = well.iter().map(|done| done.ended).collect();
    ends.push(Duration::ZERO);
    ends.push(end);
    ends.sort();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
