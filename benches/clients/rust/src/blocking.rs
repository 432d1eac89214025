//! redis-rs `cluster`: it blocks and is not shared, so there is a connection object in each of many threads.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Commands, RedisError};

use crate::contract::{GRACE, Options, Run};
use crate::keys::{Choice, Keys};

/// Enough that threads wait for the schedule and not the other way round, as long as a request takes less than 10 ms at
/// 3,000 a second.
const THREADS: usize = 32;

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let client = ClusterClient::new(options.seeds.iter().map(|seed| format!("redis://{seed}")))?;
    let mut connections = (0..THREADS).map(|_| client.get_connection()).collect::<Result<Vec<_>, _>>()?;
    let keys = Arc::new(Keys::new(options.keys));
    for key in 0..options.keys {
        connections[0].set::<_, _, ()>(Keys::name(key), 1)?;
        keys.acknowledge(key, 1);
    }
    let run = Run::start(options);
    let threads: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let (run, keys) = (run.clone(), keys.clone());
            thread::spawn(move || work(&run, &keys, connection))
        })
        .collect();
    while !run.is_stopped() {
        thread::sleep(Duration::from_millis(20));
    }
    // Whoever has not come back by then is counted by what is missing.
    thread::sleep(GRACE);
    drop(threads);
    run.report("cluster");
    Ok(())
}

fn work(run: &Run, keys: &Keys, mut connection: ClusterConnection) {
    loop {
        let (due, wait) = run.next();
        thread::sleep(wait);
        if run.is_stopped() {
            return run.untake();
        }
        let outcome: Result<(), RedisError> = match keys.choose() {
            Choice::Write(key, version) => {
                connection.set(Keys::name(key), version).map(|()| keys.acknowledge(key, version))
            }
            Choice::Read(key, acknowledged) => {
                connection.get(Keys::name(key)).map(|seen: Option<u64>| run.compare(seen, acknowledged))
            }
        };
        run.end(due, outcome);
    }
}
