//! The page for people: files that are part of the program.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::failure;
use super::asked::Path;

/// A file of the page: its name, what it is, and what is in it.
type Asset = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const INDEX: &str = include_str!("page/index.html");
const ASSETS: &[Asset] = &[
    ("page.css", CSS, include_str!("page/page.css")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("icon.svg", PICTURE, include_str!("page/icon.svg")),
];

/// Nothing from elsewhere, nothing inline, in nobody's frame: whatever a policy or a server calls itself, it stays text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) async fn index() -> Response {
    shown(HTML, INDEX)
}

pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => shown(kind, text),
        None => failure(StatusCode::NOT_FOUND, "the page has no such file"),
    }
}

fn shown(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // A new version of the daemon brings a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
