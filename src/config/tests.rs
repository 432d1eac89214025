//! What an operator sees: precedence, errors with their place, and that `daemon.toml` says everything.

use super::*;
use crate::cluster::live::{Password, Secret};

const MINIMAL: &str = "[cluster]\nseeds = [\"redis://127.0.0.1:7000\"]\n";
const COMMITTED: &str = include_str!("../../daemon.toml");

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read(text, Some(Path::new("/etc/ballast/daemon.toml")), variables)
}

fn config(text: &str) -> Config {
    read_with(text, &[]).unwrap_or_else(|error| panic!("{error}")).config
}

/// The error's text, which must hold all of `words`.
fn refuses(text: &str, variables: &[(&str, &str)], words: &[&str]) -> String {
    let error = read_with(text, variables).expect_err("is wrong").to_string();
    for word in words {
        assert!(error.contains(word), "'{word}' is missing in:\n{error}");
    }
    error
}

#[test]
fn a_seed_is_all_that_must_be_said() {
    let config = config(MINIMAL);
    assert_eq!(config.mode, Mode::DryRun);
    assert_eq!(config.cluster.seeds[0].to_string(), "127.0.0.1:7000");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.collector, collector::Settings::default());
    assert_eq!(config.migration, migration::Settings::default());
    assert_eq!(config.policy.source, policy::Source::Embedded("balance".into()));
    assert_eq!(config.policy.settings, policy::Settings::default());
    assert_eq!(config.policy.parameters, "{}");
    assert_eq!(config.retention, Retention::default());
    assert!(config.http.listen.is_some_and(|listen| listen.ip().is_loopback()));
}

#[test]
fn the_committed_file_says_the_defaults() {
    let committed = config(COMMITTED);
    let defaults = config(MINIMAL);
    let cluster = Cluster { seeds: defaults.cluster.seeds.clone(), ..committed.cluster.clone() };
    assert_eq!(Config { cluster, ..committed }, defaults);
}

/// Sections, lists of sections included; the empty one holds what stands above all sections.
const SECTIONS: [&str; 12] = [
    "",
    "cluster",
    "cluster.tls",
    "collect",
    "policy",
    "limits",
    "migration",
    "http",
    "log",
    "state",
    "node",
    "shadow",
];

/// Every key that a section takes, by the reader's own word.
fn keys_of(section: &str) -> Vec<String> {
    let key = if section.is_empty() { "no-such-key = 1".into() } else { format!("[{section}]\nno-such-key = 1") };
    let listed = ["node", "shadow"].contains(&section);
    let key = if listed { format!("[[{section}]]\nno-such-key = 1") } else { key };
    // The list of what is expected instead is the list of all keys.
    let error = refuses(&key, &[], &["unknown field `no-such-key`, expected "]);
    let expected = error.split(", expected ").nth(1).expect("a list").lines().next().expect("a line");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_committed_file_shows_every_key() {
    for section in SECTIONS {
        for key in keys_of(section) {
            let shown = COMMITTED.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ', '[']);
                line.starts_with(&format!("{key} ="))
                    || line.starts_with(&format!("{key}]"))
                    || line.starts_with(&format!("{key}."))
                    || line.starts_with(&format!("{section}.{key}]"))
            });
            assert!(shown, "daemon.toml does not show `{key}` of [{section}]");
        }
    }
}

#[test]
fn every_key_is_shown_with_its_value_and_who_said_so() {
    let text = format!("{MINIMAL}[[node]]\nmatch = \"*\"\n[[shadow]]\nname = \"next\"\npolicy = \"slots\"\n");
    let settings = read_with(&text, &[("BALLAST_LIMITS__MIN_GAIN", "0.5")]).expect("accepted").settings;
    for section in SECTIONS {
        let above = match section {
            "" => String::new(),
            "node" | "shadow" => format!("{section}.0."),
            section => format!("{section}."),
        };
        for key in keys_of(section) {
            let key = format!("{above}{key}");
            let below = format!("{key}.");
            let shown = settings.iter().any(|setting| setting.key == key || setting.key.starts_with(&below));
            assert!(shown, "`{key}` is not shown");
        }
    }
    let said = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).expect(key);
        format!("{} ({})", setting.text(), setting.origin)
    };
    assert_eq!(said("cluster.seeds"), "redis://127.0.0.1:7000 (line 2)");
    assert_eq!(said("limits.min_gain"), "0.5 (BALLAST_LIMITS__MIN_GAIN)");
    assert_eq!(said("collect.interval"), "10s (default)");
    assert_eq!(said("policy.name"), "balance (default)");
    assert_eq!(said("node.0.match"), "* (line 4)");
    assert_eq!(said("shadow.0.policy"), "slots (line 7)");
    assert_eq!(said("migration.max_bytes_per_second"), "(not set) (default)");
}

