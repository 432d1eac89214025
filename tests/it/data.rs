//! Every kind of data and of use that a slot may have goes through a move unharmed: recorded before and verified after
//! by the verifier, or used by clients while the slot is open.

use std::collections::BTreeSet;
use std::time::Duration;

use ballast::cluster::live::{Access, LiveCluster};
use ballast::cluster::{Cluster, Command, Lane, Reply, ServerError};
use ballast::lab::{Family, Kind, LocalCluster, Node, Program, ServerSettings};
use ballast::migration::{self, Context, Pace, ProtocolChoice, Settings};
use ballast::model::{Address, SlotId, SlotSet};
use ballast::verify::{Task, verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::scene::{Scene, link_to};
use crate::support::{eventually, start, turn};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn all_kinds_of_data_move_classically_on_redis_6_2() {
    everything_moves(Kind::Redis62, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_classically_on_redis_7_0() {
    everything_moves(Kind::Redis70, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_classically_on_valkey_8_0() {
    everything_moves(Kind::Valkey80, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_classically_on_redis_8_6() {
    everything_moves(Kind::Redis86, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_atomically_on_redis_8_6() {
    everything_moves(Kind::Redis86, ProtocolChoice::Auto, "atomic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_classically_on_valkey_9_1_in_two_databases() {
    everything_moves(Kind::Valkey91, ProtocolChoice::Classic, "classic").await;
}

#[tokio::test]
async fn all_kinds_of_data_move_atomically_on_valkey_9_1_in_two_databases() {
    everything_moves(Kind::Valkey91, ProtocolChoice::Auto, "atomic").await;
}

/// Keys that expire while their slots move, in each database.
const FLEETING: u64 = 40;

async fn everything_moves(kind: Kind, protocol: ProtocolChoice, expected: &str) {
    let _turn = turn().await;
    let databases = if kind == Kind::Valkey91 { 2 } else { 1 };
    let more =
        if databases > 1 { vec![vec!["cluster-databases".to_owned(), databases.to_string()]] } else { Vec::new() };
    let settings = ServerSettings { more, ..ServerSettings::default() };
    let cluster = start(LocalCluster::of(kind).map(|builder| builder.settings(settings))).await;
    let scene = Scene { databases, ..Scene::new(&cluster, protocol).await };
    let slots: SlotSet = scene.slots_of(0).await.iter().take(400).collect();
    let source = &cluster.nodes[0];
    let commands = everything(source.server.program(), &slots);
    for database in 0..databases {
        let link = link_to(source, database).await;
        let replies = link.call(&commands, PATIENCE).await.expect("replies");
        for (command, reply) in commands.iter().zip(&replies) {
            assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        }
    }
    let encodings = encodings(source).await;
    for encoding in expected_encodings(source.server.program()) {
        assert!(encodings.contains(*encoding), "no {encoding} among {encodings:?}");
    }

    let live = LiveCluster::new(Access::default());
    let seeds = [cluster.nodes[1].server.address()];
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("record");
    let before = verify(&live, &seeds, Task::Record(&path)).await.expect("recorded");
    let recorded = before.recorded.expect("recorded");
    assert!(before.clean && recorded > 50, "{before:?}");
    expire_meanwhile(source, databases, &slots).await;

    let report = scene.migrate(1, &slots).await;
    assert_eq!((report.protocol.as_str(), &report.moved), (expected, &slots), "{:?}", report.stayed);
    cluster.wait_until_agreed().await.expect("agreed");
    let after = verify(&live, &seeds, Task::Against(&path)).await.expect("compared");
    assert!(after.clean, "{after:?}");
    assert_eq!(after.compared.expect("compared").same, recorded);
    assert_eq!(after.nodes.iter().find(|node| node.node == source.server.address()).map(|node| node.keys), Some(0));
    // What expired on the way does not come back, and what has yet to expire still does.
    eventually("all that was to expire is gone", PATIENCE, async || {
        let mut keys = 0;
        for database in 0..databases {
            let replies = link_to(&cluster.nodes[1], database).await.call(&[Command::new("DBSIZE")], PATIENCE).await;
            let Ok([Reply::Int(size)]) = replies.as_deref() else { panic!("{replies:?}") };
            keys += size.unsigned_abs();
        }
        (keys == recorded).then_some(())
    })
    .await;
    assert_eq!(cluster.open_slots().await.expect("asked"), Vec::new());
}

/// Sets keys that expire before, while and shortly after the slots move.
async fn expire_meanwhile(source: &Node, databases: u32, slots: &SlotSet) {
    let mut names = Names::of(slots);
    let sets: Vec<Command> = (1..=FLEETING)
        .map(|n| Command::new("SET").bytes(names.name(b"fleeting")).arg("x").arg("PX").arg(n * 10))
        .collect();
    for database in 0..databases {
        link_to(source, database).await.call(&sets, PATIENCE).await.expect("replies");
    }
}

/// Names of keys in given slots, each of another slot in turn.
struct Names {
    slots: Vec<SlotId>,
    next: usize,
}

impl Names {
    fn of(slots: &SlotSet) -> Self {
        Self { slots: slots.iter().collect(), next: 0 }
    }

    /// A name that begins as told.
    fn name(&mut self, start: &[u8]) -> Vec<u8> {
        self.next += 1;
        (self.next * 1_000_000..)
            .map(|n| [start, format!(":{n}").as_bytes()].concat())
            .find(|name| self.slots.contains(&SlotId::of_key(name)))
            .expect("endless")
    }

    /// A hash tag whose slot is among them.
    fn tag(&mut self) -> String {
        String::from_utf8(self.name(b"tag")).expect("text")
    }
}

/// Commands that make every kind of value, in every encoding that the server has, under all kinds of names.
fn everything(server: &Program, slots: &SlotSet) -> Vec<Command> {
    let mut names = Names::of(slots);
    let mut commands = Vec::new();
    let mut make = |command: &str, start: &[u8], words: &[&[u8]]| {
        let command = Command::new(command).bytes(names.name(start));
        commands.push(words.iter().fold(command, |command, word| command.bytes(*word)));
    };
    let many: Vec<String> = (0..1500).map(|n| format!("element-{n}")).collect();
    let elements: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
    let pairs: Vec<&[u8]> = elements.chunks(2).flatten().copied().collect();
    let scored: Vec<Vec<u8>> = (0..700).map(|n| format!("{}.{n}", n / 7).into_bytes()).collect();
    let ranked: Vec<&[u8]> =
        scored.iter().zip(&elements).flat_map(|(score, member)| [score.as_slice(), member]).collect();

    make("SET", b"string-int", &[b"-12345"]);
    make("SET", b"string-embstr", &[b"short"]);
    make("SET", b"string-raw", &[&[b'x'; 300_000]]);
    make("SET", b"string-empty", &[b""]);
    make("SET", b"string-binary", &[b"\0\r\n\xff\xfe$-1\r\n"]);
    make("SETBIT", b"bitmap", &[b"90001", b"1"]);
    make("PFADD", b"hyperloglog-sparse", &elements[..20]);
    make("PFADD", b"hyperloglog-dense", &elements);
    make("RPUSH", b"list-small", &[b"a", b"", b"\0\xff"]);
    make("RPUSH", b"list-large", &elements);
    make("RPUSH", b"list-large-elements", &[&[b'y'; 20_000], &[b'z'; 20_000]]);
    make("HSET", b"hash-small", &[b"f", b"v", b"", b"", b"\0", b"\xff"]);
    make("HSET", b"hash-large", &pairs);
    make("SADD", b"set-ints", &[b"1", b"-5", b"70000"]);
    make("SADD", b"set-small", &[b"a", b"", b"\0\r\n"]);
    make("SADD", b"set-large", &elements);
    make("ZADD", b"zset-small", &[b"0.1", b"a", b"-inf", b"b", b"inf", b"c", b"-0.0", b""]);
    make("ZADD", b"zset-large", &ranked);
    make("GEOADD", b"geo", &[b"13.361389", b"38.115556", b"Palermo", b"15.087269", b"37.502669", b"Catania"]);
    make("XADD", b"stream-plain", &[b"5-1", b"field", b"\0value"]);
    make("SET", b"binary\0\r\n\xff {} ", &[b"binary name"]);
    make("SET", &[b'n'; 5_000], &[b"long name"]);
    make("SET", b"lasts-long", &[b"x", b"EX", b"100000"]);
    make("SET", b"lasts-to-the-millisecond", &[b"x", b"PX", b"300123"]);
    // The empty name is a name; its slot is 0.
    commands.push(Command::new("SET").bytes(b"").arg("empty name"));

    let tag = names.tag();
    for n in 0..30 {
        commands.push(Command::new("SET").arg(format!("{{{tag}}}:{n}")).arg(n));
    }
    commands.extend(expiring_collections(server, &mut names));
    commands.extend(stream_with_groups(names.name(b"stream-groups")));
    commands
}

/// Collections with an expiry, and where the server has them hash fields with one.
fn expiring_collections(server: &Program, names: &mut Names) -> Vec<Command> {
    let hash = names.name(b"hash-that-expires");
    let list = names.name(b"list-that-expires");
    let mut commands = vec![
        Command::new("HSET").bytes(hash.clone()).arg("f").arg("v").arg("g").arg("w"),
        Command::new("EXPIRE").bytes(hash).arg(5000),
        Command::new("RPUSH").bytes(list.clone()).arg("x"),
        Command::new("EXPIRE").bytes(list).arg(6000),
    ];
    let has_field_expiry = match server.family {
        Family::Redis => server.version >= (7, 4),
        Family::Valkey => server.version >= (9, 0),
    };
    if has_field_expiry {
        for fields in [3, 800] {
            let name = names.name(b"hash-of-fields-that-expire");
            let set = (0..fields).fold(Command::new("HSET").bytes(name.clone()), |set, n| set.arg(n).arg("v"));
            let expire = Command::new("HEXPIRE").bytes(name).arg(7000).arg("FIELDS").arg(2).arg(0).arg(1);
            commands.extend([set, expire]);
        }
    }
    commands
}

/// A stream of several nodes, with a group that has consumers with and without pending entries, and a deleted entry.
fn stream_with_groups(name: Vec<u8>) -> Vec<Command> {
    let on = |command: &str| Command::new(command).bytes(name.clone());
    let mut commands: Vec<Command> = (1..=300).map(|n| on("XADD").arg(format!("{n}-0")).arg("field").arg(n)).collect();
    commands.push(Command::new("XGROUP CREATE").bytes(name.clone()).arg("readers").arg("0"));
    commands.push(Command::new("XGROUP CREATE").bytes(name.clone()).arg("idle").arg("$"));
    commands.push(Command::new("XGROUP CREATECONSUMER").bytes(name.clone()).arg("readers").arg("bystander"));
    for consumer in ["one", "two"] {
        let read = Command::new("XREADGROUP GROUP readers").arg(consumer).arg("COUNT").arg(140).arg("STREAMS");
        commands.push(read.bytes(name.clone()).arg(">"));
    }
    commands.push(on("XACK").arg("readers").arg("1-0").arg("7-0"));
    commands.push(on("XCLAIM").arg("readers").arg("two").arg(0).arg("9-0"));
    commands.push(on("XDEL").arg("300-0"));
    commands
}

async fn encodings(node: &Node) -> BTreeSet<String> {
    let link = node.server.link().await.expect("a link");
    let reply = link.call(&[Command::new("KEYS *")], PATIENCE).await.expect("a reply").remove(0);
    let keys = reply.list().expect("keys").into_iter().map(|key| key.bytes().expect("a key"));
    let ask: Vec<Command> = keys.map(|key| Command::new("OBJECT ENCODING").bytes(key)).collect();
    let replies = link.call(&ask, PATIENCE).await.expect("replies");
    replies.into_iter().map(|reply| reply.text().expect("an encoding")).collect()
}

fn expected_encodings(server: &Program) -> &'static [&'static str] {
    match (server.family, server.version) {
        (_, version) if version < (7, 0) => {
            &["int", "embstr", "raw", "quicklist", "ziplist", "hashtable", "intset", "skiplist", "stream"]
        }
        _ => &["int", "embstr", "raw", "quicklist", "listpack", "hashtable", "intset", "skiplist", "stream"],
    }
}

/// A cluster in which a slot with many keys takes a while to move, by a gentle pace.
struct SlowMove<'a> {
    scene: Scene<'a>,
    tag: String,
    slots: SlotSet,
}

impl<'a> SlowMove<'a> {
    async fn prepare(cluster: &'a LocalCluster) -> Self {
        let scene = Scene::new(cluster, ProtocolChoice::Classic).await;
        let settings = Settings { pace: Pace::Gentle, ..scene.context.settings };
        let scene = Scene { context: Context { settings, ..scene.context.clone() }, ..scene };
        let slot = scene.slots_of(0).await.iter().next().expect("a slot");
        let slots: SlotSet = [slot].into_iter().collect();
        let tag = Names::of(&slots).tag();
        let name = |n: usize| format!("{{{tag}}}:filler-{n}");
        let value = "x".repeat(500);
        let sets: Vec<Command> = (0..6000).map(|n| Command::new("SET").arg(name(n)).arg(&value)).collect();
        let link = link_to(&cluster.nodes[0], 0).await;
        for batch in sets.chunks(500) {
            link.call(batch, PATIENCE).await.expect("replies");
        }
        Self { scene, tag, slots }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.tag)
    }

    /// Moves the slot while `using` runs again and again; the results of those that began before the move was over.
    async fn while_using<T>(&self, mut using: impl AsyncFnMut() -> T) -> Vec<T> {
        let mut results = Vec::new();
        let moving = self.scene.migrate(1, &self.slots);
        tokio::pin!(moving);
        let report = loop {
            tokio::select! {
                biased;
                result = using() => results.push(result),
                report = &mut moving => break report,
            }
        };
        assert_eq!(report.moved, self.slots, "{:?}", report.stayed);
        results
    }
}

/// A client of two nodes that speaks in whole pipelines and follows redirections as it should.
struct Client {
    live: LiveCluster,
    home: Address,
    /// Kinds of errors that it met.
    met: BTreeSet<String>,
}

impl Client {
    fn of(home: &Node) -> Self {
        Self { live: LiveCluster::new(Access::default()), home: home.server.address(), met: BTreeSet::new() }
    }

    /// Says `commands` until none is refused. They have to be harmless when said in vain.
    async fn say(&mut self, commands: &[Command]) -> Vec<Reply> {
        let mut ask: Option<Address> = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let asking = ask.is_some().then(|| Command::new("ASKING"));
            let node = ask.take().unwrap_or_else(|| self.home.clone());
            let words: Vec<Command> = asking.iter().cloned().chain(commands.iter().cloned()).collect();
            let mut replies = self.live.call(&node, Lane::Control, &words, PATIENCE).await.expect("replies");
            let replies = replies.split_off(usize::from(asking.is_some()));
            let refusal = replies.iter().find_map(|reply| match reply {
                Reply::Error(error) => Some(error.clone()),
                _ => None,
            });
            let Some(error) = refusal else { return replies };
            self.met.insert(error.code.clone());
            match error.code.as_str() {
                "MOVED" => self.home = place(&error),
                "ASK" => ask = Some(place(&error)),
                // Some of the keys have moved and some have not.
                "TRYAGAIN" => sleep(Duration::from_millis(2)).await,
                _ => panic!("{commands:?}: {error}"),
            }
        }
        panic!("{commands:?} was refused for {PATIENCE:?}: {:?}", self.met);
    }
}

fn place(error: &ServerError) -> Address {
    error.message.rsplit(' ').next().and_then(|place| place.parse().ok()).expect("an address")
}

#[tokio::test]
async fn commands_of_several_keys_see_all_or_none_of_a_write_while_their_slot_is_open() {
    for kind in [Kind::Redis70, Kind::Valkey80] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let slow = SlowMove::prepare(&cluster).await;
        let (a, b) = (slow.key("a"), slow.key("b"));
        let mut client = Client::of(&cluster.nodes[0]);
        let mut round = 0;
        let read = |replies: &[Reply]| match replies {
            [Reply::List(pair)] if pair[0] == pair[1] => pair[0].clone(),
            other => panic!("half a write: {other:?}"),
        };
        client.say(&[Command::new("MSET").arg(&a).arg(0).arg(&b).arg(0)]).await;
        let seen = slow
            .while_using(async || {
                round += 1;
                client.say(&[Command::new("MSET").arg(&a).arg(round).arg(&b).arg(round)]).await;
                let value = read(&client.say(&[Command::new("MGET").arg(&a).arg(&b)]).await);
                assert_eq!(value, Reply::Bytes(round.to_string().into_bytes()));
            })
            .await;
        assert!(!seen.is_empty(), "{kind}: nothing was done while the slot was open");
        let last = read(&client.say(&[Command::new("MGET").arg(&a).arg(&b)]).await).int().expect("a number");
        // The last one may have been cut off by the end of the move, before or after it was done.
        let acknowledged = i64::try_from(seen.len()).expect("few");
        assert!((acknowledged..=acknowledged + 1).contains(&last), "{kind}: {last} and not {acknowledged}");
        assert!(client.met.contains("MOVED") || client.met.contains("ASK"), "{kind}: {:?}", client.met);
    }
}

#[tokio::test]
async fn transactions_are_whole_while_their_slot_is_open() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Valkey91)).await;
    let slow = SlowMove::prepare(&cluster).await;
    let (a, b) = (slow.key("a"), slow.key("b"));
    let mut client = Client::of(&cluster.nodes[0]);
    let transaction =
        [Command::new("MULTI"), Command::new("INCR").arg(&a), Command::new("INCR").arg(&b), Command::new("EXEC")];
    client.say(&transaction).await;
    let done = slow
        .while_using(async || match client.say(&transaction).await.pop() {
            Some(Reply::List(counts)) => assert_eq!(counts[0], counts[1]),
            other => panic!("{other:?}"),
        })
        .await;
    assert!(!done.is_empty(), "nothing was done while the slot was open");
    let counts = client.say(&[Command::new("MGET").arg(&a).arg(&b)]).await;
    // The last one may have been cut off by the end of the move, after it was done.
    let [Reply::List(counts)] = &counts[..] else { panic!("{counts:?}") };
    let count = counts[0].clone().int().expect("a number");
    assert_eq!(counts[0], counts[1]);
    let acknowledged = i64::try_from(done.len()).expect("few") + 1;
    assert!((acknowledged..=acknowledged + 1).contains(&count), "{count} and not {acknowledged}");
}

#[tokio::test]
async fn a_client_that_waits_for_a_list_is_sent_after_its_slot() {
    for (kind, protocol) in [
        (Kind::Redis70, ProtocolChoice::Classic),
        (Kind::Valkey91, ProtocolChoice::Auto),
        (Kind::Redis86, ProtocolChoice::Auto),
    ] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let scene = Scene::new(&cluster, protocol).await;
        let slots: SlotSet = scene.slots_of(0).await.iter().take(40).collect();
        let queue = Command::new("BLPOP").bytes(Names::of(&slots).name(b"queue")).arg(25);
        let link = cluster.nodes[0].server.link().await.expect("a link");
        let (waited, report) =
            tokio::join!(link.call(std::slice::from_ref(&queue), PATIENCE), scene.migrate(1, &slots));
        assert_eq!(report.moved, slots, "{kind}: {:?}", report.stayed);
        let waited = waited.expect("it does not hang").remove(0);
        let Reply::Error(error) = waited else { panic!("{kind}: {waited:?}") };
        assert_eq!((error.code.as_str(), place(&error)), ("MOVED", cluster.nodes[1].server.address()), "{kind}");

        let link = cluster.nodes[1].server.link().await.expect("a link");
        let key = String::from_utf8(queue.words()[1].clone()).expect("text");
        let push = cluster.nodes[1].server.call(Command::new("RPUSH").arg(&key).arg("work"));
        let (popped, pushed) = tokio::join!(link.call(std::slice::from_ref(&queue), PATIENCE), push);
        pushed.expect("pushed");
        let popped = popped.expect("it does not hang").remove(0).list().expect("a list");
        assert_eq!(popped.last(), Some(&Reply::Bytes(b"work".to_vec())), "{kind}");
    }
}

#[tokio::test]
async fn subscribers_of_a_sharded_channel_are_told_and_served_again() {
    for (kind, protocol) in [
        (Kind::Redis70, ProtocolChoice::Classic),
        (Kind::Valkey91, ProtocolChoice::Auto),
        (Kind::Redis86, ProtocolChoice::Auto),
    ] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let scene = Scene::new(&cluster, protocol).await;
        let slots: SlotSet = scene.slots_of(0).await.iter().take(40).collect();
        let channel = String::from_utf8(Names::of(&slots).name(b"news")).expect("text");
        let mut subscriber = Subscriber::of(&cluster.nodes[0], &channel).await;
        assert_eq!(scene.migrate(1, &slots).await.moved, slots);
        subscriber.hears("sunsubscribe").await;

        let mut subscriber = Subscriber::of(&cluster.nodes[1], &channel).await;
        let publish = Command::new("SPUBLISH").arg(&channel).arg("after-the-move");
        assert_eq!(cluster.nodes[1].server.call(publish).await.expect("published"), Reply::Int(1), "{kind}");
        subscriber.hears("after-the-move").await;
    }
}

