//! Reads one key in pages and reduces its value to a digest. Pure.
//!
//! `DUMP` differs between server versions and encodings; what commands return does not. So each type is read by its own
//! commands, and two servers that would answer every client alike give the same digest: the order of a hash or a set
//! does not count, scores are numbers and not text, and of a stream its groups, consumers and pending entries count too.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::cluster::{Command, Reply, ReplyError, ServerError};

/// Bytes of a string asked for at once.
const TEXT_PAGE: usize = 64 * 1024;
/// Elements of a collection asked for at once.
const PAGE: usize = 128;

/// What stands for a value: equal for equal values of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub(super) [u8; 16]);

/// A key as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// As `TYPE` says it.
    pub(super) kind: String,
    /// When it expires, Unix time in milliseconds by our clock; none if it does not.
    pub(super) expires_at_ms: Option<u64>,
    /// When the first of its hash fields expires, by the server's clock.
    pub(super) fields_expire_at_ms: Option<u64>,
    pub(super) digest: Digest,
}

/// Names with values, or members with scores.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What came of a page.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// There is more to read: ask [`Reader::next`].
    More,
    /// There is no such key.
    Gone,
    /// It became something else while we read.
    Changed,
    /// The node sends us elsewhere, or cannot answer now.
    Turned(ServerError),
    /// All of it was read.
    Whole(Seen),
}

/// Reads one key.
#[derive(Debug)]
pub(super) struct Reader {
    key: Vec<u8>,
    stage: Stage,
    kind: String,
    expires_at_ms: Option<u64>,
    fields_expire_at_ms: Option<u64>,
    /// What has an order.
    ordered: Sha256,
    /// What has none. A scan may show an element twice, hence a set: 16 bytes for each element of the key.
    unordered: HashSet<[u8; 16]>,
}

#[derive(Debug)]
enum Stage {
    Kind,
    Text {
        offset: usize,
    },
    List {
        offset: usize,
    },
    Ranked {
        offset: usize,
    },
    Members {
        cursor: Vec<u8>,
    },
    Fields {
        cursor: Vec<u8>,
    },
    FieldExpiry {
        cursor: Vec<u8>,
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Entries {
        after: Option<Vec<u8>>,
    },
    Groups,
    /// The groups still to be read, the current one last, and after which of its pending entries to go on.
    Pending {
        groups: Vec<Vec<u8>>,
        after: Option<Vec<u8>>,
    },
    /// A type of a module, or one that is newer than this program: the server's own serialisation.
    Dump,
}

/// Where a page leads.
enum Then {
    Read(Stage),
    Whole,
    Gone,
}

impl Reader {
    pub(super) fn new(key: Vec<u8>) -> Self {
        Self {
            key,
            stage: Stage::Kind,
            kind: String::new(),
            expires_at_ms: None,
            fields_expire_at_ms: None,
            ordered: Sha256::new(),
            unordered: HashSet::new(),
        }
    }

    /// The commands of the next page.
    pub(super) fn next(&self) -> Vec<Command> {
        let on_key = |command: &str| Command::new(command).bytes(self.key.clone());
        let span = |command: &str, offset: usize, size: usize| on_key(command).arg(offset).arg(offset + size - 1);
        match &self.stage {
            Stage::Kind => vec![on_key("TYPE"), on_key("PTTL")],
            Stage::Text { offset } => vec![span("GETRANGE", *offset, TEXT_PAGE)],
            Stage::List { offset } => vec![span("LRANGE", *offset, PAGE)],
            Stage::Ranked { offset } => vec![span("ZRANGE", *offset, PAGE).arg("WITHSCORES")],
            Stage::Members { cursor } => vec![on_key("SSCAN").bytes(cursor.clone()).arg("COUNT").arg(PAGE)],
            Stage::Fields { cursor } => vec![on_key("HSCAN").bytes(cursor.clone()).arg("COUNT").arg(PAGE)],
            Stage::FieldExpiry { fields, .. } => {
                let command = on_key("HPEXPIRETIME").arg("FIELDS").arg(fields.len());
                vec![fields.iter().fold(command, |command, (field, _)| command.bytes(field.clone()))]
            }
            Stage::Entries { after } => vec![page(on_key("XRANGE"), after.as_deref(), false)],
            Stage::Groups => vec![on_key("XINFO STREAM"), on_key("XINFO GROUPS")],
            Stage::Pending { groups, after } => {
                let group = groups.last().expect("the stage ends with the last group").clone();
                let pending = page(on_key("XPENDING").bytes(group.clone()), after.as_deref(), true);
                vec![on_key("XINFO CONSUMERS").bytes(group), pending]
            }
            Stage::Dump => vec![on_key("DUMP")],
        }
    }

