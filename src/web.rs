//! Asking others over HTTP: one way to make a client.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// A client that goes straight to whom it asks, whatever proxies the environment names: whom we ask is on our own machine or
/// in our own network.
pub fn client() -> ClientBuilder {
    trust_ring();
    // What is said may hold a secret: it goes to nobody else.
    reqwest::Client::builder().no_proxy().redirect(Policy::none())
}

/// The same for a daemon of ours at `url`: without TLS it needs no certificates of the system, of which a small machine has none.
pub fn client_of(url: &str) -> ClientBuilder {
    if url.starts_with("https:") { client() } else { client().tls_certs_only([]) }
}

/// Has TLS use the one provider of cryptography that is linked in.
pub fn trust_ring() {
    // Whoever installs a provider first wins; ours is the only one, so losing is no loss.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
