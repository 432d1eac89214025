//! Who may look, and who may give commands.
//!
//! Over the network everybody may look who reaches the port, and nobody may do more: a plain POST is sent wherever any web page
//! asks a browser to. What changes something is taken on the Unix socket, whose file says who may write to it, or with a token.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::Faces;
use super::answer::{document, failure};
use crate::config::tokens;

/// By what way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Network,
    Socket,
}

/// What whoever asks may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    Viewer,
    Operator,
}

/// Lets those pass who may look.
pub(super) async fn looks(
    way: Extension<Way>,
    State(faces): State<Arc<Faces>>,
    request: Request,
    next: Next,
) -> Response {
    match role(*way, request.headers(), &faces).await {
        Ok(_) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Lets those pass who may give commands.
pub(super) async fn commands(
    way: Extension<Way>,
    State(faces): State<Arc<Faces>>,
    request: Request,
    next: Next,
) -> Response {
    match role(*way, request.headers(), &faces).await {
        Ok(Role::Operator) => next.run(request).await,
        Ok(Role::Viewer) => {
            let socket = faces.http.socket.as_ref();
            let socket = socket.map_or_else(String::new, |path| format!(" on the Unix socket {} or", path.display()));
            let why = format!("commands are taken{socket} with a token of http.operators_file");
            // Whoever showed nothing may have something to show (RFC 9110, 15.5.2).
            let shown = request.headers().contains_key(header::AUTHORIZATION);
            if shown { failure(StatusCode::FORBIDDEN, why) } else { unknown(&why) }
        }
        Err(refusal) => refusal,
    }
}

#[derive(Serialize)]
struct Access<'a> {
    role: Role,
    /// Where commands are taken without a token.
    socket: Option<&'a Path>,
    /// The same by whatever way this daemon is asked, and another one after it was started anew.
    instance: &'a str,
}

/// What whoever asks may do here, and where commands are taken.
pub(super) async fn access(way: Extension<Way>, State(faces): State<Arc<Faces>>, headers: HeaderMap) -> Response {
    match role(*way, &headers, &faces).await {
        Ok(role) => {
            document("Access", Access { role, socket: faces.http.socket.as_deref(), instance: &faces.instance })
        }
        Err(refusal) => refusal,
    }
}

/// What whoever asks may do; a refusal says why nothing.
pub(super) async fn role(way: Way, headers: &HeaderMap, faces: &Faces) -> Result<Role, Response> {
    if way == Way::Socket {
        return Ok(Role::Operator);
    }
    // Another scheme is the business of whoever stands between.
    let Some(token) = headers.get(header::AUTHORIZATION).and_then(bearer) else {
        return match &faces.http.viewers_file {
            Some(_) => Err(unknown("show a token: 'Authorization: Bearer TOKEN'")),
            None if stays_at_home(faces.http.listen) && !is_local(headers.get(header::HOST)) => {
                let why = "ask for 127.0.0.1 or localhost, or pass that on as Host: any name could be another page's; with \
                           http.viewers_file, tokens are asked for instead";
                Err(failure(StatusCode::MISDIRECTED_REQUEST, why))
            }
            None => Ok(Role::Viewer),
        };
    };
    for (file, role) in [(&faces.http.operators_file, Role::Operator), (&faces.http.viewers_file, Role::Viewer)] {
        if let Some(path) = file
            && holds(path, token).await
        {
            return Ok(role);
        }
    }
    Err(unknown("the token is not known"))
}

/// Whether only this machine reaches us: then so do the pages that its browsers show.
fn stays_at_home(listen: Option<SocketAddr>) -> bool {
    listen.is_some_and(|listen| listen.ip().is_loopback())
}

/// Whether a request is addressed to this machine as such. A page may give its own name any address, ours too, and its browser takes
/// our answers for the page's then.
fn is_local(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unknown(why: &str) -> Response {
    let mut refusal = failure(StatusCode::UNAUTHORIZED, why);
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// Whether the file has the token; it is read each time, so that tokens come and go without a reload.
async fn holds(path: &Path, token: &str) -> bool {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => is_among(&text, token),
        Err(error) => {
            warn!(file = %path.display(), %error, "tokens cannot be read: nobody is let in by them");
            false
        }
    }
}

/// Digests are compared: how far two of them agree says nothing of the token.
fn is_among(text: &str, token: &str) -> bool {
    let digest = |token: &str| Sha256::digest(token.as_bytes());
    let shown = digest(token);
    tokens(text).fold(false, |found, known| found | (digest(known) == shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_line_s_first_word() {
        let text = "# ours\n0123456789abcdef ann\n\nshort bob\n  fedcba9876543210\n";
        let found = |token| is_among(text, token);
        assert!(found("0123456789abcdef") && found("fedcba9876543210"));
        assert!(!found("short") && !found("") && !found("ann") && !found("#") && !found("0123456789abcde"));
    }

    #[test]
    fn whoever_asks_for_this_machine_asks_for_no_other_name() {
        let local = |host: &'static str| is_local(Some(&HeaderValue::from_static(host)));
        assert!(is_local(None), "no browser leaves it out");
        assert!(
            local("127.0.0.1:9899")
                && local("localhost:9899")
                && local("LOCALHOST")
                && local("[::1]:9899")
                && local("10.0.0.7")
        );
        assert!(!local("ballast.example:9899") && !local("localhost.example") && !local("") && !local("a b"));
    }

    #[test]
    fn a_bearer_s_token_is_read_from_its_header() {
        let read = |text| bearer(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(read("Bearer abc"), Some("abc".into()));
        assert_eq!(read("bearer  abc "), Some("abc".into()));
        assert_eq!((read("Basic abc"), read("abc")), (None, None));
    }
}