    /// Hears the replies to [`next`](Self::next), which came at `now_ms`.
    ///
    /// # Errors
    /// When the server said what it should not: it may not let us read this key.
    pub(super) fn hear(&mut self, replies: Vec<Reply>, now_ms: u64) -> Result<Heard, ReplyError> {
        match self.take_in(replies, now_ms) {
            Err(ReplyError::Refused(error)) => match error.code.as_str() {
                "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" => Ok(Heard::Turned(error)),
                "WRONGTYPE" | "NOGROUP" => Ok(Heard::Changed),
                _ if error.message == "no such key" => Ok(Heard::Changed),
                _ => Err(error.into()),
            },
            heard => heard,
        }
    }

    fn take_in(&mut self, replies: Vec<Reply>, now_ms: u64) -> Result<Heard, ReplyError> {
        let mut replies = replies.into_iter();
        let (first, second) = (replies.next().unwrap_or(Reply::Nil), replies.next().unwrap_or(Reply::Nil));
        let then = match std::mem::replace(&mut self.stage, Stage::Kind) {
            Stage::Kind => self.take_kind(first, second, now_ms)?,
            Stage::Text { offset } => self.take_text(offset, first)?,
            Stage::List { offset } => self.take_items(offset, first)?,
            Stage::Ranked { offset } => self.take_ranked(offset, first)?,
            Stage::Members { .. } => self.take_members(first)?,
            Stage::Fields { .. } => take_fields(first)?,
            Stage::FieldExpiry { cursor, fields } => self.take_field_expiry(cursor, &fields, first)?,
            Stage::Entries { after } => self.take_entries(after, first)?,
            Stage::Groups => self.take_groups(first, second)?,
            Stage::Pending { groups, after } => self.take_pending(groups, after, first, second)?,
            Stage::Dump => self.take_dump(first)?,
        };
        Ok(match then {
            Then::Gone => Heard::Gone,
            Then::Whole => self.whole(),
            Then::Read(stage) => {
                self.stage = stage;
                Heard::More
            }
        })
    }

    fn take_kind(&mut self, kind: Reply, left_ms: Reply, now_ms: u64) -> Result<Then, ReplyError> {
        self.kind = kind.text()?;
        let left_ms = left_ms.int()?;
        if self.kind == "none" || left_ms == -2 {
            return Ok(Then::Gone);
        }
        self.expires_at_ms = u64::try_from(left_ms).ok().map(|left| now_ms + left);
        Ok(Then::Read(first_stage(&self.kind)))
    }

    fn take_text(&mut self, offset: usize, text: Reply) -> Result<Then, ReplyError> {
        let text = text.bytes()?;
        self.ordered.update(&text);
        let is_last = text.len() < TEXT_PAGE;
        Ok(if is_last { Then::Whole } else { Then::Read(Stage::Text { offset: offset + text.len() }) })
    }

    fn take_items(&mut self, offset: usize, items: Reply) -> Result<Then, ReplyError> {
        let items = items.list()?;
        if items.is_empty() {
            return Ok(Then::Whole);
        }
        let offset = offset + items.len();
        for item in items {
            self.add(&item.bytes()?);
        }
        Ok(Then::Read(Stage::List { offset }))
    }

    fn take_ranked(&mut self, offset: usize, members: Reply) -> Result<Then, ReplyError> {
        let members = pairs(members)?;
        for (member, score) in &members {
            self.add(member);
            self.add(&number(score)?.to_bits().to_be_bytes());
        }
        let is_last = members.is_empty();
        Ok(if is_last { Then::Whole } else { Then::Read(Stage::Ranked { offset: offset + members.len() }) })
    }

    fn take_members(&mut self, page: Reply) -> Result<Then, ReplyError> {
        let (cursor, members) = scanned(page)?;
        for member in members.list()? {
            self.unordered.insert(digest_of(&[&member.bytes()?]));
        }
        Ok(if cursor == b"0" { Then::Whole } else { Then::Read(Stage::Members { cursor }) })
    }

    fn take_field_expiry(
        &mut self,
        cursor: Vec<u8>,
        fields: &[(Vec<u8>, Vec<u8>)],
        expiry: Reply,
    ) -> Result<Then, ReplyError> {
        for ((field, value), expires_at_ms) in fields.iter().zip(field_expiry(expiry, fields.len())?) {
            let written = expires_at_ms.map(|at| at.to_string()).unwrap_or_default();
            self.unordered.insert(digest_of(&[field, value, written.as_bytes()]));
            self.fields_expire_at_ms = self.fields_expire_at_ms.into_iter().chain(expires_at_ms).min();
        }
        Ok(if cursor == b"0" { Then::Whole } else { Then::Read(Stage::Fields { cursor }) })
    }

