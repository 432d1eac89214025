//! A cluster in memory, for tests of the engine: servers as far as slot migration goes, and faults at chosen calls.
//!
//! It is as unforgiving as the servers: a node that learns that another one owns a slot deletes the keys that it has left,
//! `NODE` on the target without its importing flag claims without a new epoch, a MIGRATE that breaks off leaves a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::cluster::{Cluster, Command, Lane, LinkError, Reply, ServerError};
use crate::model::{Address, NodeId, SlotId};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing reaches the node.
    Unreachable,
    /// The node does what it is told, and its replies are lost.
    RepliesLost,
    /// The first MIGRATE copies and does not delete.
    MigrateBreaksOff,
    /// The first SETSLOT finds replicas behind.
    ReplicasLag,
    /// The first transaction that is not empty is given up by the server.
    TransactionAborts,
    /// We are gone after this call: it never returns.
    WeDie,
}

#[derive(Debug, Default, Clone)]
struct Node {
    keys: BTreeMap<SlotId, BTreeMap<Vec<u8>, u64>>,
    /// Whom this node believes to own each slot.
    owners: BTreeMap<SlotId, usize>,
    importing: BTreeMap<SlotId, usize>,
    migrating: BTreeMap<SlotId, usize>,
    epoch: u64,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    transactions: bool,
    /// What follows a MULTI.
    queued: Option<Vec<Command>>,
    faults: BTreeMap<usize, Fault>,
    calls: usize,
}

/// The cluster. Node `n` listens on port `7000 + n`.
#[derive(Debug)]
pub(super) struct Toy(Mutex<State>);

impl Toy {
    /// `nodes` primaries; the first owns `slots`, with `keys` keys in each.
    pub(super) fn new(nodes: usize, slots: &[SlotId], keys: usize) -> Self {
        let mut all = vec![Node::default(); nodes];
        for (place, node) in all.iter_mut().enumerate() {
            node.epoch = place as u64 + 1;
            node.owners = slots.iter().map(|slot| (*slot, 0)).collect();
        }
        for slot in slots {
            all[0].keys.insert(*slot, (0..keys).map(|key| (format!("{slot}:{key}").into_bytes(), 0)).collect());
        }
        Self(Mutex::new(State { nodes: all, transactions: true, queued: None, faults: BTreeMap::new(), calls: 0 }))
    }

    /// Its users may not begin transactions.
    pub(super) fn without_transactions(self) -> Self {
        self.0.lock().expect("no holder panics").transactions = false;
        self
    }

    pub(super) fn id(place: usize) -> NodeId {
        format!("{place:040x}").parse().expect("forty digits")
    }

    pub(super) fn address(place: usize) -> Address {
        Address::new("toy", 7000 + u16::try_from(place).expect("few nodes"))
    }

    /// From now on, the `call`-th call from the beginning meets `fault`.
    pub(super) fn fail_at(&self, call: usize, fault: Fault) {
        self.0.lock().expect("no holder panics").faults.insert(call, fault);
    }

    pub(super) fn calls(&self) -> usize {
        self.0.lock().expect("no holder panics").calls
    }

    /// Puts a key where no client could.
    pub(super) fn put(&self, place: usize, slot: SlotId, key: &str) {
        let mut state = self.0.lock().expect("no holder panics");
        state.nodes[place].keys.entry(slot).or_default().insert(key.into(), 0);
    }

    /// A client's write, redirected as the servers redirect it. Every node in turn is the first to be asked.
    pub(super) fn write(&self, slot: SlotId, key: &[u8], value: u64) {
        let mut state = self.0.lock().expect("no holder panics");
        let place = (0..state.nodes.len()).find(|place| state.nodes[*place].owners[&slot] == *place).expect("an owner");
        let present = state.nodes[place].keys.get(&slot).is_some_and(|keys| keys.contains_key(key));
        let taker = match state.nodes[place].migrating.get(&slot) {
            Some(to) if !present && state.nodes[*to].importing.contains_key(&slot) => *to,
            // The target does not take it (yet, or any more): the client is sent to and fro, and nothing is acknowledged.
            Some(_) if !present => return,
            _ => place,
        };
        state.nodes[taker].keys.entry(slot).or_default().insert(key.to_vec(), value);
    }

    /// Where each key of `slot` is and with which value: `(node, key, value)`.
    pub(super) fn copies(&self, slot: SlotId) -> Vec<(usize, Vec<u8>, u64)> {
        let state = self.0.lock().expect("no holder panics");
        let of = |(place, node): (usize, &Node)| {
            let keys = node.keys.get(&slot).cloned().unwrap_or_default();
            keys.into_iter().map(move |(key, value)| (place, key, value)).collect::<Vec<_>>()
        };
        state.nodes.iter().enumerate().flat_map(of).collect()
    }