#[test]
fn what_is_shown_holds_no_password_and_redacted_nothing_of_the_place() {
    let text = "[cluster]\nseeds = [\"rediss://zoe:hunter2@cache-1.eu:7000\", \"rediss://10.0.0.2\"]\nuser = \"zoe\"\n\
                password = \"hunter2\"\n[cluster.tls]\nca_file = \"/home/zoe/ca.pem\"\n[policy]\nfile = \"p.wasm\"\n\
                cache = \"/srv/zoe\"\n[policy.parameters]\navoid = [\"10.0.0.2:6379\"]\nresources = [\"cpu\"]\n[http]\n\
                listen = \"10.0.0.1:9899\"\n[[node]]\nmatch = \"cache\"\n[state]\ndirectory = \"/srv/zoe/state\"\n";
    let settings = read_with(text, &[]).expect("accepted").settings;
    let shown = |settings: &[Setting]| {
        let json = serde_json::to_string(settings).expect("JSON");
        settings.iter().map(|setting| format!("{} = {}\n", setting.key, setting.text())).collect::<String>() + &json
    };
    assert!(!shown(&settings).contains("hunter2") && shown(&settings).contains("cluster.password = ***"));
    assert!(shown(&settings).contains("rediss://zoe@cache-1.eu:7000") && shown(&settings).contains("/srv/zoe/state"));
    let redacted: Vec<Setting> = settings.into_iter().map(Setting::redacted).collect();
    let redacted = shown(&redacted);
    for word in ["hunter2", "zoe", "cache-1", "= cache", "10.0.0", "/srv", "/home", "p.wasm"] {
        assert!(!redacted.contains(word), "'{word}' in {redacted}");
    }
    for line in [
        "cluster.seeds = rediss://<user>@<host>:7000, rediss://<host>:6379\n",
        "policy.parameters.avoid = <host>:6379\n",
        "policy.parameters.resources = cpu\n",
        "http.listen = <host>:9899\n",
        "state.directory = <path>\n",
        "node.0.match = <host>",
        "cluster.tls.insecure = false\n",
    ] {
        assert!(redacted.contains(line), "'{line}' is missing in {redacted}");
    }
}

const PASSWORDS: [&str; 4] = ["password =", "password_file =", "password_env =", "password_credential ="];

/// The committed file with its comments uncommented, of the passwords the one that begins with `keep`.
fn uncommented(keep: &str) -> Loaded {
    // A comment without a space after its mark is an example to uncomment.
    let example = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let text: Vec<&str> = COMMITTED
        .lines()
        .map(|line| if example(&line) { &line[1..] } else { line })
        .filter(|line| line.starts_with(keep) || !PASSWORDS.iter().any(|other| line.starts_with(other)))
        // A policy has a name or a file.
        .filter(|line| !line.starts_with("name = \"balance\""))
        .collect();
    let variables = [("REDIS_PASSWORD", "secret"), ("CREDENTIALS_DIRECTORY", "/run/credentials/ballast.service")];
    read_with(&text.join("\n"), &variables).unwrap_or_else(|error| panic!("{keep} {error}"))
}

#[test]
fn what_the_committed_file_shows_as_comments_is_accepted() {
    for keep in PASSWORDS {
        let loaded = uncommented(keep);
        assert_ne!(loaded.config.cluster.access.password, Password::Absent);
        assert!(!loaded.config.nodes.is_empty());
    }
}

