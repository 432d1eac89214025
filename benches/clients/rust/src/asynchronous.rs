//! redis-rs `cluster-async`: one connection object, shared by all requests, as its documentation advises.

use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncCommands, RedisError};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::contract::{Due, GRACE, Options, Run};
use crate::keys::{Choice, Keys};

#[tokio::main]
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let seeds = options.seeds.iter().map(|seed| format!("redis://{seed}"));
    let connection = ClusterClient::new(seeds)?.get_async_connection().await?;
    let keys = Arc::new(Keys::new(options.keys));
    for key in 0..options.keys {
        connection.clone().set::<_, _, ()>(Keys::name(key), 1).await?;
        keys.acknowledge(key, 1);
    }
    let run = Run::start(options);
    let mut under_way = JoinSet::new();
    // Tokio's clock is no finer.
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next = run.next();
    while !run.is_stopped() {
        tick.tick().await;
        while under_way.try_join_next().is_some() {}
        while run.is_due(next.0) {
            under_way.spawn(request(run.clone(), keys.clone(), connection.clone(), next.0));
            next = run.next();
        }
    }
    run.untake();
    let all = async { while under_way.join_next().await.is_some() {} };
    // The report wants the same end whether or not all have come back.
    tokio::join!(sleep(GRACE), async { timeout(GRACE, all).await.is_ok() });
    run.report("cluster-async");
    Ok(())
}

async fn request(run: Arc<Run>, keys: Arc<Keys>, mut connection: ClusterConnection, due: Due) {
    let outcome: Result<(), RedisError> = match keys.choose() {
        Choice::Write(key, version) => {
            connection.set(Keys::name(key), version).await.map(|()| keys.acknowledge(key, version))
        }
        Choice::Read(key, acknowledged) => {
            connection.get(Keys::name(key)).await.map(|seen: Option<u64>| run.compare(seen, acknowledged))
        }
    };
    run.end(due, outcome);
}
