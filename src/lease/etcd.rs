//! What we say to etcd, by its JSON gateway: part of every etcd since 3.3, and five calls are all we need.
//!
//! Keys and values travel in base64 and numbers as text, as etcd's API reference has it (`/v3/kv/txn`, `/v3/lease/*`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Settings, Times};
use crate::cluster::live::Password;
use crate::telemetry::chain;
use crate::web;

/// Why etcd gave no answer, for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EtcdError {
    /// No member answered, or none that could.
    #[error("etcd does not answer: {0}")]
    Silent(String),
    /// It refused.
    #[error("etcd refuses: {0}")]
    Refused(String),
    /// What is configured cannot be used.
    #[error("{0}")]
    Settings(String),
}

/// Connections to etcd's members.
pub(super) struct Etcd {
    client: Client,
    endpoints: Vec<String>,
    /// The endpoint that answered last.
    at: AtomicUsize,
    login: Option<(String, Password)>,
    token: Mutex<Option<String>>,
}

/// A key that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    /// The change that made it.
    pub(super) created: i64,
    /// The lease that it goes away with, or 0.
    pub(super) lease: i64,
}

/// One part of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Put(String, String),
    Delete(String),
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl: i64,
}

#[derive(Deserialize)]
struct Renewed {
    result: Granted,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default, deserialize_with = "number")]
    create_revision: i64,
    #[serde(default, deserialize_with = "number")]
    lease: i64,
}

#[derive(Deserialize)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: i64,
}

#[derive(Deserialize)]
struct Done {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    response_range: Option<Found>,
}

