//! Who gives a command, for the journal and the history: a person at a machine, and what was typed.

use std::process;

use nix::unistd::{User, getuid};

/// `alice@host`.
pub(super) fn person() -> String {
    let user = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let user = user.unwrap_or_else(|| format!("uid {}", getuid()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.map(|name| name.trim().to_owned()).or_else(|| std::env::var("HOSTNAME").ok());
    format!("{user}@{}", host.filter(|host| !host.is_empty()).unwrap_or_else(|| "an unnamed host".into()))
}

/// `alice@host (process 4711) with 'ballast reshard redis://***@host:7000 …'`, without passwords.
pub(super) fn of_this_command() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> =
        std::iter::once("ballast".to_owned()).chain(words.map(|word| without_secret(&word))).collect();
    format!("{} (process {}) with '{}'", person(), process::id(), words.join(" "))
}

/// The word without what stands before the host of a URL: a password, and perhaps a user.
fn without_secret(word: &str) -> String {
    // The last '@': a password written without percent-encoding may contain one, and '/' too.
    let secret = word.find("://").map(|scheme| scheme + 3).zip(word.rfind('@')).filter(|(from, to)| from < to);
    match secret {
        Some((from, to)) => format!("{}***{}", &word[..from], &word[to..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_written_down() {
        for (word, written) in [
            ("redis://:hunter2@10.0.0.1:6379", "redis://***@10.0.0.1:6379"),
            ("rediss://ann:hun@ter/2@h:1", "rediss://***@h:1"),
            ("--url=redis://ann:hunter2@h:1/0", "--url=redis://***@h:1/0"),
            ("redis://10.0.0.1:6379", "redis://10.0.0.1:6379"),
            ("10.0.0.1:6379", "10.0.0.1:6379"),
            ("--reason=mail to ann@example.com", "--reason=mail to ann@example.com"),
        ] {
            assert_eq!(without_secret(word), written);
        }
    }

    #[test]
    fn a_person_has_a_machine() {
        let person = person();
        assert!(person.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()), "{person}");
        assert!(of_this_command().starts_with(&person));
    }
}
