//! `ballast drain` and `undrain`: a node is emptied by the policy, over all that stay, and leaves the cluster if that is wished.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::author;
use super::daemon::{Daemon, Line};
use super::outcome::{Exit, Outcome, Stop, timed_out};
use super::screen::Screen;
use crate::control::{DrainStatus, Status};
use crate::model::{Address, NodeId, units};

/// How often a drain is looked at while it is waited for. A cycle takes seconds.
const LOOK: Duration = Duration::from_millis(500);
/// And a daemon that does not answer.
const LOST: Duration = Duration::from_secs(2);

/// Which node, and what becomes of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A primary: its address, its id or the beginning of that
    node: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Has the cluster forget it once it is empty; its replicas follow others
    #[arg(long)]
    forget: bool,
    /// Waits until that is done, and shows how far it has come
    #[arg(long)]
    wait: bool,
    /// Waits no longer
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = units::duration::parse, requires = "wait")]
    timeout: Duration,
    /// Drains it though the rest is too small for what it holds
    #[arg(long)]
    force: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Which node may have slots again.
#[derive(Debug, clap::Args)]
pub(super) struct UndrainArgs {
    /// The node: its address, its id or the beginning of that
    node: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// What came of a drain that was waited for.
#[derive(Serialize)]
struct Drained {
    id: NodeId,
    address: Address,
    left: bool,
    seconds: f64,
}

pub(super) async fn run(args: Args, screen: &Screen) -> Outcome {
    let line = args.daemon.reach(screen)?;
    let wish = json!({ "who": author::person(), "reason": args.reason, "forget": args.forget, "force": args.force });
    let path = format!("/api/v1/nodes/{}/drain", args.node);
    if !args.wait {
        return line.ask(&path, &wish, screen).await;
    }
    line.tell(&path, &wish, screen).await?;
    wait(&args, &line, screen).await
}

pub(super) async fn undrain(args: UndrainArgs, screen: &Screen) -> Outcome {
    let wish = json!({ "who": author::person(), "reason": args.reason });
    args.daemon.reach(screen)?.withdraw(&format!("/api/v1/nodes/{}/drain", args.node), &wish, screen).await
}

/// Waits until the node is empty, or gone if it is to go.
async fn wait(args: &Args, line: &Line, screen: &Screen) -> Outcome {
    let began = Instant::now();
    let mut drain: Option<DrainStatus> = None;
    let mut shown = String::new();
    let mut lost = false;
    loop {
        let status: Status = match line.get("/api/v1/status", "status").await {
            Ok(status) => status,
            // It may be restarted meanwhile, or another one take over: the drain outlives that.
            Err(error) if began.elapsed() <= args.timeout && is_lost(&error) => {
                if !lost {
                    screen.note(&format!("{error:#}; the drain goes on once it is back"));
                }
                lost = true;
                sleep(LOST).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        lost = false;
        let now = status.drains.into_iter().find(|drain| drain.drain.is_called(&args.node));
        let done = match (&now, &drain) {
            (Some(now), _) => now.slots_left == Some(0) && !args.forget,
            // It was there and is gone: it has left, or somebody let it have slots again.
            (None, Some(before)) => {
                let member = status.nodes.iter().any(|node| node.id == before.drain.id);
                if member {
                    return Err(Stop {
                        exit: Exit::Failed,
                        message: format!("{} is not drained any more", before.drain.address),
                        hint: "somebody may have said `ballast undrain`: `ballast history` tells".into(),
                    }
                    .into());
                }
                true
            }
            (None, None) => false,
        };
        drain = now.or(drain);
        if let Some(DrainStatus { drain, .. }) = drain.as_ref().filter(|_| done) {
            let seconds = began.elapsed().as_secs_f64();
            let drained = Drained { id: drain.id.clone(), address: drain.address.clone(), left: args.forget, seconds };
            screen.show("Drained", &drained, || {
                let how = if args.forget { "is empty and has left the cluster" } else { "is empty" };
                format!("{} {how}, after {seconds:.0} s\n", drained.address)
            })?;
            return Ok(Exit::Ok);
        }
        let words = drain.as_ref().map(words).unwrap_or_default();
        if words != shown {
            screen.note(&words);
            shown = words;
        }
        if began.elapsed() > args.timeout {
            let message = format!("after {} it is not done: {shown}", humantime::format_duration(args.timeout));
            return Err(timed_out(
                message,
                "it goes on; `ballast status` shows how far it has come, `ballast undrain` ends it",
            ));
        }
        sleep(LOOK).await;
    }
}

/// Whether nobody answered, which may change.
fn is_lost(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Stop>().is_some_and(|stop| stop.exit == Exit::Failed)
}

/// How far a drain has come, in one line.
pub(super) fn words(status: &DrainStatus) -> String {
    let address = &status.drain.address;
    let left = match (status.slots_left, status.bytes_left) {
        (None, _) => "not seen yet".to_owned(),
        (Some(0), _) if status.drain.forget => "empty; the cluster is about to forget it".to_owned(),
        (Some(0), _) => "empty".to_owned(),
        (Some(slots), Some(bytes)) => format!("{slots} slots left, {}", units::size::format(bytes as u64)),
        (Some(slots), None) => format!("{slots} slots left"),
    };
    let blocked = status.blocked_by.as_ref().map_or_else(String::new, |why| format!("; it does not go on: {why}"));
    format!("{address} drains: {left}{blocked}")
}
