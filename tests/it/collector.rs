//! Collecting from real servers: a snapshot is right on every version, and says what is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast::cluster::live::{Access, LiveCluster, Password, Secret, Tls};
use ballast::cluster::{Cluster, Command, Lane, LinkError};
use ballast::collector::{Collector, Marks, Settings};
use ballast::lab::{Builder, Kind, LabError, LocalCluster, Server, ServerSettings};
use ballast::model::{Address, MetricSource, Problem, SLOT_COUNT, SlotId, Snapshot, Tag, resource};

use crate::support::{chain, eventually, turn};

const PATIENCE: Duration = Duration::from_secs(30);

/// A key that the load hits, in a slot of its own.
const HOT: &str = "{hot}counter";
/// A value a thousand times larger than the others.
const LARGE: &str = "{large}value";

async fn start(builder: Result<Builder, LabError>) -> LocalCluster {
    let cluster = async { builder?.start().await };
    cluster.await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Looks at a cluster as the daemon does.
struct Watch<'a> {
    cluster: &'a LocalCluster,
    collector: Collector,
}

impl<'a> Watch<'a> {
    fn of(cluster: &'a LocalCluster) -> Self {
        let live = LiveCluster::new(Access::default());
        let settings = Settings { node_patience: Duration::from_secs(2), ..Settings::default() };
        Self { cluster, collector: Collector::new(Arc::new(live), settings) }
    }

    /// One seed is enough: the others are found.
    async fn look(&mut self) -> Snapshot {
        let seeds = [self.cluster.nodes[0].server.address()];
        let snapshot = self.collector.collect(&seeds, &Marks::default()).await.expect("some node answers");
        for (name, column) in &snapshot.slot_columns {
            assert_eq!(column.len(), SLOT_COUNT, "{name}");
            assert!(column.iter().all(|value| value.is_finite() && *value >= 0.0), "{name} has a hole");
        }
        snapshot
    }

    /// Looks until a problem is seen; the snapshot with it.
    async fn until(&mut self, what: &str, is: impl Fn(&Problem) -> bool) -> Snapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.look().await;
            if snapshot.problems.iter().any(&is) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", snapshot.problems);
        }
    }

    /// Looks until nothing stops moves any more.
    async fn until_well(&mut self) -> Snapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.look().await;
            if snapshot.blockers().next().is_none() {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "{:?}", snapshot.problems);
        }
    }
}

/// Writes keys, and says how many each slot got.
async fn fill(cluster: &LocalCluster, count: usize) -> Vec<f64> {
    let mut keys: Vec<(String, usize)> = (0..count).map(|number| (format!("key:{number}"), 100)).collect();
    keys.extend([(HOT.to_owned(), 1), (LARGE.to_owned(), 100_000)]);
    let mut by_slot = vec![0.0; SLOT_COUNT];
    let view = cluster.view().await.expect("a view");
    for node in &cluster.nodes {
        let Some(owned) = view.iter().find(|seen| seen.id == node.id).map(|seen| &seen.slots) else { continue };
        let mine = keys.iter().filter(|(key, _)| owned.contains(SlotId::of_key(key.as_bytes())));
        let commands: Vec<Command> =
            mine.map(|(key, size)| Command::new("SET").arg(key).bytes(vec![b'1'; *size])).collect();
        for reply in exchange(cluster, node.server.address(), &commands).await {
            reply.ok().expect("the owner takes the key");
        }
    }
    for (key, _) in &keys {
        by_slot[SlotId::of_key(key.as_bytes()).index()] += 1.0;
    }
    by_slot
}

/// Hits one key for a while.
async fn hit(cluster: &LocalCluster, key: &str, times: usize) {
    let owner = cluster.owner_of(SlotId::of_key(key.as_bytes())).await.expect("a view").expect("an owner");
    let node = cluster.nodes.iter().find(|node| node.id == owner).expect("ours");
    let commands = vec![Command::new("GET").arg(key); times];
    exchange(cluster, node.server.address(), &commands).await;
}

async fn exchange(cluster: &LocalCluster, node: Address, commands: &[Command]) -> Vec<ballast::cluster::Reply> {
    let node = cluster.nodes.iter().find(|known| known.server.address() == node).expect("ours");
    let link = node.server.link().await.expect("a link");
    let mut replies = Vec::new();
    for part in commands.chunks(1_000) {
        replies.extend(link.call(part, PATIENCE).await.expect("replies"));
    }
    replies
}

