//! Addresses as people give them: `redis://user:password@host:port`.

use std::fmt;
use std::str::FromStr;

use super::access::{Access, Password, Secret, Tls};
use crate::model::Address;

/// What redis-cli and servers use when no port is given.
const DEFAULT_PORT: u16 = 6379;

/// A node's address and how to introduce oneself to it, from
/// `[redis|rediss|valkey|valkeys]://[[user]:password@]host[:port]`; a plain `host:port` will do too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Where the node answers.
    pub address: Address,
    /// User and password from the URL; TLS with the system's certificates for `rediss` and `valkeys`.
    pub access: Access,
}

/// A text that is no [`Url`]. It does not repeat the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a node's URL: {0}; redis://host:port is expected")]
pub struct InvalidUrl(String);

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("redis" | "valkey", rest)) => (false, rest),
            Some(("rediss" | "valkeys", rest)) => (true, rest),
            Some((scheme, _)) => {
                let known = "redis, rediss, valkey or valkeys";
                return Err(InvalidUrl(format!("scheme '{}' is none of {known}", scheme.escape_debug())));
            }
        };
        // The last '@': a password written without percent-encoding may contain one, a host cannot.
        let (user_info, place) = match rest.rsplit_once('@') {
            Some((user_info, place)) => (Some(user_info), place),
            None => (None, rest),
        };
        let (user, password) = match user_info.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (None, Password::Absent),
            Some((user, "")) => (Some(decode(user)?), Password::Absent),
            Some((user, password)) => (Some(decode(user)?), Password::Given(Secret::new(decode(password)?))),
        };
        let place = match place.split_once('/') {
            None | Some((_, "" | "0")) => place.split('/').next().unwrap_or_default(),
            Some(_) => return Err(InvalidUrl("a cluster is asked as a whole, so no database may be named".into())),
        };
        Ok(Self {
            address: address(place)?,
            access: Access { user: user.filter(|user| !user.is_empty()), password, tls: tls.then(Tls::default) },
        })
    }
}

fn address(place: &str) -> Result<Address, InvalidUrl> {
    let bare_ipv6 = place.starts_with('[') && place.ends_with(']');
    let with_port =
        if place.contains(':') && !bare_ipv6 { place.to_owned() } else { format!("{place}:{DEFAULT_PORT}") };
    let address: Address =
        with_port.parse().map_err(|_| InvalidUrl(format!("'{}' is no host:port", place.escape_debug())))?;
    let is_ipv6 = with_port.starts_with('[');
    if address.host.contains(|c: char| c.is_whitespace() || "/?#@".contains(c))
        || (address.host.contains(':') && !is_ipv6)
    {
        return Err(InvalidUrl(format!("'{}' is no host", address.host.escape_debug())));
    }
    Ok(address)
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, InvalidUrl> {
    let broken = || InvalidUrl("user or password has a '%' that starts no two hexadecimal digits of UTF-8".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2).ok_or_else(broken)?;
            bytes.extend(hex::decode(digits).map_err(|_| broken())?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

impl fmt::Display for Url {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.access.tls.is_some() { "rediss" } else { "redis" };
        let user = self.access.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        write!(f, "{scheme}://{user}{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (text, address) in [
            ("redis://127.0.0.1:7000", "127.0.0.1:7000"),
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("valkey://cache-1.internal", "cache-1.internal:6379"),
            ("redis://[::1]:7000/", "[::1]:7000"),
            ("redis://[::1]", "[::1]:6379"),
            ("redis://h:7000/0", "h:7000"),
        ] {
            assert_eq!(parse(text).address.to_string(), address, "{text}");
            assert_eq!(parse(text).access, Access::default(), "{text}");
        }
    }

    #[test]
    fn user_password_and_tls_are_read() {
        let url = parse("valkeys://ops:p%40ss:w%25rd@h:7000");
        assert_eq!(url.access.user.as_deref(), Some("ops"));
        assert_eq!(url.access.password, Password::Given(Secret::new("p@ss:w%rd")));
        assert_eq!(url.access.tls, Some(Tls::default()));
        assert_eq!(parse("redis://:secret@h:1").access.user, None);
        assert_eq!(parse("redis://:se@cret@h:1").access.password, Password::Given(Secret::new("se@cret")));
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let url = parse("redis://ops:hunter2@h:7000");
        assert_eq!(url.to_string(), "redis://ops@h:7000");
        assert!(!format!("{url:?}").contains("hunter2"));
        for text in ["http://ops:hunter2@h:7000", "redis://ops:hunter2@h:x", "redis://ops:hunter2%zz@h:1"] {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (text, reason) in [
            ("http://h:1", "scheme 'http' is none of"),
            ("redis://", "'' is no host:port"),
            ("redis://h:70000", "'h:70000' is no host:port"),
            ("redis://h:7000/3", "no database may be named"),
            ("redis://::1:7000", "'::1' is no host"),
            ("redis://h:7000?x=1", "no host:port"),
        ] {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
