//! What this machine shows: configuration, policies, state directory, port. Pure.

use std::net::SocketAddr;
use std::path::Path;

use super::here::{Candidate, Directory, Port, TokenFile};
use super::line::{Fix, Line, Topic, names};
use crate::config::{self, ConfigError, Loaded, Origin, Problem};
use crate::model::units::{self, counted};
use crate::policy::Stage;
use crate::telemetry::chain;

/// A configuration that can be used, and what is not wise about it.
pub(super) fn config(path: &Path, loaded: &Loaded) -> Vec<Line> {
    let mut variables: Vec<&str> = Vec::new();
    for setting in &loaded.settings {
        if let Origin::Environment { variable } = &setting.origin
            && !variables.contains(&variable.as_str())
        {
            variables.push(variable);
        }
    }
    let overridden = if variables.is_empty() {
        String::new()
    } else {
        format!(
            "; the environment overrides {}: {}",
            counted(variables.len(), "setting", "settings"),
            names(&variables)
        )
    };
    let mode = loaded.config.mode;
    let mut lines = vec![Line::ok(Topic::Config, format!("{} can be used, mode {mode}{overridden}", path.display()))];
    // The port and TLS have lines of their own.
    let own = loaded.warnings.iter().filter(|warning| !warning.starts_with("http.") && !warning.contains("insecure"));
    lines.extend(own.map(|warning| {
        let (found, fix) = warning.split_once("; ").unwrap_or((warning, "see daemon.toml of the source tree"));
        Line::warn(Topic::Config, found, Fix::of(fix))
    }));
    lines
}

/// Everything that is wrong with a configuration, and that nothing else can be examined.
pub(super) fn unusable(path: &Path, error: &ConfigError) -> Vec<Line> {
    let mut lines: Vec<Line> = match error {
        ConfigError::Unreadable { .. } => vec![Line::fail(
            Topic::Config,
            chain(error),
            Fix::of("--config FILE names another one; daemon.toml of the source tree is one to begin with"),
        )],
        ConfigError::Wrong(problems) => problems.iter().map(wrong).collect(),
    };
    lines.push(Line::skip(
        Topic::Config,
        "the rest was not examined",
        Fix::write("when the configuration can be used:", [format!("ballast doctor --config {}", path.display())]),
    ));
    lines
}

fn wrong(problem: &Problem) -> Line {
    let Problem { place, message, .. } = problem;
    let advice = if place.starts_with("BALLAST_") {
        format!("change the variable {place}, or take it away")
    } else {
        format!("correct it at {place}")
    };
    Line::fail(Topic::Config, message.as_str(), Fix::of(advice))
}

/// The policy that decides, and its shadows.
pub(super) fn policies(loaded: &Result<Vec<Candidate>, String>) -> Vec<Line> {
    match loaded {
        Ok(candidates) => candidates.iter().map(candidate).collect(),
        Err(why) => vec![Line::fail(
            Topic::Policy,
            format!("policies cannot be run here: {why}"),
            Fix::of("correct [policy], or run Ballast on another machine"),
        )],
    }
}

fn candidate(candidate: &Candidate) -> Line {
    let Candidate { shadow, source, outcome } = candidate;
    let whose = shadow.as_ref().map_or("decides".to_owned(), |name| format!("is asked as shadow {name}"));
    match outcome {
        Ok(id) => {
            Line::ok(Topic::Policy, format!("{} {} {whose}, from {source}, sha256:{}", id.name, id.version, id.digest))
        }
        Err(failure) => {
            let section = if shadow.is_some() { "[[shadow]]" } else { "[policy]" };
            let mut fix = Fix::of(failure.next_step.clone());
            if let (Stage::Pin, Some(digest)) = (failure.stage, &failure.digest) {
                fix = Fix::write(
                    format!("{}; or, if this file is meant, under {section}:", failure.next_step),
                    [format!("sha256 = \"{digest}\"")],
                );
            }
            let found = format!("{source}, which {whose}, is refused at stage {}: {}", failure.stage, failure.reason);
            // A shadow that does not load keeps nobody from working.
            if shadow.is_some() { Line::warn(Topic::Policy, found, fix) } else { Line::fail(Topic::Policy, found, fix) }
        }
    }
}

/// What a full history takes with the default `keep_snapshots`, and some to spare: a snapshot is about 1 MB.
const SPACE_WARN: u64 = 512 << 20;
/// The journal itself must have room: nothing moves that was not written down first.
const SPACE_FAIL: u64 = 16 << 20;

