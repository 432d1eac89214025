//! Asks all nodes and assembles a snapshot.
//!
//! One look at the cluster: every node is asked at the same time (`ask`), what they say is compared (`agree`), counters
//! become rates (`rates`), what no server counts is estimated from samples (`estimate`), and all of it becomes a
//! [`Snapshot`] (`observe`; the same for nodes of a model: [`ModelNode`]). A node that does not answer is a problem in the snapshot, not an error. Policies, and what a snapshot
//! is good for, this module does not know.

pub mod agree;
mod ask;
mod assemble;
pub mod estimate;
mod memory;
mod model;
mod observe;
pub mod rates;
mod settings;
pub mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::clock::now_ms;
use crate::cluster::Cluster;
use crate::cluster::capability::Capabilities;
use crate::model::{Address, LinkState, NodeId, NodeRecord, Role, SlotSet, Snapshot};
use agree::{Silent, Story};
use ask::{Answer, Asking};
pub use model::{ModelNode, ModelSlot};
pub use observe::Observer;
pub use settings::{Mark, Marks, Settings};

/// Nobody can be asked: no seed, and no node known from before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CollectError {
    /// There is no address to begin with.
    #[error("no seed is configured and no node is known")]
    NoSeeds,
    /// Every node is silent or still loading.
    #[error("no node answered: {}", reasons.join("; "))]
    NoAnswer {
        /// What each of them said, or why it said nothing.
        reasons: Vec<String>,
    },
}

/// Looks at one cluster again and again, and remembers what rates and estimates need.
pub struct Collector {
    cluster: Arc<dyn Cluster>,
    settings: Settings,
    observer: Observer,
    /// Members at the last look.
    known: BTreeSet<Address>,
    capabilities: BTreeMap<NodeId, Capabilities>,
    /// Whether each node that answered the last look is a primary, and how long it took.
    answered: Vec<(bool, Duration)>,
    /// Times are milliseconds since this.
    epoch: Instant,
}

/// What one look brought.
#[derive(Default)]
struct Round {
    answers: BTreeMap<NodeId, Answer>,
    /// By address: a loading node does not tell who it is.
    loading: BTreeMap<Address, Answer>,
    silent: Silent,
    stories: Vec<Story>,
}

/// Rounds of asking in one look. Members lead to members: known nodes first, then those that they have met. The third
/// round is for clusters that merge while we look; whoever appears later is found at the next look.
const ROUNDS: usize = 3;

impl Collector {
    /// A collector that has seen nothing yet.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>, settings: Settings) -> Self {
        let observer = Observer::new(&settings);
        Self {
            cluster,
            settings,
            observer,
            known: BTreeSet::new(),
            capabilities: BTreeMap::new(),
            answered: Vec::new(),
            epoch: Instant::now(),
        }
    }

    /// Looks once. `seeds` are asked first, and again whenever none of the nodes known from before answers.
    ///
    /// Cancelled, it forgets what this look has brought.
    ///
    /// # Errors
    /// [`CollectError`] when no node at all answers.
    pub async fn collect(&mut self, seeds: &[Address], marks: &Marks) -> Result<Snapshot, CollectError> {
        let Round { answers, silent, .. } = self.ask_all(seeds).await?;
        let snapshot = self.observer.see(&answers, &silent, marks, now_ms());
        self.known = snapshot.members().map(|(_, address)| address.clone()).collect();
        let told = || answers.iter().filter_map(|(id, answer)| Some((id, answer, answer.told.as_ref()?)));
        self.capabilities = told().map(|(id, _, told)| (id.clone(), told.capabilities.clone())).collect();
        self.answered = told().map(|(_, answer, told)| (told.view.myself.role == Role::Primary, answer.took)).collect();
        Ok(snapshot)
    }

    /// Says that these slots have moved: they keep their rates, and what they cost is not looked at for a while
    /// ([`Settings::freeze`]), since the move itself is no load.
    pub fn slots_moved(&mut self, slots: &SlotSet) {
        let now_ms = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.observer.slots_moved(slots, now_ms);
    }

    /// Of each node that answered the last look: whether it is a primary, and how long it took from the first question to the last
    /// answer. Nodes that are loading are left out.
    pub fn answered(&self) -> impl Iterator<Item = (bool, Duration)> {
        self.answered.iter().copied()
    }

    /// What the nodes that answered the last look can do.
    #[must_use]
    pub fn capabilities(&self) -> &BTreeMap<NodeId, Capabilities> {
        &self.capabilities
    }

    async fn ask_all(&self, seeds: &[Address]) -> Result<Round, CollectError> {
        let seeds: BTreeSet<Address> = seeds.iter().cloned().collect();
        let starts = [&self.known, &seeds];
        let mut round = Round::default();
        for start in starts.into_iter().filter(|start| !start.is_empty()) {
            let mut next = start.clone();
            for _ in 0..ROUNDS {
                self.ask_each(next, &mut round).await;
                next = round.unasked();
                if next.is_empty() {
                    break;
                }
            }
            if !round.answers.is_empty() {
                round.name_the_loading();
                return Ok(round);
            }
        }
        if starts.iter().all(|start| start.is_empty()) {
            return Err(CollectError::NoSeeds);
        }
        let silent = round.silent.into_iter().map(|(node, reason)| format!("{node}: {reason}"));
        let loading = round.loading.into_keys().map(|node| format!("{node} is still loading its data set"));
        Err(CollectError::NoAnswer { reasons: silent.chain(loading).collect() })
    }

    async fn ask_each(&self, nodes: BTreeSet<Address>, round: &mut Round) {
        let asking = Asking {
            cluster: &*self.cluster,
            settings: &self.settings,
            samples: self.observer.samples(),
            epoch: self.epoch,
        };
        let asked = stream::iter(nodes).map(|node| asking.node(node));
        let mut results = asked.buffer_unordered(self.settings.concurrency.max(1));
        while let Some(result) = results.next().await {
            round.take_in(result);
        }
    }
}

impl Round {
    fn take_in(&mut self, result: Result<Answer, (Address, String)>) {
        match result {
            Ok(mut answer) => match &mut answer.told {
                Some(told) => {
                    told.view.share(&mut self.stories);
                    self.answers.insert(told.view.myself.id.clone(), answer);
                }
                None => {
                    self.loading.insert(answer.node.clone(), answer);
                }
            },
            Err((node, reason)) => {
                self.silent.insert(node, reason);
            }
        }
    }

    fn members(&self) -> impl Iterator<Item = &NodeRecord> {
        self.stories.iter().flat_map(|story| story.iter())
    }

    /// Members that were not asked yet, under any of their addresses.
    fn unasked(&self) -> BTreeSet<Address> {
        self.members()
            .filter(|record| record.state != LinkState::Unknown && !self.answers.contains_key(&record.id))
            .map(|record| &record.address)
            .filter(|address| !self.silent.contains_key(address) && !self.loading.contains_key(address))
            .cloned()
            .collect()
    }

    /// The others tell who the loading nodes are.
    fn name_the_loading(&mut self) {
        let names: BTreeMap<Address, NodeId> =
            self.members().map(|record| (record.address.clone(), record.id.clone())).collect();
        for (address, answer) in std::mem::take(&mut self.loading) {
            if let Some(id) = names.get(&address) {
                self.answers.insert(id.clone(), answer);
            }
        }
    }
}
