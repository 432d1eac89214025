//! The daemon and the machine that it runs on: its socket, and whoever started it. No cluster is within reach here.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use ballast::model::Address;
use tokio::task::block_in_place;

use crate::daemon::child::{Home, Settings};

fn lonely() -> Home {
    Home::new(Address::new("127.0.0.1", 1), &Settings::default())
}

/// As on two machines whose daemons have their sockets at the same place: who asks one over the network must not command the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_never_reaches_another_daemon_than_was_asked() {
    let (here, there) = (lonely(), lonely());
    let (ours, theirs) = (here.start().await, there.start().await);
    let socket = |home: &Home| home.path().join("state/ballast.sock");
    theirs.ballast(&["pause", "--reason", "it is its own socket"]);
    fs::rename(socket(&here), socket(&there)).expect("a path may lead to another daemon");
    let refused = |why: &str| {
        let mut resume = Command::new(env!("CARGO_BIN_EXE_ballast"));
        let said = resume.args(["resume", "--url", theirs.base()]).output().expect("it starts");
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(6) && told.contains(why) && told.contains("--token-file"), "{told}");
    };
    refused("is the socket of another daemon");
    assert_eq!(
        (ours.status().await["mode"].as_str(), theirs.status().await["mode"].as_str()),
        (Some("auto"), Some("paused"))
    );
    fs::remove_file(socket(&there)).expect("it is there");
    refused("nobody answers there");
    ours.stop().await;
    theirs.stop().await;
}

/// What systemd is told (sd_notify(3)): that it is ready when it answers, that it lives, how it is, and that it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_started_it_is_told_how_it_is() {
    let home = lonely();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    let until = |word: &str| {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.iter().any(|line: &String| line.starts_with(word)) {
            let length = block_in_place(|| socket.recv(&mut buffer))
                .unwrap_or_else(|error| panic!("{word}: {error}, after {heard:?}"));
            heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        heard
    };
    let notify = path.to_str().expect("Unicode");
    let daemon = home.start_with(&[("NOTIFY_SOCKET", notify), ("WATCHDOG_USEC", "400000")]).await;
    until("READY=1");
    for _ in 0..3 {
        until("WATCHDOG=1");
    }
    daemon.ballast(&["pause", "--reason", "a release\nMAINPID=1"]);
    let told = until("STATUS=mode paused");
    assert!(told.iter().any(|line| line.contains("a release MAINPID=1")), "{told:?}");
    daemon.stop().await;
    until("STOPPING=1");
}