    fn take_entries(&mut self, mut after: Option<Vec<u8>>, entries: Reply) -> Result<Then, ReplyError> {
        let entries = entries.list()?;
        let is_full = entries.len() == PAGE;
        for entry in entries {
            let mut parts = entry.list()?.into_iter();
            let id = parts.next().unwrap_or(Reply::Nil).bytes()?;
            self.add(&id);
            for word in parts.next().unwrap_or(Reply::Nil).list()? {
                self.add(&word.bytes()?);
            }
            after = Some(id);
        }
        Ok(Then::Read(if is_full { Stage::Entries { after } } else { Stage::Groups }))
    }

    fn take_groups(&mut self, stream: Reply, groups: Reply) -> Result<Then, ReplyError> {
        self.add(&field(stream, "last-generated-id")?);
        let mut names = Vec::new();
        for group in groups.list()? {
            let (name, delivered) = (field(group.clone(), "name")?, field(group, "last-delivered-id")?);
            self.add(&name);
            self.add(&delivered);
            names.push(name);
        }
        Ok(pending(names, None))
    }

    fn take_pending(
        &mut self,
        mut groups: Vec<Vec<u8>>,
        mut after: Option<Vec<u8>>,
        consumers: Reply,
        entries: Reply,
    ) -> Result<Then, ReplyError> {
        if after.is_none() {
            let names = consumers.list()?.into_iter().map(|consumer| field(consumer, "name"));
            let mut names = names.collect::<Result<Vec<_>, _>>()?;
            names.sort_unstable();
            names.iter().for_each(|name| self.add(name));
        }
        let entries = entries.list()?;
        let is_full = entries.len() == PAGE;
        for entry in entries {
            let mut parts = entry.list()?.into_iter();
            // Its idle time, the third part, changes by itself.
            let (id, consumer, deliveries) = (parts.next(), parts.next(), parts.nth(1));
            let id = id.unwrap_or(Reply::Nil).bytes()?;
            self.add(&id);
            self.add(&consumer.unwrap_or(Reply::Nil).bytes()?);
            self.add(&deliveries.unwrap_or(Reply::Nil).int()?.to_be_bytes());
            after = Some(id);
        }
        if !is_full {
            after = None;
            groups.pop();
        }
        Ok(pending(groups, after))
    }

    fn take_dump(&mut self, dump: Reply) -> Result<Then, ReplyError> {
        let Reply::Bytes(dump) = dump.ok()? else { return Ok(Then::Gone) };
        // Ten bytes of version and checksum end it.
        self.ordered.update(&dump[..dump.len().saturating_sub(10)]);
        Ok(Then::Whole)
    }

    /// Adds a part that is not to run into its neighbours.
    fn add(&mut self, part: &[u8]) {
        self.ordered.update((part.len() as u64).to_be_bytes());
        self.ordered.update(part);
    }