/// A connection to which messages come unasked.
struct Subscriber {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Subscriber {
    async fn of(node: &Node, channel: &str) -> Self {
        let Address { host, port } = node.server.address();
        let stream = TcpStream::connect((host, port)).await.expect("connected");
        let mut subscriber = Self { stream, heard: Vec::new() };
        subscriber.stream.write_all(format!("SSUBSCRIBE {channel}\r\n").as_bytes()).await.expect("written");
        subscriber.hears("ssubscribe").await;
        subscriber.heard.clear();
        subscriber
    }

    async fn hears(&mut self, word: &str) {
        let listen = async {
            while !String::from_utf8_lossy(&self.heard).contains(word) {
                assert_ne!(self.stream.read_buf(&mut self.heard).await.expect("read"), 0, "closed before {word}");
            }
        };
        timeout(PATIENCE, listen).await.unwrap_or_else(|_| panic!("'{word}' did not come"));
    }
}

const LIBRARY: &str = "#!lua name=billing\nserver.register_function('vat', function() return 19 end)";

#[tokio::test]
async fn slots_stay_while_the_target_lacks_a_function_of_the_source() {
    for (kind, protocol) in [(Kind::Redis70, ProtocolChoice::Classic), (Kind::Valkey91, ProtocolChoice::Auto)] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let scene = Scene::new(&cluster, protocol).await;
        let slots: SlotSet = scene.slots_of(0).await.iter().take(8).collect();
        let library = library(kind);
        let load = Command::new("FUNCTION LOAD").arg(&library);
        cluster.nodes[0].server.call(load.clone()).await.expect("loaded");
        let report = scene.migrate(1, &slots).await;
        assert_eq!((report.moved.len(), report.stayed.len()), (0, 8), "{kind}");
        assert!(report.stayed[0].1.contains("lacks the function libraries billing"), "{kind}: {:?}", report.stayed);

        let other = library.replace("19", "20");
        cluster.nodes[1].server.call(Command::new("FUNCTION LOAD").arg(other)).await.expect("loaded");
        let report = scene.migrate(1, &slots).await;
        assert!(report.moved.is_empty() && report.stayed[0].1.contains("differ"), "{kind}: {report:?}");

        cluster.nodes[1].server.call(Command::new("FUNCTION LOAD REPLACE").arg(&library)).await.expect("loaded");
        assert_eq!(scene.migrate(1, &slots).await.moved, slots, "{kind}");
    }
}