fn source_of(snapshot: &Snapshot, name: &str) -> (MetricSource, f64) {
    let metric = snapshot.metrics.iter().find(|metric| metric.name == name).expect("every column is explained");
    (metric.source, metric.confidence)
}

fn hottest(snapshot: &Snapshot, column: &str) -> usize {
    let column = snapshot.slot_column(column).expect("present");
    (0..SLOT_COUNT).max_by(|a, b| column[*a].total_cmp(&column[*b])).expect("there are slots")
}

#[tokio::test]
async fn a_snapshot_of_redis_6_2_is_right() {
    a_snapshot_is_right(Kind::Redis62, "redis 6.2.", Counts { loads: false, bytes: false }).await;
}

#[tokio::test]
async fn a_snapshot_of_redis_7_0_is_right() {
    a_snapshot_is_right(Kind::Redis70, "redis 7.0.", Counts { loads: false, bytes: false }).await;
}

#[tokio::test]
async fn a_snapshot_of_redis_8_6_is_right() {
    a_snapshot_is_right(Kind::Redis86, "redis 8.6.", Counts { loads: true, bytes: true }).await;
}

#[tokio::test]
async fn a_snapshot_of_valkey_8_0_is_right() {
    a_snapshot_is_right(Kind::Valkey80, "valkey 8.0.", Counts { loads: true, bytes: false }).await;
}

#[tokio::test]
async fn a_snapshot_of_valkey_9_1_is_right() {
    a_snapshot_is_right(Kind::Valkey91, "valkey 9.1.", Counts { loads: true, bytes: false }).await;
}

/// What a server counts per slot.
struct Counts {
    loads: bool,
    bytes: bool,
}

async fn a_snapshot_is_right(kind: Kind, version: &str, counts: Counts) {
    let _turn = turn().await;
    let more = if counts.loads { vec![vec!["cluster-slot-stats-enabled".into(), "yes".into()]] } else { Vec::new() };
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.replicas(1).settings(settings))).await;
    let keys = fill(&cluster, 3_000).await;
    let mut watch = Watch::of(&cluster);

    let first = watch.look().await;
    assert_eq!(first.window_s, 0);
    assert!(first.problems.contains(&Problem::WarmingUp), "{:?}", first.problems);
    hit(&cluster, HOT, 30_000).await;
    let second = watch.look().await;
    assert_eq!(second.blockers().collect::<Vec<_>>(), Vec::<&Problem>::new());
    assert!(second.window_s > 0);
    assert_eq!((first.generation, second.generation), (1, 2));

    // Who is there, and who owns what.
    assert_eq!((second.primaries.len(), second.replicas.len()), (3, 3));
    for slot in SlotId::all().step_by(97) {
        let owner = cluster.owner_of(slot);
        assert_eq!(second.owner_of(slot).map(|primary| &primary.id), owner.await.expect("a view").as_ref());
    }
    assert!(second.primaries.iter().all(|primary| primary.version.starts_with(version)), "{:?}", second.primaries);
    assert!(second.replicas.iter().all(|replica| replica.online && replica.of.is_some()), "{:?}", second.replicas);

    // What the servers count.
    assert_eq!(second.slot_column(resource::KEYS).expect("present").to_vec(), keys);
    for (name, least) in [
        (resource::CPU, 0.0),
        (resource::OPS, 0.1),
        (resource::NET_IN, 1.0),
        (resource::NET_OUT, 1.0),
        (resource::MEMORY_USED, 1e5),
        (resource::REPLICAS, 1.0),
        (resource::REPLICA_LAG, 0.0),
        (resource::PROBE_USEC, 1.0),
    ] {
        let column = second.node_column(name).expect("present");
        assert!(column.len() == 3 && column.iter().all(|value| *value >= least), "{name}: {column:?}");
    }
    assert!(
        second.node_column(resource::MEMORY_MAX).expect("present").iter().all(|max| max.is_nan()),
        "no limit is set"
    );

    // What they count, or we estimate, per slot.
    let (source, confidence) = source_of(&second, "slot/cpu-usec");
    if counts.loads {
        assert_eq!((source, confidence), (MetricSource::Measured, 1.0));
        let hot = SlotId::of_key(HOT.as_bytes()).index();
        assert_eq!(hottest(&second, resource::CPU_USEC), hot);
        assert_eq!(hottest(&second, resource::NET_OUT), hot);
        let cpu = second.slot_column(resource::CPU_USEC).expect("present")[hot];
        // Over the time between the looks, in whole seconds, which a busy machine stretches. Valkey 9.1 counts a sixth of a
        // microsecond for each of these reads.
        let spent = cpu * f64::from(second.window_s);
        assert!(spent > 1_000.0, "thirty thousand reads take more than {spent} µs: {cpu} µs/s, {} s", second.window_s);
    } else {
        assert_eq!(source, MetricSource::Estimated);
        assert!(confidence > 0.0 && confidence < 0.9, "{confidence}");
        let by_slots = second.sum_by_primary(resource::CPU_USEC).expect("present");
        let by_nodes = second.node_column(resource::CPU).expect("present");
        for (sum, node) in by_slots.iter().zip(by_nodes) {
            assert!((sum - node * 1e6).abs() <= 1e-6 * sum, "shares sum to the node: {by_slots:?} {by_nodes:?}");
        }
        assert!(second.problems.iter().any(|problem| matches!(problem, Problem::SlotStatsOff { .. })));
    }
    assert_eq!(source_of(&second, "slot/bytes").0 == MetricSource::Measured, counts.bytes);
    assert_eq!(hottest(&second, resource::BYTES), SlotId::of_key(LARGE.as_bytes()).index());
    let large = second.slot_column(resource::BYTES).expect("present")[SlotId::of_key(LARGE.as_bytes()).index()];
    assert!((50_000.0..300_000.0).contains(&large), "{large}");
}

