//! Reads keys where they are: follows slots that move, and outwaits what passes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::VerifyError;
use super::map::Map;
use super::value::{Heard, Reader, Seen};
use crate::clock::now_ms;
use crate::cluster::{Cluster, Command, Lane, LinkError, Reply, ServerError};
use crate::model::{Address, SlotId};

/// How long one pipeline may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long keys are run after: longer than a failover.
const PURSUIT: Duration = Duration::from_secs(30);
/// Before a node that could not answer is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// Keys in one pipeline: what a page of each of them holds is in memory at once.
const AT_ONCE: usize = 256;

/// A key's name: in which database, and what.
pub(super) type Name = (u32, Vec<u8>);

/// The cluster, and where slots were seen last.
pub(super) struct Reach<'a> {
    pub(super) cluster: &'a dyn Cluster,
    map: Mutex<Arc<Map>>,
}

/// A key that is being read.
struct Pursuit<'a> {
    place: usize,
    name: &'a Name,
    node: Address,
    /// Say ASKING before each command: the key is on its way there.
    asking: bool,
    reader: Reader,
}

impl<'a> Reach<'a> {
    pub(super) fn new(cluster: &'a dyn Cluster, map: Map) -> Self {
        Self { cluster, map: Mutex::new(Arc::new(map)) }
    }

    /// The cluster as it was seen last.
    pub(super) fn map(&self) -> Arc<Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the cluster again. If nobody answers, it is taken to be as before.
    pub(super) async fn look_again(&self) -> Arc<Map> {
        if let Ok(map) = Map::look(self.cluster, &self.map().addresses()).await {
            *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
        }
        self.map()
    }

    /// Reads keys, wherever their slots go meanwhile; `None` for one that is not there.
    ///
    /// # Errors
    /// When a server does not let us, or some key could not be read in time.
    pub(super) async fn read(&self, names: &[Name]) -> Result<Vec<Option<Seen>>, VerifyError> {
        let mut seen = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            seen.extend(self.read_some(names).await?);
        }
        Ok(seen)
    }

    async fn read_some(&self, names: &[Name]) -> Result<Vec<Option<Seen>>, VerifyError> {
        let deadline = Instant::now() + PURSUIT;
        let mut results = vec![None; names.len()];
        let map = self.map();
        let start = |(place, name)| Pursuit::start(place, name, &map);
        let mut pursued: Vec<Pursuit<'_>> = names.iter().enumerate().map(start).collect();
        while !pursued.is_empty() {
            let mut groups: BTreeMap<(Address, u32), Vec<Pursuit<'_>>> = BTreeMap::new();
            for pursuit in pursued.drain(..) {
                groups.entry((pursuit.node.clone(), pursuit.name.0)).or_default().push(pursuit);
            }
            let asked = groups.into_iter().map(async |((node, database), group)| {
                let replies = self.ask_group(&node, database, &group).await;
                (group, replies)
            });
            let mut trouble = None;
            for (group, replies) in join_all(asked).await {
                match replies {
                    Ok(mut replies) => {
                        for mut pursuit in group {
                            let mine = replies.drain(..pursuit.reader.next().len()).collect();
                            let heard = pursuit.reader.hear(mine, now_ms());
                            match heard.map_err(|cause| pursuit.unreadable(cause))? {
                                Heard::More => {}
                                Heard::Whole(seen) => {
                                    results[pursuit.place] = Some(seen);
                                    continue;
                                }
                                Heard::Gone => continue,
                                Heard::Changed => pursuit.restart(),
                                Heard::Turned(error) => {
                                    pursuit.turn(&error);
                                    trouble = trouble.or((!is_redirection(&error)).then(|| error.to_string()));
                                }
                            }
                            pursued.push(pursuit);
                        }
                    }
                    Err(error) => {
                        trouble = Some(error.to_string());
                        pursued.extend(group);
                    }
                }
            }
            if pursued.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                let why = trouble.unwrap_or_else(|| "it changes or moves whenever it is read".to_owned());
                return Err(VerifyError::Elusive { key: pursued[0].name.1.escape_ascii().to_string(), why });
            }
            if trouble.is_some() {
                sleep(PAUSE).await;
                let map = self.look_again().await;
                pursued = pursued.iter().map(|pursuit| Pursuit::start(pursuit.place, pursuit.name, &map)).collect();
            }
        }
        Ok(results)
    }

    /// One page of each key of a group; replies only for the readers' own commands.
    async fn ask_group(&self, node: &Address, database: u32, group: &[Pursuit<'_>]) -> Result<Vec<Reply>, LinkError> {
        let mut commands = Vec::new();
        for pursuit in group {
            for command in pursuit.reader.next() {
                commands.extend(pursuit.asking.then(|| Command::new("ASKING")));
                commands.push(command);
            }
        }
        let asking = commands.iter().map(is_asking).collect::<Vec<_>>();
        let replies = self.say(node, database, commands).await?;
        Ok(replies.into_iter().zip(asking).filter(|(_, asking)| !asking).map(|(reply, _)| reply).collect())
    }

    /// Says `commands` in one database, in one pipeline. Connections are shared, and stand at database 0.
    pub(super) async fn say(
        &self,
        node: &Address,
        database: u32,
        commands: Vec<Command>,
    ) -> Result<Vec<Reply>, LinkError> {
        let elsewhere = database != 0;
        let select = |database: u32| elsewhere.then(|| Command::new("SELECT").arg(database));
        let commands: Vec<Command> = select(database).into_iter().chain(commands).chain(select(0)).collect();
        let mut replies = self.cluster.call(node, Lane::Transfer, &commands, PATIENCE).await?;
        if replies.len() != commands.len() {
            let detail = format!("{} replies to {} commands", replies.len(), commands.len());
            return Err(LinkError::Lost { node: node.clone(), detail });
        }
        if elsewhere {
            replies.pop();
            // What followed a refused SELECT spoke of another database.
            if let Reply::Error(error) = replies.remove(0) {
                return Err(LinkError::Refused { node: node.clone(), detail: error.to_string() });
            }
        }
        Ok(replies)
    }
}

