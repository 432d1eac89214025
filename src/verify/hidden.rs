//! Keys that a server has and does not show.
//!
//! Redis from 8.4 on leaves keys of slots that it does not own out of SCAN, GETKEYSINSLOT and COUNTKEYSINSLOT; they come
//! to light when the slot is opened again. Only the size of the database gives them away.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::VerifyError;
use super::reach::Reach;
use crate::cluster::capability::{ServerKind, Version};
use crate::cluster::question::{AtomicJobs, AtomicProtocol, ServerInfo, SlotStats};
use crate::cluster::{Command, Question, Reply, ReplyError};
use crate::model::Address;

/// How long keys have to be hidden: a server that gave slots away deletes their keys in the background.
const STANDING: Duration = Duration::from_secs(3);
/// Before they are counted again.
const PAUSE: Duration = Duration::from_millis(200);

/// How many keys `node` hides for good. None are told while it moves slots: those that arrive are hidden too.
pub(super) async fn hidden_keys(reach: &Reach<'_>, node: &Address) -> Result<u64, VerifyError> {
    let refused =
        |cause| VerifyError::Refused { node: node.clone(), command: "DBSIZE, CLUSTER SLOT-STATS".into(), cause };
    let info = reach.say(node, 0, vec![Command::new("INFO server")]).await?.pop().unwrap_or(Reply::Nil);
    if !hides_keys(&info.text().map_err(refused)?) {
        return Ok(0);
    }
    let mut deadline = Instant::now() + STANDING;
    let mut fewest = u64::MAX;
    loop {
        let replies = reach.say(node, 0, questions()).await?;
        let hidden = if reach.map().has_open_slots(node) { Some(0) } else { count(replies).map_err(refused)? };
        match hidden {
            None | Some(0) => return Ok(0),
            // It is tidying up.
            Some(hidden) if hidden < fewest => (fewest, deadline) = (hidden, Instant::now() + STANDING),
            Some(_) => {}
        }
        if Instant::now() > deadline {
            return Ok(fewest);
        }
        sleep(PAUSE).await;
        reach.look_again().await;
    }
}

fn hides_keys(info: &str) -> bool {
    let server = ServerInfo::parse(info).server();
    server.is_some_and(|server| server.kind == ServerKind::Redis && server.version >= Version(8, 4, 0))
}

const JOBS: AtomicJobs = AtomicJobs { protocol: AtomicProtocol::RedisMigrationImport };

/// In one pipeline, so that next to nothing happens in between; the size first, so that keys made meanwhile hide none.
fn questions() -> Vec<Command> {
    let size = std::iter::once(Command::new("DBSIZE"));
    size.chain(SlotStats::all().commands()).chain(JOBS.commands()).collect()
}

/// Keys that are in no owned slot; none if slots are moving, since nothing follows from the numbers then.
fn count(replies: Vec<Reply>) -> Result<Option<u64>, ReplyError> {
    let mut replies = replies.into_iter();
    let size = u64::try_from(replies.next().unwrap_or(Reply::Nil).int()?).unwrap_or(0);
    let stats = SlotStats::all().read(replies.by_ref().take(1).collect())?;
    let moving = JOBS.read(replies.collect())?.iter().any(|job| !job.finished);
    let shown: u64 = stats.iter().map(|stat| stat.keys).sum();
    Ok((!moving).then(|| size.saturating_sub(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_redis_from_8_4_on_hides_keys() {
        assert!(hides_keys("redis_version:8.6.0\r\n"));
        assert!(!hides_keys("redis_version:8.2.1\r\n"));
        assert!(!hides_keys("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.0\r\n"));
    }

    #[test]
    fn keys_in_no_owned_slot_are_counted() {
        let stat =
            Reply::List(vec![Reply::Int(7), Reply::List(vec![Reply::Bytes(b"key-count".to_vec()), Reply::Int(3)])]);
        let replies = |size| vec![Reply::Int(size), Reply::List(vec![stat.clone()]), Reply::List(Vec::new())];
        assert_eq!(count(replies(5)), Ok(Some(2)));
        assert_eq!(count(replies(2)), Ok(Some(0)), "keys were made in between");
    }
}