/// etcd writes 64-bit numbers as text, since JSON's are doubles.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn decoded(text: &str) -> Result<String, EtcdError> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| EtcdError::Refused(chain(&error)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Etcd {
    pub(super) fn new(settings: &Settings) -> Result<Self, EtcdError> {
        let file = |path: &std::path::Path| {
            std::fs::read(path).map_err(|cause| EtcdError::Settings(format!("{}: {cause}", path.display())))
        };
        let unusable = |error: reqwest::Error| EtcdError::Settings(chain(&error));
        // So that three members can be tried within the time between two renewals.
        let patience = (Times::of(settings.ttl).renew / 3).max(Duration::from_millis(200));
        let mut builder = web::client().timeout(patience);
        if let Some(path) = &settings.ca_file {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&file(path)?).map_err(unusable)?);
        }
        if let Some((certificate, key)) = &settings.client {
            let mut pem = file(certificate)?;
            pem.extend(file(key)?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(unusable)?);
        }
        let login = settings.user.clone().map(|user| (user, settings.password.clone()));
        let endpoints = settings.endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let client = builder.build().map_err(unusable)?;
        Ok(Self { client, endpoints, at: AtomicUsize::new(0), login, token: Mutex::default() })
    }

    /// A new lease, and for how long it is given.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), EtcdError> {
        let wanted = ttl.as_secs().max(1).to_string();
        let Granted { id, ttl } = self.say("lease/grant", &json!({ "TTL": wanted, "ID": "0" })).await?;
        Ok((id, Duration::from_secs(u64::try_from(ttl).unwrap_or(0))))
    }

    /// Renews a lease; whether it was still held.
    pub(super) async fn renew(&self, lease: i64) -> Result<bool, EtcdError> {
        let Renewed { result } = self.say("lease/keepalive", &json!({ "ID": lease.to_string() })).await?;
        Ok(result.ttl > 0)
    }

    /// Gives a lease back; its keys go with it.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let _: Value = self.say("lease/revoke", &json!({ "ID": lease.to_string() })).await?;
        Ok(())
    }

    /// Makes `key` with `value` for as long as `lease` is held, unless it is there. What it is then: made by us when its lease
    /// is ours, even if the answer to an earlier attempt was lost.
    pub(super) async fn claim(&self, key: &str, value: &str, lease: i64) -> Result<Entry, EtcdError> {
        let name = encoded(key);
        let put = json!({ "key": name, "value": encoded(value), "lease": lease.to_string() });
        let transaction = json!({
            "compare": [{ "key": name, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [{ "request_put": put }],
            "failure": [{ "request_range": { "key": name } }],
        });
        let done: Done = self.say("kv/txn", &transaction).await?;
        if done.succeeded {
            let (key, value) = (key.to_owned(), value.to_owned());
            return Ok(Entry { key, value, created: done.header.revision, lease });
        }
        let found = done.responses.into_iter().find_map(|response| response.response_range);
        let pair = found.and_then(|found| found.kvs.into_iter().next());
        entry(pair.ok_or_else(|| EtcdError::Refused(format!("{key} is neither there nor free")))?)
    }

    /// Everything whose key begins with `prefix`, by key.
    pub(super) async fn all(&self, prefix: &str) -> Result<Vec<Entry>, EtcdError> {
        let mut end = prefix.as_bytes().to_vec();
        // The key after all of theirs: the last letter of ours is never the last of all.
        *end.last_mut().expect("a prefix is not empty") += 1;
        let range = json!({ "key": encoded(prefix), "range_end": BASE64_STANDARD.encode(end) });
        let found: Found = self.say("kv/range", &range).await?;
        found.kvs.into_iter().map(entry).collect()
    }

    /// Makes all `changes`, or none, if `key` is still the one that was `created` by that change. Whether it was.
    pub(super) async fn change(&self, (key, created): (&str, i64), changes: &[Change]) -> Result<bool, EtcdError> {
        let operations: Vec<Value> = changes
            .iter()
            .map(|change| match change {
                Change::Put(key, value) => json!({ "request_put": { "key": encoded(key), "value": encoded(value) } }),
                Change::Delete(key) => json!({ "request_delete_range": { "key": encoded(key) } }),
            })
            .collect();
        let still = json!({ "key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": created.to_string() });
        let done: Done = self.say("kv/txn", &json!({ "compare": [still], "success": operations })).await?;
        Ok(done.succeeded)
    }

    /// Asks the member that answered last, then the others.
    async fn say<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T, EtcdError> {
        let first = self.at.load(Ordering::Relaxed);
        let mut silence = Vec::new();
        for turn in 0..self.endpoints.len() {
            let place = (first + turn) % self.endpoints.len();
            let endpoint = &self.endpoints[place];
            match self.say_to(endpoint, call, body).await {
                Err(EtcdError::Silent(why)) => silence.push(format!("{endpoint}: {why}")),
                answer => {
                    self.at.store(place, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(EtcdError::Silent(silence.join("; ")))
    }

    async fn say_to<T: DeserializeOwned>(&self, endpoint: &str, call: &str, body: &Value) -> Result<T, EtcdError> {
        if self.login.is_some() && self.held_token().is_none() {
            self.log_in(endpoint).await?;
        }
        match self.post(endpoint, call, body).await {
            // Tokens end by themselves.
            Err(EtcdError::Refused(why))
                if self.login.is_some()
                    && ["invalid auth token", "revision of auth store is old"]
                        .iter()
                        .any(|stale| why.contains(stale)) =>
            {
                self.log_in(endpoint).await?;
                self.post(endpoint, call, body).await
            }
            answer => answer,
        }
    }

    async fn log_in(&self, endpoint: &str) -> Result<(), EtcdError> {
        #[derive(Deserialize)]
        struct Welcome {
            token: String,
        }
        let Some((user, password)) = &self.login else { return Ok(()) };
        let password = password.read().map_err(|error| EtcdError::Settings(chain(&error)))?;
        let password = password.as_ref().map_or("", |password| password.reveal());
        self.held_token().take();
        let body = json!({ "name": user, "password": password });
        let Welcome { token } = self.post(endpoint, "auth/authenticate", &body).await?;
        *self.held_token() = Some(token);
        Ok(())
    }

    fn held_token(&self) -> MutexGuard<'_, Option<String>> {
        // It is replaced whole, so a panic elsewhere does not spoil it.
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post<T: DeserializeOwned>(&self, endpoint: &str, call: &str, body: &Value) -> Result<T, EtcdError> {
        let mut request = self.client.post(format!("{endpoint}/v3/{call}")).json(body);
        let token = self.held_token().clone();
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        // Errors of the client name the address, which the caller names as well, but never the body.
        let silent = |error: reqwest::Error| EtcdError::Silent(chain(&error.without_url()));
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let text = response.text().await.map_err(silent)?;
        if !status.is_success() {
            let why = format!("{call}: {} {}", status.as_u16(), text.trim());
            // A member without a majority says "no leader" or "request timed out": another one may know better.
            let another = status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::GATEWAY_TIMEOUT;
            return Err(if another { EtcdError::Silent(why) } else { EtcdError::Refused(why) });
        }
        serde_json::from_str(&text).map_err(|error| EtcdError::Refused(format!("{call}: {error} in {text:.200}")))
    }
}

fn entry(pair: Pair) -> Result<Entry, EtcdError> {
    let (key, value) = (decoded(&pair.key)?, decoded(&pair.value)?);
    Ok(Entry { key, value, created: pair.create_revision, lease: pair.lease })
}