impl<'a> Pursuit<'a> {
    fn start(place: usize, name: &'a Name, map: &Map) -> Self {
        // Nobody owns the slot: any node will say so, and the next look may know better.
        let owner = map.owner(SlotId::of_key(&name.1)).or(map.primaries.first().map(|primary| &primary.address));
        let node = owner.cloned().unwrap_or_else(|| Address::new("nobody", 1));
        Self { place, name, node, asking: false, reader: Reader::new(name.1.clone()) }
    }

    fn restart(&mut self) {
        self.reader = Reader::new(self.name.1.clone());
    }

    /// Goes where the server said.
    fn turn(&mut self, error: &ServerError) {
        self.restart();
        if is_redirection(error)
            && let Some(node) = redirection(error, &self.node)
        {
            (self.node, self.asking) = (node, error.code == "ASK");
        }
    }

    fn unreadable(&self, cause: crate::cluster::ReplyError) -> VerifyError {
        let key = self.name.1.escape_ascii().to_string();
        VerifyError::Unreadable { node: self.node.clone(), key, cause }
    }
}

fn is_asking(command: &Command) -> bool {
    command.words().first().is_some_and(|word| word == b"ASKING")
}

fn is_redirection(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "MOVED" | "ASK")
}

/// Where a redirection points: `7 host:port`, or `7 :port` for a host that the server does not know.
fn redirection(error: &ServerError, asked: &Address) -> Option<Address> {
    let place = error.message.rsplit(' ').next()?;
    let place = place.strip_prefix('?').unwrap_or(place);
    match place.strip_prefix(':') {
        Some(port) => Some(Address::new(asked.host.clone(), port.parse().ok()?)),
        None => place.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read_in_every_form() {
        let asked = Address::new("10.0.0.1", 7000);
        let to = |message: &str| {
            let error = ServerError { code: "MOVED".into(), message: message.into() };
            redirection(&error, &asked).map(|address| address.to_string())
        };
        assert_eq!(to("7 10.0.0.2:7001").as_deref(), Some("10.0.0.2:7001"));
        assert_eq!(to("7 :7001").as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(to("7 ?:7001").as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(to("7 cache-1.internal:7001").as_deref(), Some("cache-1.internal:7001"));
    }
}