#[tokio::test]
async fn statistics_that_are_off_are_estimated_and_come_with_advice() {
    let _turn = turn().await;
    let more = vec![vec!["cluster-slot-stats-enabled".into(), "no".into()]];
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey91).map(|builder| builder.settings(settings))).await;
    let keys = fill(&cluster, 500).await;
    let mut watch = Watch::of(&cluster);
    watch.look().await;
    let snapshot = watch.look().await;
    assert_eq!(snapshot.slot_column(resource::KEYS).expect("present").to_vec(), keys);
    assert_eq!(source_of(&snapshot, "slot/cpu-usec").0, MetricSource::Estimated);
    let advice = snapshot.problems.iter().find_map(|problem| match problem {
        Problem::SlotStatsOff { detail, .. } => Some(detail.as_str()),
        _ => None,
    });
    assert!(advice.is_some_and(|advice| advice.contains("cluster-slot-stats-enabled")), "{advice:?}");

    for node in &cluster.nodes {
        node.server.call(Command::new("CONFIG SET cluster-slot-stats-enabled yes")).await.expect("turned on");
    }
    watch.look().await;
    let snapshot = watch.look().await;
    assert_eq!(source_of(&snapshot, "slot/cpu-usec"), (MetricSource::Measured, 1.0), "it is noticed at once");
}

#[tokio::test]
async fn uses_of_keys_show_the_hot_slot_where_nothing_is_counted() {
    let _turn = turn().await;
    let more = vec![vec!["maxmemory-policy".into(), "allkeys-lfu".into()]];
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.settings(settings))).await;
    fill(&cluster, 300).await;
    let mut watch = Watch::of(&cluster);
    watch.look().await;
    hit(&cluster, HOT, 30_000).await;
    let snapshot = watch.look().await;
    assert_eq!(hottest(&snapshot, resource::CPU_USEC), SlotId::of_key(HOT.as_bytes()).index());
    assert_eq!(source_of(&snapshot, "slot/cpu-usec").0, MetricSource::Estimated);
}

#[tokio::test]
async fn a_cluster_of_several_versions_is_seen_as_one() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::mixed(&[Kind::Redis62, Kind::Redis70, Kind::Valkey80])).await;
    for node in &cluster.nodes {
        let enable = Command::new("CONFIG SET cluster-slot-stats-enabled yes");
        // Only the newest has the setting.
        drop(node.server.call(enable).await);
    }
    let keys = fill(&cluster, 1_000).await;
    let mut watch = Watch::of(&cluster);
    watch.look().await;
    hit(&cluster, HOT, 5_000).await;
    let snapshot = watch.until_well().await;
    assert_eq!(snapshot.slot_column(resource::KEYS).expect("present").to_vec(), keys);
    let mut versions: Vec<&str> = snapshot.primaries.iter().map(|primary| &primary.version[..8]).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["redis 6.", "redis 7.", "valkey 8"]);
    let (source, confidence) = source_of(&snapshot, "slot/cpu-usec");
    assert_eq!(source, MetricSource::Estimated, "as soon as one part is");
    assert!(confidence > 0.3, "but a third is counted: {confidence}");
    let off = snapshot.problems.iter().filter(|problem| matches!(problem, Problem::SlotStatsOff { .. })).count();
    assert_eq!(off, 2);
}