    fn whole(&mut self) -> Heard {
        let sum = self.unordered.iter().fold(0_u128, |sum, part| sum.wrapping_add(u128::from_be_bytes(*part)));
        self.ordered.update((self.unordered.len() as u64).to_be_bytes());
        self.ordered.update(sum.to_be_bytes());
        Heard::Whole(Seen {
            kind: std::mem::take(&mut self.kind),
            expires_at_ms: self.expires_at_ms,
            fields_expire_at_ms: self.fields_expire_at_ms,
            digest: Digest(first_half(std::mem::take(&mut self.ordered))),
        })
    }
}

fn take_fields(page: Reply) -> Result<Then, ReplyError> {
    let (cursor, fields) = scanned(page)?;
    let fields = pairs(fields)?;
    Ok(match (fields.is_empty(), cursor == b"0") {
        (true, true) => Then::Whole,
        (true, false) => Then::Read(Stage::Fields { cursor }),
        (false, _) => Then::Read(Stage::FieldExpiry { cursor, fields }),
    })
}

/// The groups that are left to be read, if any.
fn pending(groups: Vec<Vec<u8>>, after: Option<Vec<u8>>) -> Then {
    if groups.is_empty() { Then::Whole } else { Then::Read(Stage::Pending { groups, after }) }
}

fn first_stage(kind: &str) -> Stage {
    let cursor = || b"0".to_vec();
    match kind {
        "string" => Stage::Text { offset: 0 },
        "list" => Stage::List { offset: 0 },
        "zset" => Stage::Ranked { offset: 0 },
        "set" => Stage::Members { cursor: cursor() },
        "hash" => Stage::Fields { cursor: cursor() },
        "stream" => Stage::Entries { after: None },
        _ => Stage::Dump,
    }
}

/// Adds the span of ids after `after`, and how many: `- + COUNT n`, or `- + n` for a `bare_count`.
fn page(command: Command, after: Option<&[u8]>, bare_count: bool) -> Command {
    let start = after.map_or(b"-".to_vec(), |id| [b"(", id].concat());
    let command = command.bytes(start).arg("+");
    if bare_count { command.arg(PAGE) } else { command.arg("COUNT").arg(PAGE) }
}

fn digest_of(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    first_half(hash)
}

fn first_half(hash: Sha256) -> [u8; 16] {
    let whole = hash.finalize();
    std::array::from_fn(|place| whole[place])
}

/// A cursor, and what was found.
fn scanned(reply: Reply) -> Result<(Vec<u8>, Reply), ReplyError> {
    let mut parts = reply.list()?.into_iter();
    let cursor = parts.next().unwrap_or(Reply::Nil).bytes()?;
    Ok((cursor, parts.next().unwrap_or(Reply::Nil)))
}

fn pairs(reply: Reply) -> Result<Pairs, ReplyError> {
    let mut words = reply.list()?.into_iter();
    let mut pairs = Vec::with_capacity(words.len() / 2);
    while let (Some(one), Some(other)) = (words.next(), words.next()) {
        pairs.push((one.bytes()?, other.bytes()?));
    }
    Ok(pairs)
}

/// A score: old servers write `0.10000000000000001` and new ones `0.1`.
fn number(text: &[u8]) -> Result<f64, ReplyError> {
    let read = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    read.ok_or_else(|| Reply::Bytes(text.to_vec()).unexpected("a score"))
}

/// When each field expires. Servers before Redis 7.4 and Valkey 9 do not know the question, and have no such fields.
fn field_expiry(reply: Reply, fields: usize) -> Result<Vec<Option<u64>>, ReplyError> {
    match reply {
        Reply::Error(error) if error.message.starts_with("unknown command") => Ok(vec![None; fields]),
        reply => {
            let times: Vec<Reply> = reply.list()?;
            if times.len() != fields {
                return Err(Reply::List(times).unexpected("one time per field"));
            }
            times.into_iter().map(|time| Ok(u64::try_from(time.int()?).ok())).collect()
        }
    }
}

/// The value after `name` in a list of names and values.
fn field(reply: Reply, name: &'static str) -> Result<Vec<u8>, ReplyError> {
    let mut words = reply.list()?.into_iter();
    while let (Some(word), Some(value)) = (words.next(), words.next()) {
        if word.bytes()? == name.as_bytes() {
            return value.bytes();
        }
    }
    Err(Reply::Nil.unexpected(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    fn words(words: &[&str]) -> Reply {
        Reply::List(words.iter().map(|word| bytes(word)).collect())
    }

    fn refusal(code: &str, message: &str) -> Reply {
        Reply::Error(ServerError { code: code.into(), message: message.into() })
    }

    /// Reads a key from scripted pages, and returns what was seen with the commands that were said.
    fn read(pages: &[&[Reply]]) -> (Heard, Vec<String>) {
        let mut reader = Reader::new(b"k".to_vec());
        let mut said = Vec::new();
        for page in pages {
            said.extend(reader.next().iter().map(ToString::to_string));
            match reader.hear(page.to_vec(), 1_000_000).expect("readable") {
                Heard::More => {}
                heard => return (heard, said),
            }
        }
        panic!("there is more: {said:?}");
    }

    fn seen(kind: &str, pages: &[Reply]) -> Seen {
        let first = [bytes(kind), Reply::Int(-1)];
        let pages: Vec<&[Reply]> = std::iter::once(&first[..]).chain(pages.iter().map(std::slice::from_ref)).collect();
        match read(&pages).0 {
            Heard::Whole(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_string_is_read_with_its_expiry() {
        let (heard, said) = read(&[&[bytes("string"), Reply::Int(500)], &[bytes("value")]]);
        assert_eq!(said, ["TYPE k", "PTTL k", "GETRANGE k 0 65535"]);
        let Heard::Whole(seen) = heard else { panic!("{heard:?}") };
        assert_eq!((seen.kind.as_str(), seen.expires_at_ms), ("string", Some(1_000_500)));
        assert_ne!(seen.digest, self::seen("string", &[bytes("other")]).digest);
    }

    #[test]
    fn the_order_of_a_set_does_not_count_and_that_of_a_list_does() {
        let set = |members: &[&str]| seen("set", &[Reply::List(vec![bytes("0"), words(members)])]).digest;
        assert_eq!(set(&["a", "b"]), set(&["b", "a", "b"]), "a scan may show a member twice");
        assert_ne!(set(&["a", "b"]), set(&["a"]));
        let list = |items: &[&str]| seen("list", &[words(items), words(&[])]).digest;
        assert_ne!(list(&["a", "b"]), list(&["b", "a"]));
        assert_ne!(list(&["ab", "c"]), list(&["a", "bc"]), "elements do not run into each other");
    }

    #[test]
    fn scores_are_numbers_and_not_text() {
        let zset = |score: &str| seen("zset", &[words(&["m", score]), words(&[])]).digest;
        assert_eq!(zset("0.10000000000000001"), zset("0.1"));
        assert_eq!(zset("inf"), zset("inf"));
        assert_ne!(zset("1"), zset("2"));
    }

    #[test]
    fn fields_that_expire_count_and_servers_without_them_are_no_trouble() {
        let hash = |expiry: Reply| seen("hash", &[Reply::List(vec![bytes("0"), words(&["f", "v"])]), expiry]);
        let old = hash(refusal("ERR", "unknown command 'HPEXPIRETIME', with args beginning with: "));
        let lasting = hash(Reply::List(vec![Reply::Int(-1)]));
        assert_eq!(old, lasting);
        let fleeting = hash(Reply::List(vec![Reply::Int(77)]));
        assert_eq!(fleeting.fields_expire_at_ms, Some(77));
        assert_ne!(fleeting.digest, lasting.digest);
    }

    #[test]
    fn a_stream_is_read_with_its_groups_and_pending_entries() {
        let entry = Reply::List(vec![bytes("1-1"), words(&["f", "v"])]);
        let about = words(&["length", "1", "last-generated-id", "1-1"]);
        let group = Reply::List(vec![words(&["name", "g", "last-delivered-id", "1-1"])]);
        let consumers = Reply::List(vec![words(&["name", "c", "pending", "1"])]);
        let pending = |deliveries| {
            Reply::List(vec![Reply::List(vec![bytes("1-1"), bytes("c"), Reply::Int(5), Reply::Int(deliveries)])])
        };
        let read = |deliveries| {
            read(&[
                &[bytes("stream"), Reply::Int(-1)],
                &[Reply::List(vec![entry.clone()])],
                &[about.clone(), group.clone()],
                &[consumers.clone(), pending(deliveries)],
            ])
        };
        let ((one, said), (other, _)) = (read(1), read(2));
        assert_eq!(said[4..], ["XINFO GROUPS k", "XINFO CONSUMERS k g", "XPENDING k g - + 128"]);
        assert_ne!(one, other, "how often an entry was delivered is part of the value");
    }

    #[test]
    fn keys_that_go_away_change_or_move_are_no_errors() {
        let hear = |replies: &[Reply]| Reader::new(b"k".to_vec()).hear(replies.to_vec(), 0);
        assert_eq!(hear(&[bytes("none"), Reply::Int(-2)]), Ok(Heard::Gone));
        assert!(matches!(hear(&[refusal("MOVED", "7 h:1")]), Ok(Heard::Turned(error)) if error.code == "MOVED"));
        assert!(hear(&[refusal("NOPERM", "no")]).is_err(), "a refusal is told, not hidden");
        let (heard, _) = read(&[&[bytes("list"), Reply::Int(-1)], &[refusal("WRONGTYPE", "x")]]);
        assert_eq!(heard, Heard::Changed);
    }

    #[test]
    fn long_values_are_read_page_by_page() {
        let page = Reply::Bytes(vec![b'x'; TEXT_PAGE]);
        let (heard, said) = read(&[&[bytes("string"), Reply::Int(-1)], &[page], &[bytes("")]]);
        assert!(matches!(heard, Heard::Whole(_)));
        assert_eq!(said[3], "GETRANGE k 65536 131071");
        let some: Vec<String> = (0..PAGE).map(|n| n.to_string()).collect();
        let some = words(&some.iter().map(String::as_str).collect::<Vec<_>>());
        let (_, said) = read(&[&[bytes("list"), Reply::Int(-1)], &[some], &[words(&[])]]);
        assert_eq!(said[3], "LRANGE k 128 255");
    }
}
