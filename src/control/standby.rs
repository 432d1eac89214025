//! The standby pool: addresses of nodes that run, are empty, and may join when more shards are wanted.

use tracing::warn;

use crate::config::Standby;
use crate::model::Address;

/// All addresses, in the order of the configuration, each once. What cannot be read now is left out, and logged.
pub(super) async fn pool(standby: &Standby) -> Vec<Address> {
    let mut pool = standby.list.clone();
    if let Some(path) = &standby.file {
        match tokio::fs::read_to_string(path).await {
            Ok(text) => pool.extend(listed(&text, &path.display().to_string())),
            Err(error) => warn!(file = %path.display(), %error, "the standby pool's file cannot be read"),
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
            Err(error) => warn!(%name, %error, "the standby pool's name means nothing"),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    pool.retain(|at| seen.insert(at.clone()));
    pool
}

/// One address a line; what follows a # is for people.
fn listed(text: &str, file: &str) -> Vec<Address> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let read = |line: &str| match line.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            warn!(file, line, %error, "the standby pool's file has a line that is no address");
            None
        }
    };
    lines.filter(|line| !line.is_empty()).filter_map(read).collect()
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
        let pool: Vec<String> = pool(&standby).await.iter().map(ToString::to_string).collect();
        assert_eq!(pool, ["10.0.0.1:7000", "10.0.0.2:7000", "127.0.0.1:7009"]);
        let lost = Standby { file: Some("/nowhere/at/all".into()), ..standby };
        assert_eq!(super::pool(&lost).await.len(), 2, "what is left");
    }
}
