//! A real etcd of one member, killed with the test that started it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use ballast::lab::{servers_directory, spawn};

use crate::daemon::child::PATIENCE;
use crate::support::eventually;

/// An etcd, and where its data is.
pub(crate) struct Etcd {
    directory: tempfile::TempDir,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        // Both are taken at the same time, so they differ; nobody else asks for a port that was just given out.
        let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = taken.each_ref().map(|listener| listener.local_addr().expect("bound").port());
        drop(taken);
        let mut etcd = Self { directory: tempfile::tempdir().expect("temporary directory"), ports, child: None };
        etcd.restart().await;
        etcd
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Starts it with the data that it has.
    pub(crate) async fn restart(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let program = servers_directory().join("etcd/bin/etcd");
        let program = program.canonicalize().unwrap_or_else(|error| {
            panic!("{}: {error}; scripts/servers etcd fetches it", program.display());
        });
        let mut etcd = Command::new(program);
        etcd.args([
            "--data-dir",
            "data",
            "--log-level",
            "error",
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
        ])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .current_dir(self.directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
        let child = spawn(etcd).expect("it starts");
        self.child = Some(child);
        let health = format!("{client}/health");
        let web = ballast::web::client().build().expect("a client");
        let answers =
            async || web.get(&health).send().await.ok().filter(|answer| answer.status().is_success()).map(drop);
        eventually("etcd answers", PATIENCE, answers).await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error says that it has ended already.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