/// The state directory; whoever answers on our port holds it by right.
pub(super) fn state(seen: &Directory, port: &Port) -> Vec<Line> {
    let path = seen.path.display();
    if let Some(refusal) = &seen.refusal {
        let what = if seen.exists { "written" } else { "made" };
        let owner = seen.stranger.as_ref().map(|owner| format!(", which is {owner}'s")).unwrap_or_default();
        return vec![Line::fail(
            Topic::State,
            format!("{path}{owner} cannot be {what} by {}: {refusal}", seen.us),
            Fix::write(
                "give it to the user that the daemon runs as; or set another one under [state]:",
                ["directory = \"/var/lib/ballast\""],
            ),
        )];
    }
    let mut lines = Vec::new();
    let space = seen.free_bytes.map(|bytes| format!(", {} free", units::size::format(bytes))).unwrap_or_default();
    let can = if seen.exists { "can be written" } else { "can be made" };
    match &seen.holder {
        None => lines.push(Line::ok(Topic::State, format!("{path} {can}{space}"))),
        Some(holder) => {
            let program = holder.program.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let found = format!("{path} is in use by process {}{program}{space}", holder.pid);
            if matches!(port, Port::Ours { .. } | Port::Guarded(_)) {
                lines.push(Line::ok(Topic::State, format!("{found}: the daemon that answers on http.listen")));
            } else {
                lines.push(Line::warn(
                    Topic::State,
                    format!("{found}: no other daemon can start on it"),
                    Fix::write(
                        "stop that process, or give this daemon another directory, under [state]:",
                        [format!("directory = \"{path}-2\"")],
                    ),
                ));
            }
        }
    }
    if let Some(owner) = &seen.stranger {
        lines.push(Line::warn(
            Topic::State,
            format!("{path} is {owner}'s, and we are {}", seen.us),
            Fix::write(
                "a daemon of another user may not be able to write it; look as the one that it runs as:",
                [format!("sudo -u {owner} ballast doctor")],
            ),
        ));
    }
    if let Some(free) = seen.free_bytes.filter(|free| *free < SPACE_WARN) {
        let found = format!("only {} free for {path}", units::size::format(free));
        let fix = Fix::write("make room, or keep less history, under [state]:", ["keep_snapshots = 10"]);
        lines.push(if free < SPACE_FAIL {
            Line::fail(Topic::State, found, fix)
        } else {
            Line::warn(Topic::State, found, fix)
        });
    }
    lines
}

/// Where the daemon is to listen, and whether whoever looks has to show a token.
pub(super) fn http(port: &Port, guarded: bool) -> Vec<Line> {
    let other = || {
        Fix::write(
            "stop what listens there ('ss -ltnp' names it), or set another one under [http]:",
            ["listen = \"127.0.0.1:9900\""],
        )
    };
    let (line, at) = match port {
        Port::Off => return vec![Line::ok(Topic::Http, "off: no metrics, no API, no ballast status")],
        Port::Free(at) => (Line::ok(Topic::Http, format!("{at} is free")), at),
        Port::Ours { at, cluster, mode, version } => {
            let found = format!("a Ballast {version} answers on {at} already: cluster {cluster}, mode {mode}");
            (Line::ok(Topic::Http, found), at)
        }
        Port::Guarded(at) => {
            (Line::ok(Topic::Http, format!("a Ballast answers on {at} already, and asks for a token")), at)
        }
        Port::Taken(at) => (Line::fail(Topic::Http, format!("{at} is taken, and not by a Ballast"), other()), at),
        Port::Refused(at, why) => (Line::fail(Topic::Http, format!("{at} cannot be listened on: {why}"), other()), at),
    };
    std::iter::once(line).chain(open_to_others(at).filter(|_| !guarded)).collect()
}

