//! Speaks to real servers: the only user of the redis crate.
//!
//! One multiplexed connection per node and lane, made at first use and dropped at the first sign of trouble, so that
//! the next call starts afresh. What was asked, and why, this module does not know.

mod access;
mod url;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{IntoConnectionInfo, RedisError, Value};
use tokio::sync::OnceCell;

use super::{Cluster, Command, Lane, LinkError, Reply, ServerError};
use crate::model::Address;
pub use access::{Access, AccessError, Password, Secret, Tls};
pub use url::{InvalidUrl, Url};

/// How long making a connection may take, name look-up, TLS and log-in included. A node of the same cluster answers
/// in milliseconds; five seconds cover a lost SYN with two repeats.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Real servers, reached over TCP or TLS.
#[derive(Debug)]
pub struct LiveCluster {
    access: Access,
    connect_timeout: Duration,
    /// Where nodes are reached from here that announce other addresses.
    announce_map: BTreeMap<Address, Address>,
    links: Mutex<HashMap<(Address, Lane), Arc<Link>>>,
}

/// One connection, made by whoever uses it first.
#[derive(Default)]
struct Link(OnceCell<MultiplexedConnection>);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.initialized() { "Link(open)" } else { "Link(closed)" })
    }
}

impl LiveCluster {
    /// Reaches nodes as `access` says. Nothing is connected yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        crate::web::trust_ring();
        Self { access, connect_timeout: CONNECT_TIMEOUT, announce_map: BTreeMap::new(), links: Mutex::default() }
    }

    /// The same with another limit on making a connection.
    #[must_use]
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// The same, reaching nodes that announce an address which is none from here at another one.
    #[must_use]
    pub fn with_announce_map(self, announce_map: BTreeMap<Address, Address>) -> Self {
        Self { announce_map, ..self }
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<(Address, Lane), Arc<Link>>> {
        // The map is valid between any two operations, so a panic elsewhere does not spoil it.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, node: &Address, lane: Lane) -> Arc<Link> {
        self.links().entry((node.clone(), lane)).or_default().clone()
    }

    /// Forgets a connection that failed, unless somebody has replaced it already.
    fn forget(&self, node: &Address, lane: Lane, link: &Arc<Link>) {
        let mut links = self.links();
        let key = (node.clone(), lane);
        if links.get(&key).is_some_and(|current| Arc::ptr_eq(current, link)) {
            links.remove(&key);
        }
    }

    /// Cancelled inside, this leaves an empty link that the next caller fills.
    async fn connect(&self, node: &Address, patience: Duration) -> Result<MultiplexedConnection, LinkError> {
        let client = self.client(node).map_err(|detail| LinkError::Refused { node: node.clone(), detail })?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout.min(patience)))
            .set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| not_connected(node, &error))
    }

    /// Passwords and certificates are read anew for each connection, so that rotating them needs no restart.
    fn client(&self, node: &Address) -> Result<redis::Client, String> {
        let mut redis = redis::RedisConnectionInfo::default()
            .set_protocol(redis::ProtocolVersion::RESP2)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.access.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = self.access.password.read().map_err(|error| error.to_string())? {
            redis = redis.set_password(password.reveal());
        }
        let node = self.announce_map.get(node).unwrap_or(node);
        let host = node.host.clone();
        let address = match &self.access.tls {
            None => redis::ConnectionAddr::Tcp(host, node.port),
            Some(tls) => {
                redis::ConnectionAddr::TcpTls { host, port: node.port, insecure: tls.insecure, tls_params: None }
            }
        };
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = address
            .into_connection_info()
            .map_err(|error| error.to_string())?
            .set_redis_settings(redis)
            .set_tcp_settings(tcp);
        match &self.access.tls {
            None => redis::Client::open(info),
            Some(tls) => redis::Client::build_with_tls(info, tls.certificates().map_err(|error| error.to_string())?),
        }
        .map_err(|error| error.to_string())
    }

    async fn exchange(
        &self,
        node: &Address,
        lane: Lane,
        commands: &[Command],
        patience: Duration,
    ) -> Result<Vec<Reply>, LinkError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let link = self.link(node, lane);
        // Up to here, and while connecting, nothing has been said: errors are `Unreachable` or `Refused`.
        let mut connection = link.0.get_or_try_init(|| self.connect(node, patience)).await?.clone();
        connection.set_response_timeout(patience);

        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        for command in commands {
            let mut words = redis::Cmd::new();
            for word in command.words() {
                words.arg(word);
            }
            pipeline.add_command(words);
        }
        // The commands of one call go out as one message, so no other caller's commands get between them.
        match connection.send_packed_commands(&pipeline, 0, commands.len()).await {
            Ok(values) => refuse_strangers(node, values.into_iter().map(reply).collect()),
            Err(error) => {
                self.forget(node, lane, &link);
                let detail = if error.is_timeout() {
                    format!("nothing within {} ms", patience.as_millis())
                } else {
                    error.to_string()
                };
                Err(LinkError::Lost { node: node.clone(), detail })
            }
        }
    }
}

