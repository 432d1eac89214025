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
    ("binary.js", SCRIPT, include_str!("page/binary.js")),
    ("colour.js", SCRIPT, include_str!("page/colour.js")),
    ("decisions.js", SCRIPT, include_str!("page/decisions.js")),
    ("heatmap.js", SCRIPT, include_str!("page/heatmap.js")),
    ("icon.svg", PICTURE, include_str!("page/icon.svg")),
    ("live.js", SCRIPT, include_str!("page/live.js")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("nodes.js", SCRIPT, include_str!("page/nodes.js")),
    ("now.js", SCRIPT, include_str!("page/now.js")),
    ("page.css", CSS, include_str!("page/page.css")),
    ("policy.js", SCRIPT, include_str!("page/policy.js")),
    ("slotmap.js", SCRIPT, include_str!("page/slotmap.js")),
    ("text.js", SCRIPT, include_str!("page/text.js")),
    ("words.js", SCRIPT, include_str!("page/words.js")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_told_in_words() {
        let words = include_str!("page/words.js");
        for name in crate::store::Event::NAMES {
            assert!(words.contains(&format!("case \"{name}\":")), "words.js knows nothing of {name}");
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page")).expect("our source");
        let mut files: Vec<String> =
            folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode")).collect();
        files.sort();
        let mut served: Vec<&str> = ASSETS.iter().map(|(name, ..)| *name).chain(["index.html"]).collect();
        served.sort_unstable();
        assert_eq!(files, served);
    }
}
