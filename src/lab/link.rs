//! One connection to one server, shared by many callers: what they say goes out in one stream, in order.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resp;
use crate::cluster::{Command, LinkError, Reply};
use crate::model::Address;

/// How long a connection to a server on this machine may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Calls that wait to be written. A caller beyond waits for its turn.
const QUEUE: usize = 1024;

/// Calls written by one system call at most.
const BATCH: usize = 128;

/// Certificates for a cluster that speaks TLS only: PEM files, each certificate with its key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Whom all trust.
    pub authority: PathBuf,
    /// What servers show.
    pub server: (PathBuf, PathBuf),
    /// What clients show, and servers when they are the clients of others.
    pub client: (PathBuf, PathBuf),
}

/// How the lab gets in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Door<'a> {
    /// The default user without one.
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) tls: Option<&'a TlsFiles>,
}

/// A connection. Closed when dropped; calls without replies by then are lost.
#[derive(Debug)]
pub struct Link {
    address: Address,
    queue: mpsc::Sender<Call>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Call {
    wire: Vec<u8>,
    waiting: Waiting,
}

#[derive(Debug)]
struct Waiting {
    /// Replies still to come.
    missing: usize,
    replies: Vec<Reply>,
    answer: oneshot::Sender<Vec<Reply>>,
}

impl Link {
    /// Connects to `address` and, if there is a password, says it.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`], or [`LinkError::Refused`] when the password is wrong.
    pub async fn connect(address: &Address, password: Option<&str>) -> Result<Self, LinkError> {
        Self::enter(address, Door { password, ..Door::default() }).await
    }

    pub(super) async fn enter(address: &Address, door: Door<'_>) -> Result<Self, LinkError> {
        let unreachable = |detail: String| LinkError::Unreachable { node: address.clone(), detail };
        let stream = timeout(CONNECT_PATIENCE, TcpStream::connect((address.host.as_str(), address.port)))
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (queue, calls) = mpsc::channel(QUEUE);
        let task = match door.tls {
            None => {
                let (reader, writer) = stream.into_split();
                tokio::spawn(carry(reader, writer, calls))
            }
            Some(files) => {
                let stream =
                    shake_hands(stream, address, files).await.map_err(|error| unreachable(error.to_string()))?;
                let (reader, writer) = tokio::io::split(stream);
                tokio::spawn(carry(reader, writer, calls))
            }
        };
        let link = Self { address: address.clone(), queue, task };
        if let Some(password) = door.password {
            let auth = door.user.into_iter().fold(Command::new("AUTH"), |auth, user| auth.arg(user)).secret(password);
            let replies = link.call(&[auth], CONNECT_PATIENCE).await?;
            if let Some(Reply::Error(error)) = replies.first() {
                return Err(LinkError::Refused { node: address.clone(), detail: error.to_string() });
            }
        }
        Ok(link)
    }

    /// Sends `commands`, nothing between them, and waits at most `patience` for all replies.
    ///
    /// Dropping the future may leave the commands executed.
    ///
    /// # Errors
    /// [`LinkError`], which says whether anything was sent.
    pub async fn call(&self, commands: &[Command], patience: Duration) -> Result<Vec<Reply>, LinkError> {
        let mut wire = Vec::with_capacity(64 * commands.len());
        for command in commands {
            resp::encode(command, &mut wire);
        }
        let (answer, replies) = oneshot::channel();
        let call = Call { wire, waiting: Waiting { missing: commands.len(), replies: Vec::new(), answer } };
        let lost = |detail: &str| LinkError::Lost { node: self.address.clone(), detail: detail.into() };
        let sent = async {
            self.queue.send(call).await.map_err(|_| LinkError::Unreachable {
                node: self.address.clone(),
                detail: "the connection was closed".into(),
            })?;
            replies.await.map_err(|_| lost("the connection was closed"))
        };
        timeout(patience, sent).await.unwrap_or_else(|_| Err(lost("timed out")))
    }

    /// Whether the connection still stands, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn shake_hands(stream: TcpStream, address: &Address, files: &TlsFiles) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls(files)?));
    timeout(CONNECT_PATIENCE, connector.connect(name, stream)).await.map_err(io::Error::other)?
}

fn tls(files: &TlsFiles) -> io::Result<ClientConfig> {
    let certificates = |path: &PathBuf| -> io::Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(io::Error::other)
    };
    let (certificate, key) = &files.client;
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(certificates(&files.authority)?);
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted)
        .with_client_auth_cert(certificates(certificate)?, PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?)
        .map_err(io::Error::other)
}

/// Writes calls and hands replies back, until either side closes. Whoever still waits then sees its channel dropped.
async fn carry(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut calls: mpsc::Receiver<Call>,
) {
    let mut unanswered: VecDeque<Waiting> = VecDeque::new();
    let mut batch = Vec::with_capacity(BATCH);
    let mut incoming = Vec::with_capacity(64 * 1024);
    loop {
        // Both branches are safe to cancel: nothing is taken from the queue or the socket until they complete.
        tokio::select! {
            taken = calls.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return;
                }
                let mut wire = Vec::new();
                for call in batch.drain(..) {
                    wire.extend_from_slice(&call.wire);
                    unanswered.push_back(call.waiting);
                }
                if writer.write_all(&wire).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            read = reader.read_buf(&mut incoming) => {
                if !matches!(read, Ok(1..)) || hand_back(&mut incoming, &mut unanswered).is_err() {
                    return;
                }
            }
        }
    }
}

/// Gives every whole reply in `incoming` to whoever waits for it.
fn hand_back(incoming: &mut Vec<u8>, unanswered: &mut VecDeque<Waiting>) -> Result<(), resp::Garbled> {
    let mut read = 0;
    while let Some((reply, length)) = resp::decode(&incoming[read..])? {
        read += length;
        let waiting = unanswered.front_mut().ok_or(resp::Garbled)?;
        waiting.replies.push(reply);
        waiting.missing -= 1;
        if waiting.missing == 0
            && let Some(whole) = unanswered.pop_front()
        {
            // A caller that lost patience is gone: its replies are too.
            let _ = whole.answer.send(whole.replies);
        }
    }
    incoming.drain(..read);
    Ok(())
}
