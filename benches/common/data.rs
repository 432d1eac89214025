//! What clusters are filled with.

use ballast::cluster::Command;
use ballast::lab::Node;
use ballast::model::SlotId;

use super::say_all;

/// What the primaries are filled with.
#[derive(Clone, Copy)]
pub(crate) enum Data {
    /// So many strings of so many bytes.
    Strings(usize, usize),
    /// So many hashes and as many sorted sets, of so many members each.
    Collections(usize, usize),
    /// Nothing: only slots move.
    Nothing,
}

impl Data {
    pub(crate) fn keys(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Strings(count, _) => count as u64,
            Self::Collections(count, _) => 2 * count as u64,
        }
    }
}

/// Fills each node with the keys of its slots.
pub(crate) async fn fill(nodes: &[Node], data: Data) {
    let fill = nodes.iter().map(|node| async move {
        let owned = node.view().await.unwrap().into_iter().find(|seen| seen.id == node.id).unwrap().slots;
        let link = node.server.link().await.unwrap();
        let mine = |count: usize| {
            (0..count).map(|n| format!("key:{n}")).filter({
                let owned = owned.clone();
                move |key| owned.contains(SlotId::of_key(key.as_bytes()))
            })
        };
        match data {
            Data::Nothing => {}
            Data::Strings(count, bytes) => {
                let value = vec![b'x'; bytes];
                let batch = (4 << 20) / (bytes + 50);
                say_all(&link, mine(count).map(|key| Command::new("SET").arg(key).bytes(value.clone())), batch).await;
            }
            Data::Collections(count, members) => {
                let hash = |key: &String| {
                    (0..members).fold(Command::new("HSET").arg(format!("h{key}")), |hash, n| {
                        hash.arg(format!("field:{n}")).arg(n)
                    })
                };
                let set = |key: &String| {
                    (0..members).fold(Command::new("ZADD").arg(format!("z{key}")), |set, n| {
                        set.arg(n).arg(format!("member:{n}"))
                    })
                };
                // Each by its own name's slot.
                let every: Vec<String> = (0..count).map(|n| format!("key:{n}")).collect();
                let both = every.iter().flat_map(|key| [(format!("h{key}"), hash(key)), (format!("z{key}"), set(key))]);
                let mine = both.filter(|(name, _)| owned.contains(SlotId::of_key(name.as_bytes())));
                say_all(&link, mine.map(|(_, command)| command), 10).await;
            }
        }
    });
    futures_util::future::join_all(fill).await;
}