#[tokio::test]
async fn a_node_that_hangs_and_a_replica_that_died_are_problems_and_no_errors() {
    let _turn = turn().await;
    let builder = LocalCluster::of(Kind::Valkey91);
    let mut cluster = start(builder.map(|builder| builder.replicas(1).node_timeout(Duration::from_secs(60)))).await;
    let (primary, replica) = (cluster.nodes[1].server.address(), cluster.nodes[3].server.address());
    let keys = fill(&cluster, 300).await;
    cluster.nodes[3].server.kill9();
    let mut watch = Watch::of(&cluster);
    watch.look().await;
    let snapshot = watch.look().await;
    let gone = snapshot.problems.iter().filter(|problem| matches!(problem, Problem::ReplicaUnreachable { .. }));
    assert_eq!(gone.count(), 1, "{:?}", snapshot.problems);
    assert!(snapshot.problems.iter().any(|problem| problem.to_string().contains(&replica.to_string())));
    assert_eq!(snapshot.blockers().count(), 0, "a lost replica stops nothing: {:?}", snapshot.problems);

    cluster.nodes[1].server.pause();
    let before = Instant::now();
    let snapshot = watch.look().await;
    assert!(before.elapsed() < Duration::from_secs(10), "one silent node does not hold up the rest");
    let blockers: Vec<String> = snapshot.blockers().map(ToString::to_string).collect();
    let [blocker] = &blockers[..] else { panic!("{blockers:?}") };
    assert!(blocker.starts_with(&format!("primary {primary} cannot be reached: no reply")), "{blocker}");
    let suspect = snapshot.primaries.iter().find(|node| node.address == primary).expect("still listed");
    assert!(suspect.is(Tag::Suspect) && !suspect.is(Tag::Empty));
    assert_eq!(snapshot.slot_column(resource::KEYS).expect("present").to_vec(), keys, "what was known stays");
    assert!(snapshot.node_column(resource::MEMORY_USED).expect("present").iter().any(|value| value.is_nan()));
    cluster.nodes[1].server.resume();
    watch.until_well().await;
}

#[tokio::test]
async fn a_restarted_node_is_asked_again_without_fuss() {
    let _turn = turn().await;
    let mut cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.replicas(1))).await;
    let live: Arc<dyn Cluster> = Arc::new(LiveCluster::new(Access::default()));
    let mut collector = Collector::new(live, Settings::default());
    let seeds = [cluster.nodes[0].server.address()];
    collector.collect(&seeds, &Marks::default()).await.expect("a snapshot");
    cluster.nodes[3].server.restart().await.expect("it starts again");
    let snapshot = collector.collect(&seeds, &Marks::default()).await.expect("a snapshot");
    let lost = snapshot.problems.iter().find(|problem| matches!(problem, Problem::ReplicaUnreachable { .. }));
    assert_eq!(lost, None, "the broken connection is replaced within the same look");
}

#[tokio::test]
async fn open_slots_and_disagreement_are_told() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis70).map(|builder| builder.empty(1))).await;
    let mut watch = Watch::of(&cluster);
    watch.look().await;
    let snapshot = watch.until_well().await;
    let newcomer = snapshot.index_of(&cluster.nodes[3].id).expect("empty primaries are listed");
    assert!(snapshot.primaries[newcomer as usize].is(Tag::Empty));

    let (source, target) = (&cluster.nodes[0], &cluster.nodes[2]);
    let migrating = Command::new("CLUSTER SETSLOT 5 MIGRATING").arg(&target.id);
    source.server.call(migrating).await.expect("the owner may send");
    let open = |problem: &Problem| matches!(problem, Problem::SlotsOpen { slots, .. } if slots.to_string() == "5");
    let snapshot = watch.until("the open slot is told", open).await;
    assert_eq!(snapshot.open_slots.len(), 1);
    assert_eq!((snapshot.open_slots[0].slot.number(), &snapshot.open_slots[0].node), (5, &source.id));
    source.server.call(Command::new("CLUSTER SETSLOT 5 STABLE")).await.expect("closed");
    watch.until_well().await;

    // A third node is told a lie about slot 5.
    let lie = Command::new("CLUSTER SETSLOT 5 NODE").arg(&target.id);
    cluster.nodes[1].server.call(lie).await.expect("it believes");
    let disagree =
        |problem: &Problem| matches!(problem, Problem::Disagreement { slots, .. } if slots.to_string() == "5");
    let snapshot = watch.until("the disagreement is told", disagree).await;
    assert!(snapshot.blockers().next().is_some());
}