impl Cluster for LiveCluster {
    fn call<'a>(
        &'a self,
        node: &'a Address,
        lane: Lane,
        commands: &'a [Command],
        patience: Duration,
    ) -> BoxFuture<'a, Result<Vec<Reply>, LinkError>> {
        self.exchange(node, lane, commands, patience).boxed()
    }

    fn credentials(&self) -> Option<(Option<String>, String)> {
        // A password that cannot be read now fails the next connection with its reason; MIGRATE then says NOAUTH.
        let password = self.access.password.read().ok().flatten()?;
        Some((self.access.user.clone(), password.reveal().to_owned()))
    }
}

/// Why there is no connection: the way to the node is closed, or the node does not want us.
fn not_connected(node: &Address, error: &RedisError) -> LinkError {
    // A TLS handshake fails as an I/O error of invalid data; all other I/O errors are the network's. The crate hands
    // out its cause within the `Arc` that it keeps it in.
    let cause = error.source().and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let handshake = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData);
    let (node, detail) = (node.clone(), error.to_string());
    if error.is_io_error() && !handshake {
        LinkError::Unreachable { node, detail }
    } else {
        LinkError::Refused { node, detail }
    }
}

/// A server that wants a password answers every command with `NOAUTH`, and has executed none.
fn refuse_strangers(node: &Address, replies: Vec<Reply>) -> Result<Vec<Reply>, LinkError> {
    match replies.first() {
        Some(Reply::Error(error)) if error.code == "NOAUTH" => {
            Err(LinkError::Refused { node: node.clone(), detail: error.to_string() })
        }
        _ => Ok(replies),
    }
}

/// The crate's value as ours. RESP2 has the first five kinds only; the others are told as RESP2 would.
fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bytes(bytes),
        Value::SimpleString(text) => Reply::Bytes(text.into_bytes()),
        Value::Okay => Reply::Bytes(b"OK".to_vec()),
        Value::Array(items) | Value::Set(items) | Value::Push { data: items, .. } => {
            Reply::List(items.into_iter().map(reply).collect())
        }
        Value::Map(pairs) => {
            Reply::List(pairs.into_iter().flat_map(|(key, value)| [reply(key), reply(value)]).collect())
        }
        Value::Attribute { data, .. } => reply(*data),
        Value::Double(number) => Reply::Bytes(number.to_string().into_bytes()),
        Value::Boolean(truth) => Reply::Int(truth.into()),
        Value::VerbatimString { text, .. } => Reply::Bytes(text.into_bytes()),
        Value::BigNumber(digits) => Reply::Bytes(digits),
        Value::ServerError(error) => Reply::Error(ServerError {
            code: error.code().to_owned(),
            message: error.details().unwrap_or_default().to_owned(),
        }),
        other => Reply::Bytes(format!("{other:?}").into_bytes()),
    }
}