#[tokio::test]
async fn redis_takes_functions_along_when_it_moves_atomically() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis86)).await;
    let scene = Scene::new(&cluster, ProtocolChoice::Auto).await;
    let slots: SlotSet = scene.slots_of(0).await.iter().take(8).collect();
    cluster.nodes[0].server.call(Command::new("FUNCTION LOAD").arg(library(Kind::Redis86))).await.expect("loaded");
    assert_eq!(scene.migrate(1, &slots).await.moved, slots);
    assert_eq!(cluster.nodes[1].server.call(Command::new("FCALL vat 0")).await.expect("called"), Reply::Int(19));
}

fn library(kind: Kind) -> String {
    let valkey = matches!(kind, Kind::Valkey80 | Kind::Valkey91 | Kind::Valkey9Tls);
    if valkey { LIBRARY.to_owned() } else { LIBRARY.replace("server.", "redis.") }
}

#[tokio::test]
async fn a_script_is_sent_again_where_the_target_does_not_know_it() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis70)).await;
    let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
    let slots: SlotSet = scene.slots_of(0).await.iter().take(8).collect();
    let [source, target] = [0, 1].map(|place| &cluster.nodes[place].server);
    let script = "return redis.call('INCR', KEYS[1])";
    let digest = source.text(Command::new("SCRIPT LOAD").arg(script)).await.expect("loaded");
    let call = |word: &str, what: &str| Command::new(word).arg(what).arg(1).bytes(Names::of(&slots).name(b"counter"));
    assert_eq!(source.call(call("EVALSHA", &digest)).await.expect("called"), Reply::Int(1));
    assert_eq!(scene.migrate(1, &slots).await.moved, slots);
    // No server takes its cache of scripts along, and every client knows what to do about it.
    let unknown = target.call(call("EVALSHA", &digest)).await.expect_err("not there").to_string();
    assert!(unknown.contains("EVALSHA"), "{unknown}");
    assert_eq!(target.call(call("EVAL", script)).await.expect("called"), Reply::Int(2));
    assert_eq!(target.call(call("EVALSHA", &digest)).await.expect("called"), Reply::Int(3));
}