#[tokio::test]
async fn the_link_says_whether_anything_was_sent() {
    let _turn = turn().await;
    let settings = ServerSettings { password: Some("open-sesame".to_owned()), ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(Kind::Valkey80).map(|builder| builder.settings(settings))).await;
    let node = cluster.nodes[0].server.address();
    let ask = async |password: Option<&str>, node: &Address, patience| {
        let password = password.map_or(Password::Absent, |text| Password::Given(Secret::new(text)));
        let live = LiveCluster::new(Access { password, ..Access::default() });
        live.call(node, Lane::Control, &[Command::new("PING"), Command::new("NO-SUCH")], patience).await
    };
    let replies = ask(Some("open-sesame"), &node, PATIENCE).await.expect("replies");
    assert_eq!(replies.len(), 2, "an error is a reply like any other");
    assert!(replies[1].clone().ok().is_err());
    for wrong in [Some("wrong"), None] {
        let refused = ask(wrong, &node, PATIENCE).await.expect_err("not let in");
        assert!(matches!(refused, LinkError::Refused { .. }), "{refused}");
    }
    let nobody = Address::new("127.0.0.1", 1);
    let unreachable = ask(None, &nobody, PATIENCE).await.expect_err("nobody listens");
    assert!(matches!(unreachable, LinkError::Unreachable { .. }), "{unreachable}");

    let live = LiveCluster::new(Access { password: Password::Given(Secret::new("open-sesame")), ..Access::default() });
    let ping = [Command::new("PING")];
    live.call(&node, Lane::Control, &ping, PATIENCE).await.expect("connected");
    cluster.nodes[0].server.pause();
    let lost = live.call(&node, Lane::Control, &ping, Duration::from_millis(100)).await.expect_err("no reply");
    assert!(matches!(lost, LinkError::Lost { .. }), "{lost}");
    cluster.nodes[0].server.resume();
    eventually("it answers on a new connection", PATIENCE, || async {
        live.call(&node, Lane::Control, &ping, Duration::from_secs(1)).await.ok()
    })
    .await;
}

/// Certificates that are good for a hundred years, and for 127.0.0.1 only; their authority's key was thrown away.
fn certificate(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(file)
}

#[tokio::test]
async fn tls_is_spoken_and_whom_it_does_not_trust_is_refused() {
    let _turn = turn().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let path = |file| certificate(file).to_string_lossy().into_owned();
    let more = [
        ["tls-port", &free.port().to_string()],
        ["tls-cert-file", &path("server.pem")],
        ["tls-key-file", &path("server.key")],
        ["tls-ca-cert-file", &path("ca.pem")],
        ["tls-auth-clients", "yes"],
    ];
    let more = more.map(|words| words.map(str::to_owned).to_vec()).to_vec();
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let program = Kind::Valkey9Tls.program().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let server = Server::start(&program, &settings).await.unwrap_or_else(|error| panic!("{}", chain(&error)));

    let node = Address::new("127.0.0.1", free.port());
    let ping = async |node: &Address, tls: Option<Tls>| {
        let live = LiveCluster::new(Access { tls, ..Access::default() });
        live.call(node, Lane::Control, &[Command::new("PING")], PATIENCE).await
    };
    let ours = Tls {
        ca_file: Some(certificate("ca.pem")),
        client: Some((certificate("client.pem"), certificate("client.key"))),
        insecure: false,
    };
    ping(&node, Some(ours.clone())).await.expect("both trust each other");
    ping(&node, Some(Tls { ca_file: None, insecure: true, ..ours.clone() })).await.expect("no questions asked");

    let untrusting = ping(&node, Some(Tls { ca_file: None, ..ours.clone() })).await.expect_err("an unknown authority");
    assert!(matches!(untrusting, LinkError::Refused { .. }), "{untrusting}");
    let nameless = ping(&node, Some(Tls { client: None, ..ours.clone() })).await.expect_err("the server asks for one");
    assert!(matches!(nameless, LinkError::Refused { .. }), "{nameless}");
    let missing = Tls { ca_file: Some("/no/such/file".into()), ..ours.clone() };
    let missing = ping(&node, Some(missing)).await.expect_err("no such file");
    assert!(missing.to_string().contains("/no/such/file"), "{missing}");
    let plain = ping(&server.address(), Some(ours)).await.expect_err("TLS to a port that speaks none");
    assert!(!matches!(plain, LinkError::Lost { .. }), "nothing was sent: {plain}");
    let clear = ping(&node, None).await.expect_err("no TLS to a port that speaks nothing else");
    assert!(!matches!(clear, LinkError::Lost { .. }), "nothing was sent: {clear}");
}
