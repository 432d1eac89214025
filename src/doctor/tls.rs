//! Is what we say to nodes encrypted, and do we know whom we say it to? Pure.

use std::net::IpAddr;

use super::line::{Fix, Line, Topic};
use crate::cluster::live::{Access, Password};
use crate::model::Address;

/// What is to be said of connections to these addresses.
pub(super) fn found(access: &Access, addresses: &[Address]) -> Line {
    let local = |address: &Address| {
        address.host == "localhost" || address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    match &access.tls {
        Some(tls) if tls.insecure => Line::warn(
            Topic::Tls,
            "connections are encrypted, and anybody may answer in a node's place: insecure = true accepts any certificate",
            Fix::write(
                "under [cluster.tls], the authority that signed the servers' certificates:",
                ["insecure = false", "ca_file = \"/etc/ballast/ca.pem\""],
            ),
        ),
        Some(tls) => {
            let trust = if tls.ca_file.is_some() { "ca_file" } else { "the system's authorities" };
            Line::ok(Topic::Tls, format!("connections are encrypted, certificates checked against {trust}"))
        }
        None if access.password != Password::Absent && !addresses.iter().all(local) => Line::warn(
            Topic::Tls,
            "connections are not encrypted, and our password crosses the network in the clear",
            Fix::write(
                "where servers have a TLS port, under [cluster] (docs/access.md):",
                ["seeds = [\"rediss://HOST:PORT\"]"],
            ),
        ),
        None => Line::ok(Topic::Tls, "connections are not encrypted; no password leaves this machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;
    use crate::cluster::live::{Secret, Tls};

    #[test]
    fn a_password_in_the_clear_and_a_certificate_of_anybody_are_warnings() {
        let password = || Password::Given(Secret::new("x"));
        let [here, there] = [[Address::new("127.0.0.1", 1)], [Address::new("10.0.0.1", 1)]];
        let verdict =
            |password, tls, addresses: &[Address]| found(&Access { user: None, password, tls }, addresses).verdict;
        let insecure = || Some(Tls { insecure: true, ..Tls::default() });
        assert_eq!(verdict(Password::Absent, None, &there), Verdict::Ok);
        assert_eq!(verdict(password(), None, &here), Verdict::Ok);
        assert_eq!(verdict(password(), None, &there), Verdict::Warn);
        assert_eq!(verdict(password(), Some(Tls::default()), &there), Verdict::Ok);
        assert_eq!(verdict(password(), insecure(), &there), Verdict::Warn);
    }
}