    /// Who owns `slot`, when all agree and nothing is open.
    pub(super) fn settled_owner(&self, slot: SlotId) -> Option<usize> {
        let state = self.0.lock().expect("no holder panics");
        let open =
            state.nodes.iter().any(|node| node.importing.contains_key(&slot) || node.migrating.contains_key(&slot));
        let owners: BTreeSet<usize> = state.nodes.iter().map(|node| node.owners[&slot]).collect();
        (!open && owners.len() == 1).then(|| owners.into_iter().next()).flatten()
    }
}

impl Cluster for Toy {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        _patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        async move {
            let (replies, fault) = {
                let mut state = self.0.lock().expect("no holder panics");
                // Probes come and go by the clock: they are no step of a migration.
                if lane == Lane::Probe {
                    return Ok(vec![Reply::Bytes(Vec::new()); commands.len()]);
                }
                let fault = state.faults.get(&state.calls).copied();
                state.calls += 1;
                if fault == Some(Fault::Unreachable) {
                    return Err(LinkError::Unreachable { node: node.clone(), detail: "fault".into() });
                }
                let place = usize::from(node.port - 7000);
                let mut fault_in_command = fault;
                let replies: Vec<Reply> =
                    commands.iter().map(|command| state.execute(place, command, &mut fault_in_command)).collect();
                state.gossip();
                (replies, fault)
            };
            match fault {
                Some(Fault::RepliesLost) => Err(LinkError::Lost { node: node.clone(), detail: "fault".into() }),
                Some(Fault::WeDie) => std::future::pending().await,
                _ => Ok(replies),
            }
        }
        .boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        None
    }
}

fn ok() -> Reply {
    Reply::Bytes(b"OK".to_vec())
}

fn error(code: &str, message: &str) -> Reply {
    Reply::Error(ServerError { code: code.into(), message: message.into() })
}

impl State {
    fn execute(&mut self, place: usize, command: &Command, fault: &mut Option<Fault>) -> Reply {
        let words: Vec<String> =
            command.words().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (words.as_slice(), &mut self.queued) {
            (["EXEC"], Some(queued)) => {
                let commands = std::mem::take(queued);
                self.queued = None;
                if !commands.is_empty() && fault.take_if(|fault| *fault == Fault::TransactionAborts).is_some() {
                    return error("EXECABORT", "Transaction discarded because of previous errors.");
                }
                return Reply::List(commands.iter().map(|command| self.execute(place, command, fault)).collect());
            }
            (_, Some(queued)) => {
                queued.push(command.clone());
                return Reply::Bytes(b"QUEUED".to_vec());
            }
            _ => {}
        }
        match words.as_slice() {
            ["MULTI" | "EXEC"] if !self.transactions => error("NOPERM", "this user has no permissions to run it"),
            ["MULTI"] => {
                self.queued = Some(Vec::new());
                ok()
            }
            ["INFO", "server"] => Reply::Bytes(format!("run_id:{place}\r\nredis_version:7.0.15\r\n").into_bytes()),
            ["COMMAND", "INFO", names @ ..] => Reply::List(vec![Reply::Nil; names.len()]),
            ["CONFIG", "GET", ..] => Reply::List(Vec::new()),
            ["ROLE"] => Reply::List(vec![Reply::Bytes(b"master".to_vec())]),
            ["CLUSTER", "NODES"] => Reply::Bytes(self.nodes_text(place).into_bytes()),
            ["CLUSTER", "BUMPEPOCH"] => {
                self.nodes[place].epoch = self.next_epoch();
                ok()
            }
            ["CLUSTER", "COUNTKEYSINSLOT", slot] => {
                Reply::Int(i64::try_from(self.keys(place, slot).len()).expect("few keys"))
            }
            ["CLUSTER", "GETKEYSINSLOT", slot, most] => {
                let most = most.parse().expect("a number");
                Reply::List(self.keys(place, slot).into_iter().take(most).map(Reply::Bytes).collect())
            }
            ["INFO", "stats"] => Reply::Bytes(b"evicted_keys:0\r\n".to_vec()),
            ["MEMORY", "USAGE", key, ..] => Reply::Int(if key.ends_with("huge") { 64 << 20 } else { 72 }),
            ["TYPE", _] => Reply::Bytes(b"hash".to_vec()),
            ["HLEN", _] => Reply::Int(1_000_000),
            ["CLUSTER", "SETSLOT", ..] if *fault == Some(Fault::ReplicasLag) => {
                *fault = None;
                error("NOREPLICAS", "Not enough good replicas to write.")
            }
            ["CLUSTER", "SETSLOT", slot, rest @ ..] => self.setslot(place, slot.parse().expect("a slot"), rest),
            ["MIGRATE", _, port, "", "0", _, rest @ ..] => {
                let target = port.parse::<usize>().expect("a port") - 7000;
                let breaks_off = fault.take_if(|fault| *fault == Fault::MigrateBreaksOff).is_some();
                self.migrate(place, target, rest, breaks_off)
            }
            _ => error("ERR", "unknown command"),
        }
    }

