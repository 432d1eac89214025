//! A client of a cluster: finds a slot's owner, follows redirections, outlasts failures.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::cluster::{Command, LinkError, Reply, ServerError};
use crate::lab::link::Link;
use crate::lab::view::{NodeView, parse_nodes};
use crate::model::{Address, SLOT_COUNT, SlotId};

/// How long a client goes on with one command: longer than any failover that a test provokes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one attempt may take before the client looks for another way.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Between two attempts at something that cannot be done right now.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a write waits for replicas. They need a millisecond; while none is there, the load must go on.
const REPLICA_PATIENCE: Duration = Duration::from_millis(100);

/// The slot map is asked for at most this often: every request that meets a dead node wants it.
const REFRESH_GAP: Duration = Duration::from_millis(200);

/// A client of one cluster, for any number of tasks.
#[derive(Debug)]
pub struct Client {
    password: Option<String>,
    peers: RwLock<Vec<Arc<Peer>>>,
    /// The place in `peers` of each slot's owner, as far as is known.
    owners: Vec<AtomicU16>,
    refreshed: Mutex<Option<Instant>>,
    redirected: AtomicU64,
}

#[derive(Debug)]
struct Peer {
    address: Address,
    link: Mutex<Option<Arc<Link>>>,
}

/// Why a command had no useful reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A server refused it for good: nothing was done.
    #[error("{command}: {refusal}")]
    Refused {
        /// The command.
        command: String,
        /// The refusal.
        refusal: ServerError,
    },
    /// It could not be done in time; it may have been.
    #[error("{command}: gave up after {} s: {last}", PATIENCE.as_secs())]
    GaveUp {
        /// The command.
        command: String,
        /// What the last attempt met.
        last: String,
    },
}

/// What an error tells a client to do.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// The slot is there now.
    Moved(Address),
    /// This once, say ASKING and the command there.
    Ask(Address),
    /// Try again soon.
    Wait,
    /// It is an answer.
    Accept,
}

impl Client {
    /// A client that knows the cluster by `seeds`.
    ///
    /// # Errors
    /// [`LinkError`] of the last seed when none of them answers.
    pub async fn connect(seeds: &[Address], password: Option<&str>) -> Result<Self, LinkError> {
        let client = Self {
            password: password.map(str::to_owned),
            peers: RwLock::default(),
            owners: (0..SLOT_COUNT).map(|_| AtomicU16::new(0)).collect(),
            refreshed: Mutex::new(None),
            redirected: AtomicU64::new(0),
        };
        for seed in seeds {
            client.place(seed);
        }
        client.refresh().await?;
        Ok(client)
    }

    /// Redirections and passing refusals so far.
    #[must_use]
    pub fn redirected(&self) -> u64 {
        self.redirected.load(Ordering::Relaxed)
    }

