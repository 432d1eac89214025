//! The way that nodes and clients take to a server, where it can be cut while ours stays open. What the server itself says to
//! others goes by *their* detours.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::port::{PortLease, TO_BUS};
use super::server::Server;
use super::{LabError, Result};
use crate::cluster::Command;

/// What becomes of what is said on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It arrives.
    Flows,
    /// Connections break, and new ones are closed at once.
    Breaks,
    /// Connections stand and come about, and nothing arrives: what is said now arrives when it flows again.
    Stalls,
}

/// A pair of ports in front of a server's own. The server announces these, so all but those who know its own take the detour.
#[derive(Debug)]
pub struct Detour {
    lease: PortLease,
    traffic: watch::Sender<Traffic>,
    relays: [AbortHandle; 2],
}

impl Detour {
    /// Begins to relay, and has the server announce it; the others take it when they have heard of it.
    ///
    /// # Errors
    /// [`LabError`] when no port is free, or the server refuses.
    pub async fn around(server: &Server) -> Result<Self> {
        let lease = PortLease::take()?;
        let (traffic, _) = watch::channel(Traffic::Flows);
        let own = server.address().port;
        let relay = async |port: u16, to: u16| {
            let listener = TcpListener::bind(("127.0.0.1", port)).await;
            let listener =
                listener.map_err(|cause| LabError::Io { what: format!("cannot listen on {port}"), cause })?;
            Ok::<_, LabError>(tokio::spawn(relay(listener, to, traffic.subscribe())).abort_handle())
        };
        let relays = [relay(lease.port, own).await?, relay(lease.port + TO_BUS, own + TO_BUS).await?];
        let detour = Self { lease, traffic, relays };
        detour.announce(server).await?;
        Ok(detour)
    }

    /// Has the server announce it once more: one that was started again has forgotten that it did.
    ///
    /// # Errors
    /// [`LabError`] when the server does not answer, or refuses.
    pub async fn announce(&self, server: &Server) -> Result<()> {
        for (name, port) in
            [("cluster-announce-port", self.port()), ("cluster-announce-bus-port", self.port() + TO_BUS)]
        {
            server.call(Command::new("CONFIG SET").arg(name).arg(port)).await?;
        }
        Ok(())
    }

    /// The client port that the server announces.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port
    }

    /// From now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
    }
}

async fn relay(listener: TcpListener, to: u16, traffic: watch::Receiver<Traffic>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(carry(stream, to, traffic.clone()))),
                // Out of descriptors, for now.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

/// Carries one connection until either end closes it, or it breaks.
async fn carry(near: TcpStream, to: u16, mut traffic: watch::Receiver<Traffic>) {
    let (there, back) = (traffic.clone(), traffic.clone());
    let both = async {
        let far = TcpStream::connect(("127.0.0.1", to)).await?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            ended = pump(near_in, far_out, there) => ended,
            ended = pump(far_in, near_out, back) => ended,
        }
    };
    tokio::select! {
        biased;
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Breaks) => {}
        _ = both => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 || traffic.wait_for(|traffic| *traffic != Traffic::Stalls).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Reply;
    use crate::lab::{Kind, Link, ServerSettings};
    use crate::model::Address;

    #[tokio::test]
    async fn what_is_said_arrives_later_or_never_as_it_was_set() {
        let program = Kind::Redis70.program().expect("make servers");
        let server = Server::start(&program, &ServerSettings::default()).await.expect("started");
        let detour = Detour::around(&server).await.expect("announced");
        let address = Address::new("127.0.0.1", detour.port());
        let link = Link::connect(&address, None).await.expect("connected");
        let ping = [Command::new("PING")];
        let soon = Duration::from_millis(200);
        assert!(matches!(link.call(&ping, soon).await.as_deref(), Ok([Reply::Bytes(_)])));
        detour.set(Traffic::Stalls);
        assert!(link.call(&ping, soon).await.is_err(), "nothing arrives");
        detour.set(Traffic::Flows);
        assert!(Link::connect(&address, None).await.expect("connected").call(&ping, soon * 5).await.is_ok());
        detour.set(Traffic::Breaks);
        assert!(link.call(&ping, soon).await.is_err(), "it is broken");
        assert!(server.call(Command::new("PING")).await.is_ok(), "and the server well");
    }
}