#[test]
fn whatever_key_the_committed_file_shows_a_path_or_a_host_for_is_redacted() {
    for keep in PASSWORDS {
        // A name of keys, a place's clocks and a time tell of nobody.
        let plain = |key: &str| ["prefix", "cron", "time_zone"].iter().any(|plain| key.ends_with(plain));
        for setting in uncommented(keep).settings.into_iter().filter(|setting| !plain(&setting.key)) {
            let redacted = setting.redacted();
            let text = redacted.text();
            assert!(!text.contains(['/', '*']) || text == "***" || text.contains("://"), "{} = {text}", redacted.key);
            assert!(!text.contains("10.0") && (text != "ballast"), "{} = {text}", redacted.key);
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_what_is_accepted() {
    let error = refuses(
        "[cluster]\nseeds = [\"h:1\"]\n[limits]\nmin_gian = 0.1\n",
        &[],
        &["/etc/ballast/daemon.toml:4:1", "unknown field `min_gian`", "`min_gain`", "4 | min_gian = 0.1", "^^^^^^^^"],
    );
    assert_eq!(error.matches("daemon.toml").count(), 1, "{error}");
}

#[test]
fn all_that_cannot_be_read_is_named_at_once() {
    let text = "[cluster]\nseeds = [\"h:1\"]\n[limits]\nmin_gian = 0.1\n[collect]\ninterval = 5\n[policy]\nmemry = \"1GiB\"\n\
                [[shadow]]\nname = 7\n";
    let error = refuses(text, &[], &["toml:4:1: unknown field `min_gian`", "toml:6:12: ", "toml:8:1: ", "toml:10:8: "]);
    assert_eq!(error.matches("daemon.toml").count(), 4, "{error}");
    assert!(error.find("min_gian") < error.find("memry"), "in the order of the text: {error}");
    let list = "[limits]\nmin_gian = [\n1,\n]\n[migration]\nconcurrency = \"x\"\n";
    let error = refuses(list, &[], &["toml:2:1: unknown field `min_gian`"]);
    assert_eq!(error.matches("daemon.toml").count(), 1, "of several lines: {error}");
}

#[test]
fn values_of_a_wrong_kind_are_named_with_their_place() {
    refuses("mode = \"automatic\"", &[], &["daemon.toml:1:8", "expected one of `dry-run`, `auto`, `approval`"]);
    refuses("[collect]\ninterval = 5", &[], &["daemon.toml:2:12", "expected a string"]);
    refuses("[collect]\ninterval = \"5\"", &[], &["daemon.toml:2:12", "'5' is not a duration", "5s"]);
    refuses("[policy]\nmemory = \"much\"", &[], &["daemon.toml:2:10", "'much' is not a size", "64MiB"]);
    refuses("[cluster\nseeds = []", &[], &["daemon.toml:1:"]);
}

#[test]
fn all_problems_of_meaning_are_reported_together_with_key_and_line() {
    let text = "[cluster]\nseeds = [\"h:1\", \"http://h\"]\n[limits]\nmemory_margin = 1.5\nmax_snapshot_age = \"5s\"\n\
                [policy]\nsha256 = \"abc\"\n[http]\nlisten = \"localhost\"\n[[node]]\nmatch = \"*\"\nweight = 0\n";
    refuses(
        text,
        &[],
        &[
            "daemon.toml:2:17: cluster.seeds.1: not a node's URL",
            "daemon.toml:4:17: limits.memory_margin: 1.5 is out of range: 0 to 0.9 is accepted",
            " 4 | memory_margin = 1.5\n   |                 ^^^",
            "daemon.toml:5:20: limits.max_snapshot_age: must not be less than collect.interval",
            "daemon.toml:7:10: policy.sha256",
            "daemon.toml:9:10: http.listen",
            "daemon.toml:12:10: node.0.weight",
        ],
    );
    refuses("", &[], &["cluster.seeds: name at least one node"]);
}

#[test]
fn the_environment_overrides_the_file_in_the_type_of_the_key() {
    let variables = [
        ("BALLAST_MODE", "auto"),
        ("BALLAST_LIMITS__MIN_GAIN", "0.5"),
        ("BALLAST_COLLECT__INTERVAL", "3s"),
        ("BALLAST_CLUSTER__SEEDS", "[\"redis://h:1\"]"),
        ("BALLAST_CLUSTER__NAME", "12345"),
        ("BALLAST_POLICY__PARAMETERS__TARGET", "1.2"),
        ("BALLAST_SERVICE_HOST", "10.0.0.1"),
        ("BALLAST_PORT", "tcp://10.0.0.1:9899"),
    ];
    let config = read_with(MINIMAL, &variables).expect("accepted").config;
    assert_eq!(config.mode, Mode::Auto);
    assert_eq!(config.limits.min_gain, 0.5);
    assert_eq!(config.interval, Duration::from_secs(3));
    assert_eq!(config.cluster.seeds[0].to_string(), "h:1");
    assert_eq!(config.cluster.name, "12345", "text that looks like a number");
    assert_eq!(config.policy.parameters, "{\"target\":1.2}");
}

#[test]
fn errors_of_the_environment_name_the_variable() {
    refuses(MINIMAL, &[("BALLAST_LIMITS__MIN_GIAN", "1")], &["BALLAST_LIMITS__MIN_GIAN: unknown field `min_gian`"]);
    refuses(
        MINIMAL,
        &[("BALLAST_COLLECT__INTERVAL", "soon")],
        &["BALLAST_COLLECT__INTERVAL: 'soon' is not a duration"],
    );
    refuses(
        MINIMAL,
        &[("BALLAST_LIMITS__MEMORY_MARGIN", "2")],
        &["BALLAST_LIMITS__MEMORY_MARGIN: limits.memory_margin: 2 is"],
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated_by_the_error() {
    for (text, words) in [
        ("[cluster]\nseeds = \"redis://:hunter2@127.0.0.1:7000\"\n", "invalid type: string, expected a sequence"),
        ("[cluster]\npassword = 0xb00b1e5\n", "invalid type: integer, expected "),
        ("cluster = { seeds = [\"h:1\"], pasword = \"hunter2\" }\n", "unknown field `pasword`"),
        ("webhook = [{ name = \"x\", url = \"https://h/T0/hunter2\", evnts = [] }]\n", "unknown field `evnts`"),
        ("[[webhook]]\nname = \"x\"\nurl = \"https://h/T0/B0\"\nsecrt = \"hunter2\"\n", "unknown field `secrt`"),
        ("[policy.parameters]\nkey = hunter2\n", "daemon.toml:2:"),
        ("[ cluster ]\npasswort = \"hunter2\"\n", "unknown field `passwort`"),
        ("[[ \"webhook\" ]]\nname = \"x\"\nadress = \"https://h/hunter2\"\n", "unknown field `adress`"),
        ("[scaling.standby]\nlist = [\"redis://:hunter2@h\"]\n", "what is given"),
    ] {
        let error = refuses(text, &[], &[words]);
        for secret in ["hunter2", "184594917", "b00b1e5"] {
            assert!(!error.contains(secret), "{text}: {error}");
        }
    }
    let variable = ("BALLAST_CLUSTER__SEEDS", "redis://:hunter2@h:1");
    let error = refuses("", &[variable], &["BALLAST_CLUSTER__SEEDS: invalid type: string, expected a sequence"]);
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn secrets_come_from_where_they_are_said_to_be_and_are_never_shown() {
    let with = |line: &str, variables: &[(&str, &str)]| read_with(&format!("{MINIMAL}{line}"), variables).expect(line);
    let loaded = with("password = \"hunter2\"", &[]);
    assert_eq!(loaded.config.cluster.access.password, Password::Given(Secret::new("hunter2")));
    assert!(loaded.warnings[0].contains("cluster.password_file"), "{:?}", loaded.warnings);
    assert!(!format!("{loaded:?}").contains("hunter2"));

    let file = with("password_file = \"secret\"", &[]).config.cluster.access.password;
    assert_eq!(file, Password::File("/etc/ballast/secret".into()), "relative to the configuration");
    let env = with("password_env = \"PW\"", &[("PW", "x")]).config.cluster.access.password;
    assert_eq!(env, Password::Given(Secret::new("x")));
    let credential = with("password_credential = \"redis\"", &[("CREDENTIALS_DIRECTORY", "/run/c")]).config;
    assert_eq!(credential.cluster.access.password, Password::File("/run/c/redis".into()));

    let two = format!("{MINIMAL}password = \"hunter2\"\npassword_file = \"x\"");
    let error = refuses(&two, &[], &["cluster.password_file: cluster.password is given as well"]);
    assert!(!error.contains("hunter2"));
    refuses(&format!("{MINIMAL}password_env = \"PW\""), &[], &["the environment has no PW"]);
    let broken = format!("{MINIMAL}password = \"hunter2\n");
    assert!(!refuses(&broken, &[], &["daemon.toml:3:"]).contains("hunter2"));
}

#[test]
fn the_state_directory_is_the_one_of_the_service_or_the_user() {
    let state = |variables: &[(&str, &str)]| read_with(MINIMAL, variables).expect("accepted").config.state_dir;
    assert_eq!(state(&[("STATE_DIRECTORY", "/var/lib/ballast:/x"), ("HOME", "/h")]), Path::new("/var/lib/ballast"));
    assert_eq!(state(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]), Path::new("/s/ballast"));
    assert_eq!(state(&[("HOME", "/h")]), Path::new("/h/.local/state/ballast"));
    let set = config(&format!("{MINIMAL}[state]\ndirectory = \"state\"\n"));
    assert_eq!(set.state_dir, Path::new("/etc/ballast/state"));
}

#[test]
fn policy_parameters_reach_the_policy_as_json() {
    let text = format!("{MINIMAL}[policy.parameters]\ntarget = 1.05\nresources = [\"cpu\"]\nsince = 2024-01-01\n");
    assert_eq!(config(&text).policy.parameters, r#"{"resources":["cpu"],"since":"2024-01-01","target":1.05}"#);
}