    /// What the first node that answers says of the cluster.
    ///
    /// # Errors
    /// [`LinkError`] of the last node when none answers.
    pub async fn view(&self) -> Result<Vec<NodeView>, LinkError> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = None;
        for peer in peers {
            match self.call(&peer, &[Command::new("CLUSTER NODES")]).await {
                Ok(mut replies) => {
                    let text = replies.pop().and_then(|reply| reply.text().ok()).unwrap_or_default();
                    let nodes = parse_nodes(&text);
                    // A node that was reset or never joined knows only itself: ask the next.
                    if nodes.iter().any(|node| !node.slots.is_empty()) {
                        return Ok(nodes);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        let nobody = Address::new("nobody", 1);
        Err(last.unwrap_or(LinkError::Unreachable { node: nobody, detail: "no node knows a slot's owner".into() }))
    }

    /// Says `command` to the owner of `slot`, wherever that goes meanwhile.
    ///
    /// Said again after a lost reply: it has to do the same when done twice.
    pub(super) async fn say(&self, slot: SlotId, command: &Command) -> Result<Reply, Trouble> {
        self.say_and_wait(slot, command, 0).await.map(|(reply, _)| reply)
    }

    /// As [`say`](Self::say); then whether at least `replicas` replicas of the owner had it soon.
    pub(super) async fn say_and_wait(
        &self,
        slot: SlotId,
        command: &Command,
        replicas: u32,
    ) -> Result<(Reply, bool), Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut ask: Option<Arc<Peer>> = None;
        loop {
            let last = match self.attempt(slot, ask.take(), command, replicas).await {
                Ok((Reply::Error(error), _)) => match advice(&error) {
                    Advice::Accept => {
                        return Err(Trouble::Refused { command: command.to_string(), refusal: error });
                    }
                    Advice::Moved(address) => {
                        self.owners[slot.index()].store(self.place(&address), Ordering::Relaxed);
                        error.to_string()
                    }
                    Advice::Ask(address) => {
                        ask = Some(self.peer(self.place(&address)));
                        error.to_string()
                    }
                    Advice::Wait => {
                        sleep(PAUSE).await;
                        if error.code != "TRYAGAIN" {
                            // A cluster that is down, a primary that no longer is one: the map may have changed.
                            let _ = self.refresh().await;
                        }
                        error.to_string()
                    }
                },
                Ok(done) => return Ok(done),
                Err(error) => {
                    sleep(PAUSE).await;
                    // Failing, the next attempt meets the same trouble and tries again.
                    let _ = self.refresh().await;
                    error.to_string()
                }
            };
            self.redirected.fetch_add(1, Ordering::Relaxed);
            if Instant::now() > deadline {
                return Err(Trouble::GaveUp { command: command.to_string(), last });
            }
        }
    }

    async fn attempt(
        &self,
        slot: SlotId,
        ask: Option<Arc<Peer>>,
        command: &Command,
        replicas: u32,
    ) -> Result<(Reply, bool), LinkError> {
        let mut commands = vec![command.clone()];
        if ask.is_some() {
            commands.insert(0, Command::new("ASKING"));
        }
        let peer = ask.unwrap_or_else(|| self.peer(self.owner(slot)));
        if replicas == 0 {
            let replies = self.call(&peer, &commands).await?;
            return Ok((replies.into_iter().next_back().unwrap_or(Reply::Nil), true));
        }
        commands.push(Command::new("WAIT").arg(replicas).arg(REPLICA_PATIENCE.as_millis()));
        // WAIT is about what its own connection wrote, and holds that connection up.
        let link = Link::connect(&peer.address, self.password.as_deref()).await?;
        let mut replies = link.call(&commands, ATTEMPT).await?;
        let kept = matches!(replies.pop(), Some(Reply::Int(count)) if count >= i64::from(replicas));
        Ok((replies.pop().unwrap_or(Reply::Nil), kept))
    }

    /// Says many commands at once, each to the owner of its slot, as far as known: replies are as they come.
    pub(super) async fn say_all(&self, commands: Vec<(SlotId, Command)>) -> Vec<(SlotId, Command, Option<Reply>)> {
        let mut by_owner: HashMap<u16, (Vec<SlotId>, Vec<Command>)> = HashMap::new();
        for (slot, command) in commands {
            let (slots, commands) = by_owner.entry(self.owner(slot)).or_default();
            slots.push(slot);
            commands.push(command);
        }
        let mut said = Vec::new();
        for (owner, (slots, commands)) in by_owner {
            let replies = self.call(&self.peer(owner), &commands).await.unwrap_or_default();
            let replies = replies.into_iter().map(Some).chain(std::iter::repeat(None));
            said.extend(
                slots.into_iter().zip(commands).zip(replies).map(|((slot, command), reply)| (slot, command, reply)),
            );
        }
        said
    }

    /// A connection to `address`, shared with the client.
    pub(super) async fn link(&self, address: &Address) -> Result<Arc<Link>, LinkError> {
        self.connection(&self.peer(self.place(address))).await
    }

    async fn call(&self, peer: &Peer, commands: &[Command]) -> Result<Vec<Reply>, LinkError> {
        self.connection(peer).await?.call(commands, ATTEMPT).await
    }

    async fn connection(&self, peer: &Peer) -> Result<Arc<Link>, LinkError> {
        let mut link = peer.link.lock().await;
        match &*link {
            Some(link) if link.is_open() => Ok(link.clone()),
            _ => {
                let fresh = Arc::new(Link::connect(&peer.address, self.password.as_deref()).await?);
                *link = Some(fresh.clone());
                Ok(fresh)
            }
        }
    }

    /// Asks for the slot map, unless somebody just did.
    async fn refresh(&self) -> Result<(), LinkError> {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < REFRESH_GAP) {
            return Ok(());
        }
        for node in self.view().await?.iter().filter(|node| !node.slots.is_empty()) {
            let place = self.place(&node.address);
            for slot in node.slots.iter() {
                self.owners[slot.index()].store(place, Ordering::Relaxed);
            }
        }
        *refreshed = Some(Instant::now());
        Ok(())
    }

    fn owner(&self, slot: SlotId) -> u16 {
        self.owners[slot.index()].load(Ordering::Relaxed)
    }

    fn peer(&self, place: u16) -> Arc<Peer> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)[usize::from(place)].clone()
    }

    /// The place of the peer at `address`, which is made if it is new.
    fn place(&self, address: &Address) -> u16 {
        let find = |peers: &[Arc<Peer>]| peers.iter().position(|peer| peer.address == *address);
        let known = find(&self.peers.read().unwrap_or_else(PoisonError::into_inner));
        let place = known.unwrap_or_else(|| {
            let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
            find(&peers).unwrap_or_else(|| {
                peers.push(Arc::new(Peer { address: address.clone(), link: Mutex::new(None) }));
                peers.len() - 1
            })
        });
        u16::try_from(place).expect("a cluster has at most 16384 nodes")
    }
}

fn advice(error: &ServerError) -> Advice {
    let address = || error.message.split(' ').nth(1).and_then(|address| address.parse().ok());
    match error.code.as_str() {
        "MOVED" => address().map_or(Advice::Accept, Advice::Moved),
        "ASK" => address().map_or(Advice::Accept, Advice::Ask),
        "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "NOREPLICAS" => Advice::Wait,
        _ => Advice::Accept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_to_go_or_whether_to_wait() {
        let error = |code: &str, message: &str| ServerError { code: code.into(), message: message.into() };
        let there = Address::new("127.0.0.1", 7001);
        assert_eq!(advice(&error("MOVED", "42 127.0.0.1:7001")), Advice::Moved(there.clone()));
        assert_eq!(advice(&error("ASK", "42 127.0.0.1:7001")), Advice::Ask(there));
        assert_eq!(advice(&error("TRYAGAIN", "Multiple keys request during rehashing")), Advice::Wait);
        assert_eq!(advice(&error("ERR", "no such key")), Advice::Accept);
    }
}
