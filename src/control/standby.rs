//! The standby pool: addresses of nodes that run, are empty, and may join when more shards are wanted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use crate::model::Address;
use crate::scaling::Standby;

/// Who may join, read anew whenever it is asked for. Clones share what they have told of.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    /// What was wrong the last time: it is logged once for as long as it lasts.
    troubles: Arc<Mutex<BTreeSet<String>>>,
}

impl Pool {
    /// All addresses, in the order of the configuration, each once. What cannot be read now is left out.
    pub(super) async fn addresses(&self, standby: &Standby) -> Vec<Address> {
        let (addresses, troubles) = read(standby).await;
        let mut known = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        for trouble in troubles.difference(&known) {
            warn!("the standby pool: {trouble}");
        }
        *known = troubles;
        addresses
    }
}

/// The addresses, and what is wrong with the rest.
async fn read(standby: &Standby) -> (Vec<Address>, BTreeSet<String>) {
    let mut pool = standby.list.clone();
    let mut troubles = BTreeSet::new();
    if let Some(path) = &standby.file {
        match tokio::fs::read_to_string(path).await {
            Ok(text) => {
                for line in lines(&text) {
                    match line.parse() {
                        Ok(address) => pool.push(address),
                        Err(error) => drop(troubles.insert(format!("{}: '{line}': {error}", path.display()))),
                    }
                }
            }
            Err(error) => drop(troubles.insert(format!("{}: {error}", path.display()))),
        }
    }
    if let Some(name) = &standby.dns {
        match tokio::net::lookup_host((name.host.as_str(), name.port)).await {
            Ok(found) => {
                let mut found: Vec<_> = found.collect();
                // Name servers turn the order around at each question.
                found.sort_unstable();
                pool.extend(found.into_iter().map(|at| Address::new(at.ip().to_string(), at.port())));
            }
            // A pool that is empty has no name, or none yet.
            Err(error) => drop(troubles.insert(format!("{name}: {error}"))),
        }
    }
    let mut seen = BTreeSet::new();
    pool.retain(|at| seen.insert(at.clone()));
    (pool, troubles)
}

/// One address a line; what follows a # is for people.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pool_is_a_list_a_file_and_a_name_each_address_once() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "# spares\n10.0.0.2:7000 # rack 4\n\nnonsense\n10.0.0.1:7000\n").expect("writable");
        let standby = Standby {
            list: vec![Address::new("10.0.0.1", 7000)],
            file: Some(file.path().to_owned()),
            dns: Some(Address::new("127.0.0.1", 7009)),
        };
        let pool = Pool::default();
        let addresses: Vec<String> = pool.addresses(&standby).await.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1:7000", "10.0.0.2:7000", "127.0.0.1:7009"]);
        let troubles = || pool.troubles.lock().expect("nobody panicked").iter().cloned().collect::<Vec<_>>();
        assert!(matches!(troubles().as_slice(), [line] if line.contains("'nonsense'")), "{:?}", troubles());
        let lost = Standby { file: Some("/nowhere/at/all".into()), ..standby };
        assert_eq!(pool.addresses(&lost).await.len(), 2, "what is left");
        assert!(matches!(troubles().as_slice(), [line] if line.starts_with("/nowhere")), "{:?}", troubles());
    }
}
