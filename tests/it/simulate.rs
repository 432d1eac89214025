//! The simulator, from outside: the real program with its own policies, as WebAssembly.

use crate::cli::Ballast;

const SCENARIO: &str = "summary = 'skewed'\nhours = 0.4\ncycle = '1m'\n\
    [cluster]\nnodes = 4\n[load]\nutilisation = 0.4\nskew = 0.99\nnoise = 0.2\n\
    [collector]\nfast_half_life = '3m'\nslow_half_life = '30m'\nfreeze = '2m'\n\
    [[event]]\nkind = 'join'\nat = '12m'\nnodes = 1\n";

#[tokio::test]
async fn policies_are_compared_side_by_side_and_the_same_seed_says_the_same() {
    let ballast = Ballast::new();
    let path = |name: &str| ballast.home.path().join(name).display().to_string();
    let (scenario, page) = (path("skewed.toml"), path("page.html"));
    std::fs::write(&scenario, SCENARIO).expect("writable");
    let words = ["simulate", "--policy", "balance", "--policy", "slots", "--scenario", scenario.as_str()];

    let document = ballast.json(0, &[&words[..], &["--html", page.as_str()]].concat()).await;
    assert_eq!((document["kind"].as_str(), document["seed"].as_u64()), (Some("Simulation"), Some(1)));
    let runs = document["scenarios"][0]["runs"].as_array().expect("a list");
    let names: Vec<&str> = runs.iter().filter_map(|run| run["policy"].as_str()).collect();
    assert_eq!(names, ["none", "balance", "slots"]);
    let excess = |place: usize| runs[place]["measures"]["balance"]["cpu"]["excess_mean"].as_f64().expect("a number");
    assert!(excess(1) < excess(2) && excess(2) < excess(0), "balance, slots, none: {:?}", [1, 2, 0].map(excess));
    assert_eq!(runs[0]["measures"]["moves"], 0);
    for run in &runs[1..] {
        assert_eq!(run["measures"]["faults"], serde_json::json!({}), "{run}");
        assert!(run["measures"]["moves"].as_u64().is_some_and(|moves| moves > 500), "a node joined empty: {run}");
    }
    assert_eq!(ballast.json(0, &words).await, document, "the same seed");

    let html = std::fs::read_to_string(&page).expect("written");
    is_whole_and_needs_nothing_else(&html);
    assert_eq!(html.matches("<svg").count(), 6);

    let text = ballast.run(&words).await.out;
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

/// Every element that was opened is closed, in order, and nothing is fetched.
fn is_whole_and_needs_nothing_else(html: &str) {
    for word in ["http:", "https:", "<script", "<link", "url(", "@import", "NaN"] {
        assert!(!html.contains(word), "{word}");
    }
    let mut open: Vec<&str> = Vec::new();
    let body = html.split_once("</style>").expect("a style").1;
    for tag in body.split('<').skip(1).filter_map(|text| text.split('>').next()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if name == "head" || name == "html" => {}
            (true, _) => assert_eq!(open.pop(), Some(name), "closed in order"),
            (false, true) => {}
            (false, false) => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "left open");
}

#[tokio::test]
async fn what_cannot_be_simulated_is_refused_with_the_key_and_what_to_do() {
    let ballast = Ballast::new();
    let broken = ballast.home.path().join("broken.toml").display().to_string();
    std::fs::write(&broken, SCENARIO.replace("skew =", "skwe =")).expect("writable");
    let empty = ballast.home.path().display().to_string();
    for (words, reasons) in [
        (vec!["simulate"], vec!["--scenario"]),
        (vec!["simulate", "--scenario", "quake"], vec!["there is no scenario 'quake'", "moving-hot-spot"]),
        (
            vec!["simulate", "--scenario", &broken],
            vec!["broken.toml", "line 8", "unknown field `skwe`", "docs/simulate.md"],
        ),
        (
            vec!["simulate", "--scenario", "zipf", "--policy", "magic"],
            vec!["there is no policy 'magic'", "balance, slots"],
        ),
        (vec!["simulate", "--scenario", "zipf", "--hours", "0"], vec!["--hours 0"]),
        (vec!["simulate", "--history", "/nowhere/at/all"], vec!["/nowhere/at/all"]),
        (vec!["simulate", "--history", &empty], vec!["no ballast ever kept anything there"]),
    ] {
        let ran = ballast.run(&words).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {}", ran.err);
        for reason in reasons {
            assert!(ran.err.contains(reason), "{words:?}: {reason}: {}", ran.err);
        }
    }
}