/// Files of tokens, by the keys under which they are configured: who reads nothing in them lets nobody in.
pub(super) fn tokens(files: &[(&'static str, TokenFile)]) -> Vec<Line> {
    files.iter().flat_map(|(key, file)| of_tokens(key, file)).collect()
}

fn of_tokens(key: &str, file: &TokenFile) -> Vec<Line> {
    let path = file.path.display();
    let text = match &file.text {
        Ok(text) => text,
        Err(why) => {
            let advice = "let the user that the daemon runs as read it, and nobody else:";
            let fix = Fix::write(advice, [format!("install -m 0640 -g ballast tokens {path}")]);
            return vec![Line::fail(Topic::Http, format!("{key} {path} cannot be read: {why}"), fix)];
        }
    };
    let (sound, short) = (config::tokens(text).count(), config::short_tokens(text));
    let one = || {
        Fix::write(
            format!("a token has at least {} characters, such as", config::TOKEN_LENGTH_MIN),
            ["openssl rand -hex 16"],
        )
    };
    let mut lines = Vec::new();
    if sound == 0 {
        lines.push(Line::fail(Topic::Http, format!("{key} {path} has no token that lets anybody in"), one()));
    } else {
        lines.push(Line::ok(Topic::Http, format!("{key} {path} lets in {sound} by their token")));
    }
    if short > 0 && sound > 0 {
        lines.push(Line::warn(
            Topic::Http,
            format!("{short} lines of {path} let nobody in: their token is too short"),
            one(),
        ));
    }
    if file.is_everybody_s {
        let fix = Fix::write("keep it from the others on this machine:", [format!("chmod o-rwx {path}")]);
        lines.push(Line::warn(Topic::Http, format!("{path} can be read by every user of this machine"), fix));
    }
    lines
}

fn open_to_others(at: &SocketAddr) -> Option<Line> {
    (!at.ip().is_loopback()).then(|| {
        Line::warn(
            Topic::Http,
            format!("{at} is open to other machines: whoever reaches it reads metrics, plans and addresses"),
            Fix::write(
                "ask for a token with viewers_file, keep others out with a firewall, or listen on this machine alone, under [http]:",
                [format!("listen = \"127.0.0.1:{}\"", at.port())],
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;
    use crate::config::read;
    use crate::model::PolicyId;
    use crate::policy::LoadFailure;

    const MINIMAL: &str = "[cluster]\nseeds = [\"h:1\"]\n";

    fn verdicts(lines: &[Line]) -> Vec<Verdict> {
        lines.iter().map(|line| line.verdict).collect()
    }

    #[test]
    fn overrides_are_named_and_what_is_not_wise_is_a_warning() {
        let variables = [("BALLAST_MODE", "auto"), ("BALLAST_LIMITS__MIN_GAIN", "0.5")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = format!("{MINIMAL}password = \"hunter2\"\n[http]\nlisten = \"0.0.0.0:9899\"\n");
        let lines = config(Path::new("d.toml"), &read(&text, None, variables).expect("accepted"));
        assert_eq!(verdicts(&lines), [Verdict::Ok, Verdict::Warn], "{lines:?}");
        assert_eq!(
            lines[0].found,
            "d.toml can be used, mode auto; the environment overrides 2 settings: BALLAST_LIMITS__MIN_GAIN, BALLAST_MODE"
        );
        assert!(lines[1].fix.as_ref().is_some_and(|fix| fix.advice.contains("cluster.password_file")), "{lines:?}");
    }

    #[test]
    fn every_mistake_has_a_line_with_its_place() {
        let text = "[limits]\nmemory_margin = 7\n[http]\nlisten = \"here\"\n";
        let variables = [("BALLAST_LIMITS__MIN_GAIN".to_owned(), "99".to_owned())];
        let error = read(text, Some(Path::new("d.toml")), variables).expect_err("wrong");
        let lines = unusable(Path::new("d.toml"), &error);
        assert_eq!(verdicts(&lines), [Verdict::Fail, Verdict::Fail, Verdict::Fail, Verdict::Fail, Verdict::Skip]);
        let told = |words: &str, advice: &str| {
            lines.iter().any(|line| {
                line.found.contains(words) && line.fix.as_ref().is_some_and(|fix| fix.advice.contains(advice))
            })
        };
        assert!(told("limits.memory_margin: 7 is out of range", "d.toml:2:17"), "{lines:?}");
        assert!(told("http.listen", "d.toml:4:10") && told("cluster.seeds", "d.toml"), "{lines:?}");
        assert!(told("limits.min_gain", "variable BALLAST_LIMITS__MIN_GAIN"), "{lines:?}");
    }

    #[test]
    fn policies_are_named_by_version_and_digest_and_a_refusal_by_its_stage() {
        let id = PolicyId { name: "mine".into(), version: "1.2".into(), digest: "ab".repeat(32) };
        let failure = |stage| LoadFailure {
            policy: "p".into(),
            digest: Some("cd".repeat(32)),
            stage,
            reason: "not the one".into(),
            next_step: "look".into(),
            unfinished: false,
        };
        let of = |shadow: Option<&str>, outcome| Candidate {
            shadow: shadow.map(str::to_owned),
            source: "'p.wasm'".into(),
            outcome,
        };
        let lines = policies(&Ok(vec![of(None, Ok(id.clone())), of(Some("next"), Ok(id))]));
        assert_eq!(lines[0].found, format!("mine 1.2 decides, from 'p.wasm', sha256:{}", "ab".repeat(32)));
        assert!(lines[1].found.contains("as shadow next"), "{lines:?}");
        let lines =
            policies(&Ok(vec![of(None, Err(failure(Stage::Pin))), of(Some("next"), Err(failure(Stage::Compile)))]));
        assert_eq!(verdicts(&lines), [Verdict::Fail, Verdict::Warn]);
        assert!(lines[0].found.contains("refused at stage pin: not the one"), "{lines:?}");
        assert_eq!(lines[0].fix.as_ref().expect("a fix").write, [format!("sha256 = \"{}\"", "cd".repeat(32))]);
        assert_eq!(verdicts(&policies(&Err("no".into()))), [Verdict::Fail]);
    }

    #[test]
    fn a_file_of_tokens_lets_somebody_in_or_says_why_not() {
        let file = |text: Result<&str, &str>, is_everybody_s| TokenFile {
            path: "/etc/ballast/operators".into(),
            text: text.map(str::to_owned).map_err(str::to_owned),
            is_everybody_s,
        };
        let told = |file| tokens(&[("http.operators_file", file)]);
        let fine = told(file(Ok("# ours\n0123456789abcdef ann\n"), false));
        assert_eq!(fine[0].found, "http.operators_file /etc/ballast/operators lets in 1 by their token");
        assert_eq!(verdicts(&fine), [Verdict::Ok]);
        assert_eq!(
            verdicts(&told(file(Ok("0123456789abcdef ann\nshort bob\n"), true))),
            [Verdict::Ok, Verdict::Warn, Verdict::Warn]
        );
        assert_eq!(verdicts(&told(file(Ok("short bob\n"), false))), [Verdict::Fail]);
        let lost = told(file(Err("No such file or directory"), false));
        assert!(verdicts(&lost) == [Verdict::Fail] && lost[0].found.ends_with("No such file or directory"), "{lost:?}");
    }

    fn usable() -> Directory {
        Directory {
            path: "/var/lib/ballast".into(),
            exists: true,
            refusal: None,
            stranger: None,
            us: "ann".into(),
            free_bytes: Some(10 << 30),
            holder: None,
        }
    }

    fn ours() -> Port {
        let text = str::to_owned;
        Port::Ours { at: local(), cluster: text("c"), mode: text("auto"), version: text("1") }
    }

    fn local() -> SocketAddr {
        "127.0.0.1:9899".parse().expect("an address")
    }

    #[test]
    fn a_state_directory_is_fit_or_says_why_not() {
        let free = Port::Free(local());
        let told = |seen: Directory| state(&seen, &free);
        assert_eq!(told(usable())[0].found, "/var/lib/ballast can be written, 10GiB free");
        assert!(told(Directory { exists: false, ..usable() })[0].found.contains("can be made"));
        let refused = told(Directory { refusal: Some("/var/lib: Permission denied".into()), ..usable() });
        assert_eq!(verdicts(&refused), [Verdict::Fail]);
        let strange = told(Directory { stranger: Some("bob".into()), ..usable() });
        assert_eq!(verdicts(&strange), [Verdict::Ok, Verdict::Warn]);
        for (bytes, verdict) in [(SPACE_WARN - 1, Verdict::Warn), (SPACE_FAIL - 1, Verdict::Fail)] {
            assert_eq!(verdicts(&told(Directory { free_bytes: Some(bytes), ..usable() })), [Verdict::Ok, verdict]);
        }
    }

    #[test]
    fn a_state_directory_in_use_is_well_when_its_daemon_answers() {
        use super::super::here::Holder;
        let holder = Holder { pid: "4711".into(), program: Some("ballast".into()) };
        let held = Directory { holder: Some(holder), ..usable() };
        assert_eq!(verdicts(&state(&held, &ours())), [Verdict::Ok]);
        let lines = state(&held, &Port::Free(local()));
        assert_eq!(verdicts(&lines), [Verdict::Warn]);
        assert!(lines[0].found.contains("in use by process 4711 (ballast)"), "{lines:?}");
    }

    #[test]
    fn a_port_is_free_or_ours_or_a_failure_and_a_warning_when_others_reach_it() {
        assert_eq!(verdicts(&http(&Port::Off, false)), [Verdict::Ok]);
        assert_eq!(verdicts(&http(&Port::Free(local()), false)), [Verdict::Ok]);
        assert_eq!(
            http(&ours(), false)[0].found,
            "a Ballast 1 answers on 127.0.0.1:9899 already: cluster c, mode auto"
        );
        assert_eq!(verdicts(&http(&Port::Guarded(local()), true)), [Verdict::Ok]);
        assert_eq!(verdicts(&http(&Port::Taken(local()), false)), [Verdict::Fail]);
        assert_eq!(verdicts(&http(&Port::Refused(local(), "no".into()), false)), [Verdict::Fail]);
        let open = http(&Port::Free("0.0.0.0:9899".parse().expect("an address")), false);
        assert_eq!(verdicts(&open), [Verdict::Ok, Verdict::Warn]);
    }
}
