//! Ports that no other process of ours takes, and none of anybody else's has.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::{LabError, Result};

/// Client ports. With their bus ports they stay below 32768, where Linux begins to hand out outgoing ports.
const PORTS: Range<u16> = 11_000..21_000;

/// From a client port to its bus port: what every server takes unless told otherwise, and Redis 6.2 cannot be told.
pub(super) const TO_BUS: u16 = 10_000;

/// A client port whose bus port is free too, ours for as long as this lives.
///
/// Probing alone would race with other test processes: between the probe and the server's own bind, or while a killed
/// server waits to be restarted. So the right to a port is a name in Linux's abstract socket namespace, which only one
/// process can hold and which vanishes with it.
#[derive(Debug)]
pub struct PortLease {
    /// The client port.
    pub port: u16,
    _name: UnixListener,
}

impl PortLease {
    /// Takes one.
    ///
    /// # Errors
    /// [`LabError::NoPort`] when all are taken.
    pub fn take() -> Result<Self> {
        // Processes begin at different places, so that they seldom try the same ports.
        let start = (std::process::id() as usize * 101) % PORTS.len();
        PORTS.cycle().skip(start).take(PORTS.len()).find_map(Self::try_take).ok_or(LabError::NoPort)
    }

    fn try_take(port: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("ballast-lab-port-{port}")).ok()?;
        let name = UnixListener::bind_addr(&name).ok()?;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        (free(port) && free(port + TO_BUS)).then_some(Self { port, _name: name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_holder_at_a_time() {
        let held = PortLease::take().expect("a port");
        assert!(PortLease::try_take(held.port).is_none(), "it is held");
        let port = held.port;
        drop(held);
        assert!(PortLease::try_take(port).is_some(), "it was given back");
    }

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let held = PortLease::take().expect("a port");
        let port = held.port;
        let _foreign = TcpListener::bind(("127.0.0.1", port + TO_BUS)).expect("it was free");
        drop(held);
        assert!(PortLease::try_take(port).is_none(), "its bus port is taken");
    }
}
