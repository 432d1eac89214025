//! Probes of our own while slots move: what a client on this machine would feel.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::command::{Notice, Notify};
use crate::cluster::{Cluster, Command, Lane};
use crate::model::Address;

/// Ten a second for each primary: enough to see the worst of a short migration, nothing to a server.
const PAUSE: Duration = Duration::from_millis(100);
/// A primary that takes longer is a problem that the next snapshot names.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pings all primaries again and again, and tells how long each took. Ends only by being dropped.
pub(super) async fn while_moving(cluster: &dyn Cluster, primaries: &[Address], notify: &Notify) {
    let ping = [Command::new("PING")];
    loop {
        let round = primaries.iter().map(|primary| async {
            let began = Instant::now();
            if cluster.call(primary, Lane::Control, &ping, PATIENCE).await.is_ok() {
                notify(Notice::Probe { seconds: began.elapsed().as_secs_f64(), migrating: true });
            }
        });
        join_all(round).await;
        tokio::time::sleep(PAUSE).await;
    }
}