#[tokio::test]
async fn a_target_that_fills_up_half_way_through_a_slot_loses_no_key() {
    for kind in [Kind::Redis70, Kind::Redis86] {
        let _turn = turn().await;
        let cluster = start(LocalCluster::of(kind)).await;
        let scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
        let slots: SlotSet = scene.slots_of(0).await.iter().take(1).collect();
        let (tag, value) = (Names::of(&slots).tag(), "x".repeat(20_000));
        let sets: Vec<Command> =
            (0..300).map(|n| Command::new("SET").arg(format!("{{{tag}}}:{n}")).arg(&value)).collect();
        link_to(&cluster.nodes[0], 0).await.call(&sets, PATIENCE).await.expect("replies");
        let live = LiveCluster::new(Access::default());
        let seeds = [cluster.nodes[2].server.address()];
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("record");
        verify(&live, &seeds, Task::Record(&path)).await.expect("recorded");

        let target = &cluster.nodes[1].server;
        let memory = target.text(Command::new("INFO memory")).await.expect("a text");
        let used: u64 =
            memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).expect("a number");
        let limit = Command::new("CONFIG SET maxmemory-policy noeviction maxmemory").arg(used + 3_000_000);
        target.call(limit).await.expect("set");
        let report = scene.migrate(1, &slots).await;
        assert!(report.moved.is_empty() && report.stayed[0].1.contains("OOM"), "{kind}: {report:?}");
        assert!(report.keys > 50, "{kind}: some keys went before it was full: {report:?}");
        let half = verify(&live, &seeds, Task::Against(&path)).await.expect("compared");
        assert!(half.clean && half.compared.as_ref().map(|compared| compared.same) == Some(300), "{kind}: {half:?}");

        target.call(Command::new("CONFIG SET maxmemory 0")).await.expect("set");
        let recovery = migration::recover(&seeds, &scene.context).await.expect("the journal is readable");
        assert!(recovery.is_clear(), "{kind}: {recovery:?}");
        cluster.wait_until_agreed().await.expect("agreed");
        let whole = verify(&live, &seeds, Task::Against(&path)).await.expect("compared");
        assert!(whole.clean && whole.compared.as_ref().map(|compared| compared.same) == Some(300), "{kind}: {whole:?}");
        assert_eq!(scene.slots_of(1).await.iter().filter(|slot| slots.contains(*slot)).count(), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_move_stops_when_the_target_evicts_keys_to_make_room() {
    let _turn = turn().await;
    let cluster = start(LocalCluster::of(Kind::Redis70)).await;
    let mut scene = Scene::new(&cluster, ProtocolChoice::Classic).await;
    // It looks before each window, and gently those are four slots.
    scene.context.settings.pace = Pace::Gentle;
    let slots: SlotSet = scene.slots_of(0).await.iter().take(200).collect();
    let mut names = Names::of(&slots);
    let value = "x".repeat(20_000);
    let sets: Vec<Command> = (0..600).map(|_| Command::new("SET").bytes(names.name(b"large")).arg(&value)).collect();
    let link = link_to(&cluster.nodes[0], 0).await;
    link.call(&sets, PATIENCE).await.expect("replies");
    let target = &cluster.nodes[1].server;
    target.call(Command::new("CONFIG SET maxmemory 6mb maxmemory-policy allkeys-lru")).await.expect("set");

    let report = scene.migrate(1, &slots).await;
    let stats = target.text(Command::new("INFO stats")).await.expect("a text");
    let evicted = stats.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse::<u64>().ok());
    let evicted = evicted.expect("a number");
    assert!(report.stayed.len() > 100, "{} slots were moved over {evicted} evicted keys", report.moved.len());
    assert!(report.stayed.iter().any(|(_, reason)| reason.contains("evict")), "{:?}", report.stayed);
    assert!(evicted < 100, "{evicted} keys were lost");
}