    fn keys(&self, place: usize, slot: &str) -> Vec<Vec<u8>> {
        let slot: SlotId = slot.parse().expect("a slot");
        self.nodes[place].keys.get(&slot).map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    fn next_epoch(&self) -> u64 {
        self.nodes.iter().map(|node| node.epoch).max().unwrap_or(0) + 1
    }

    fn setslot(&mut self, place: usize, slot: SlotId, rest: &[&str]) -> Reply {
        let other = |id: &str| usize::from_str_radix(id, 16).expect("an id of ours");
        let owner = self.nodes[place].owners[&slot];
        let epoch = self.next_epoch();
        let node = &mut self.nodes[place];
        match rest {
            ["IMPORTING", _] if owner == place => return error("ERR", "I'm already the owner of hash slot"),
            ["IMPORTING", from] => drop(node.importing.insert(slot, other(from))),
            ["MIGRATING", _] if owner != place => return error("ERR", "I'm not the owner of hash slot"),
            ["MIGRATING", to] => drop(node.migrating.insert(slot, other(to))),
            ["STABLE"] => {
                node.importing.remove(&slot);
                node.migrating.remove(&slot);
            }
            ["NODE", new] => {
                let new = other(new);
                let keys = node.keys.get(&slot).map_or(0, BTreeMap::len);
                if owner == place && new != place && keys > 0 {
                    return error(
                        "ERR",
                        "Can't assign hashslot to a different node while I still hold keys for this hash slot.",
                    );
                }
                if keys == 0 {
                    node.migrating.remove(&slot);
                }
                if new == place && node.importing.remove(&slot).is_some() {
                    node.epoch = epoch;
                }
                node.owners.insert(slot, new);
            }
            _ => return error("ERR", "syntax"),
        }
        ok()
    }

    fn migrate(&mut self, source: usize, target: usize, rest: &[&str], breaks_off: bool) -> Reply {
        let (options, keys) = rest.split_at(rest.iter().position(|word| *word == "KEYS").expect("KEYS") + 1);
        let replace = options.contains(&"REPLACE");
        for key in keys {
            let slot: SlotId = key.split(':').next().and_then(|slot| slot.parse().ok()).expect("a key of ours");
            let Some(value) = self.nodes[source].keys.get(&slot).and_then(|keys| keys.get(key.as_bytes())).copied()
            else {
                continue;
            };
            let target = &mut self.nodes[target];
            if !target.importing.contains_key(&slot) && target.owners[&slot] == source {
                return error("ERR", "Target instance replied with error: MOVED");
            }
            let there = target.keys.entry(slot).or_default();
            if there.contains_key(key.as_bytes()) && !replace {
                return error("ERR", "Target instance replied with error: BUSYKEY Target key name already exists.");
            }
            there.insert(key.as_bytes().to_vec(), value);
            if breaks_off {
                return error("IOERR", "error or timeout reading from target instance");
            }
            self.nodes[source].keys.get_mut(&slot).expect("seen").remove(key.as_bytes());
        }
        ok()
    }

    /// Every node hears every other one's claims; the higher epoch wins, and the loser deletes what it has left.
    fn gossip(&mut self) {
        let claims: Vec<(usize, u64, Vec<SlotId>)> = (0..self.nodes.len())
            .map(|place| {
                let node = &self.nodes[place];
                let own = node.owners.iter().filter(|(_, owner)| **owner == place).map(|(slot, _)| *slot);
                (place, node.epoch, own.collect())
            })
            .collect();
        for (claimant, epoch, slots) in &claims {
            for slot in slots {
                for hearer in 0..self.nodes.len() {
                    let believed = self.nodes[hearer].owners[slot];
                    // A node that imports a slot does not listen to gossip about it.
                    if believed == *claimant || hearer == *claimant || self.nodes[hearer].importing.contains_key(slot) {
                        continue;
                    }
                    if *epoch > self.nodes[believed].epoch {
                        self.nodes[hearer].owners.insert(*slot, *claimant);
                        if believed == hearer {
                            self.nodes[hearer].keys.remove(slot);
                        }
                    }
                }
            }
        }
    }

    fn nodes_text(&self, place: usize) -> String {
        let mut text = String::new();
        for (other, node) in self.nodes.iter().enumerate() {
            let Address { host, port } = Toy::address(other);
            let flags = if other == place { "myself,master" } else { "master" };
            write!(text, "{} {host}:{port}@{} {flags} - 0 0 {} connected", Toy::id(other), port + 10_000, node.epoch)
                .expect("to a string");
            for (slot, _) in self.nodes[place].owners.iter().filter(|(_, owner)| **owner == other) {
                write!(text, " {slot}").expect("to a string");
            }
            if other == place {
                for (slot, to) in &node.migrating {
                    write!(text, " [{slot}->-{}]", Toy::id(*to)).expect("to a string");
                }
                for (slot, from) in &node.importing {
                    write!(text, " [{slot}-<-{}]", Toy::id(*from)).expect("to a string");
                }
            }
            text.push('\n');
        }
        text
    }
}
