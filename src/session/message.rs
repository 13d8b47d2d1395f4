//! The messages of the control socket. `docs/protocol.md` lists them byte by byte.

use super::codec::{Reader, Writer};
use crate::backend::DeviceId;
use crate::describe::{Content, DESCRIPTION_WORDS, Described};
use crate::handle::{ExternalHandle, Origin, WireHandle};
use crate::plan::Party;
use crate::signaler::Policy;
use crate::sys::PAGE;
use crate::{Error, ErrorKind, MAX_SLOTS, OnStall, PROTOCOL, Result};
use std::time::Duration;

const MAGIC: u32 = u32::from_le_bytes(*b"bips");
const MAX_TEXT: usize = 1024;
const MAX_NAME: usize = 100;
const MAX_KIND: usize = 32;
const MAX_CONSUMERS: usize = 64;

/// Bytes of a consumer's label.
pub(crate) const MAX_LABEL: usize = 64;

/// Most bytes of the parties that a consumer names.
pub(crate) const MAX_WANTED: usize = 256;

/// From a client, first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Seat me. The label says to people who I am; it may be empty. Then the parties for which I want the memory.
    Join(Policy, String, Vec<Party>),
    /// Tell me about the stream.
    Query,
}

/// To a client, first message.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Welcome(Welcome),
    Info(StreamInfo),
    Refused(ErrorKind, String),
}

/// Everything a consumer needs; board, seat, bell and the memory objects come as descriptors, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Welcome {
    pub(crate) stream_id: [u64; 2],
    pub(crate) pid: u32,
    pub(crate) max_held: u32,
    pub(crate) writable: bool,
    /// Whether it may put out reliable consumers.
    pub(crate) expels: bool,
    /// Whether it wants to be told in the seat that the consumer lives.
    pub(crate) watches: bool,
    pub(crate) slot_bytes: u64,
    pub(crate) kind: String,
    pub(crate) device: DeviceId,
    pub(crate) content: Content,
    /// The memory objects, in the order of their descriptors.
    pub(crate) memories: Vec<WireHandle>,
    /// Where each slot lies.
    pub(crate) slots: Vec<SlotEntry>,
}

/// Where a slot lies: in which memory object, and from which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotEntry {
    pub(crate) memory: u32,
    pub(crate) offset: u64,
}

/// The public facts of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Process id of the producer, as seen from its own pid namespace.
    pub pid: u32,
    /// Memory kind of the pool.
    pub memory: String,
    /// Slots of the pool.
    pub slots: u32,
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// What a slot holds.
    pub content: Content,
    /// Frames published so far.
    pub published: u64,
    /// Frames taken from keep-last consumers before they read them.
    pub evicted: u64,
    /// Consumers put out because they held the producer up.
    pub expelled: u64,
    /// What the producer does about such consumers.
    pub on_stall: OnStall,
    /// For how long it has had no slot to write to, if it asked for one in vain and none has come free since.
    pub stalled_for: Option<Duration>,
    /// Whether consumers may write.
    pub writable: bool,
    /// Whether reliable consumers are admitted.
    pub reliable: bool,
    /// The access rule.
    pub access: String,
    /// Most frames one consumer may lease.
    pub max_held: u32,
    /// Frames a late joiner still gets.
    pub history: u32,
    /// Who consumes it now.
    pub consumers: Vec<ConsumerInfo>,
}

/// One consumer, as its producer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// What it calls itself, for people: anybody who is admitted may claim any name. Without control characters, at most
    /// 64 bytes, "" if it gave none.
    pub label: String,
    /// Process id; 0 where the kernel does not show it to the producer (other pid namespace).
    pub pid: u32,
    /// User id as the producer sees it.
    pub uid: u32,
    /// How it reads.
    pub policy: Policy,
    /// Frames it leases.
    pub held: u32,
    /// How long ago the oldest of them was published: it can't have held any for longer.
    pub held_for: Duration,
    /// Frames published for it that it has not taken.
    pub unread: u32,
    /// How long ago the oldest of them was published.
    pub unread_for: Duration,
    /// Frames it has taken, as it says itself.
    pub received: u64,
    /// Frames it never saw because newer ones took their place.
    pub missed: u64,
    /// Whether the producer put it out. It is still listed as long as it may read what it holds.
    pub expelled: bool,
    /// Whether the producer has no slot now, and it is this consumer that must read or give back frames.
    pub in_the_way: bool,
}

impl ConsumerInfo {
    /// Who it is, for people: `consumer pid 812 "detector@box"`.
    pub fn who(&self) -> String {
        // Quoted, and with what would turn the line around escaped: it is the consumer's text.
        let label = if self.label.is_empty() { String::new() } else { format!(" {:?}", self.label) };
        match self.pid {
            0 if label.is_empty() => "a consumer in another container".into(),
            0 => format!("consumer{label} in another container"),
            pid => format!("consumer pid {pid}{label}"),
        }
    }
}

mod tag {
    pub(super) const JOIN: u16 = 1;
    pub(super) const QUERY: u16 = 2;
    pub(super) const WELCOME: u16 = 16;
    pub(super) const INFO: u16 = 17;
    pub(super) const REFUSED: u16 = 18;
}

fn begin(tag: u16) -> Writer {
    let mut writer = Writer::default();
    writer.u32(MAGIC).u16(PROTOCOL.0).u16(PROTOCOL.1).u16(tag).u16(0);
    writer
}

/// What doesn't fit is for ever.
fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Checks the head and gives the tag.
fn open(reader: &mut Reader<'_>) -> Result<u16> {
    if reader.u32()? != MAGIC {
        return Err(Error::protocol("the peer does not speak bips"));
    }
    let (major, minor) = (reader.u16()?, reader.u16()?);
    if major != PROTOCOL.0 {
        return Err(Error::protocol(format!(
            "this side speaks protocol {}.{}, the peer {major}.{minor}; update the older of the two to the same major \
             version",
            PROTOCOL.0, PROTOCOL.1
        )));
    }
    let tag = reader.u16()?;
    reader.u16()?;
    Ok(tag)
}

fn write_policy(writer: &mut Writer, policy: Policy) {
    let (kind, depth) = match policy {
        Policy::Reliable => (0, 0),
        Policy::KeepLast(depth) => (1, depth),
    };
    writer.u32(kind).u32(depth);
}

fn read_policy(reader: &mut Reader<'_>) -> Result<Policy> {
    match (reader.u32()?, reader.u32()?) {
        (0, _) => Ok(Policy::Reliable),
        (1, depth) => Policy::KeepLast(depth).checked(),
        (kind, _) => {
            Err(Error::protocol(format!("the peer asks for policy {kind}, which this version does not know")))
        }
    }
}

fn write_content(writer: &mut Writer, content: &Content) {
    let described = Described::new(*content, &[]).expect("no metadata is not too much");
    writer.words(&described.encode());
}

fn read_content(reader: &mut Reader<'_>, slot_bytes: u64) -> Result<Content> {
    Ok(Described::decode(&reader.words::<DESCRIPTION_WORDS>()?, slot_bytes)?.content)
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = begin(match self {
            Self::Join(..) => tag::JOIN,
            Self::Query => tag::QUERY,
        });
        if let Self::Join(policy, label, wanted) = self {
            write_policy(&mut writer, *policy);
            writer.text(label, MAX_LABEL);
            if !wanted.is_empty() {
                let words: Vec<_> = wanted.iter().map(ToString::to_string).collect();
                writer.text(&words.join(","), MAX_WANTED);
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(message);
        match open(&mut reader)? {
            tag::JOIN => {
                let policy = read_policy(&mut reader)?;
                // One that says no more has none.
                let label = if reader.is_empty() { String::new() } else { reader.text(MAX_LABEL)? };
                let wanted = if reader.is_empty() { String::new() } else { reader.text(MAX_WANTED)? };
                Ok(Self::Join(policy, label, Party::parse_list(&wanted)?))
            }
            tag::QUERY => Ok(Self::Query),
            tag => {
                Err(Error::protocol(format!("the peer sent request {tag}, which this version does not know")))
            }
        }
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome(welcome) => welcome.encode(),
            Self::Info(info) => info.encode(),
            Self::Refused(kind, text) => {
                let mut writer = begin(tag::REFUSED);
                writer.u32(*kind as u32).text(text, MAX_TEXT);
                writer.finish()
            }
        }
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(message);
        match open(&mut reader)? {
            tag::WELCOME => Welcome::decode(&mut reader).map(Self::Welcome),
            tag::INFO => StreamInfo::decode(&mut reader).map(Self::Info),
            tag::REFUSED => {
                let kind = ErrorKind::from_code(reader.u32()?);
                Ok(Self::Refused(kind, reader.text(MAX_TEXT)?))
            }
            tag => {
                Err(Error::protocol(format!("the peer sent reply {tag}, which this version does not know")))
            }
        }
    }
}

impl Welcome {
    fn encode(&self) -> Vec<u8> {
        let mut writer = begin(tag::WELCOME);
        writer.words(&self.stream_id).u32(self.pid).u32(self.max_held);
        let flags = u32::from(self.writable) | u32::from(self.expels) << 1 | u32::from(self.watches) << 2;
        writer.u32(flags);
        writer.u32(self.slots.len() as u32).u64(self.slot_bytes);
        writer.text(&self.kind, MAX_KIND).raw(&self.device.0);
        write_content(&mut writer, &self.content);
        writer.u32(self.memories.len() as u32);
        for memory in &self.memories {
            writer.u32(memory.tag).u64(memory.len);
        }
        for slot in &self.slots {
            writer.u32(slot.memory).u64(slot.offset);
        }
        for origin in self.memories.iter().filter_map(|memory| memory.origin) {
            writer.raw(&origin.device.0).raw(&origin.driver.0).u32(origin.memory_type).u32(0);
        }
        writer.finish()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let nonsense =
            |what: &str| Error::protocol(format!("the producer offers {what}; update or replace it"));
        let stream_id = reader.words()?;
        let (pid, max_held, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let slot_count = reader.u32()?;
        if !(1..=MAX_SLOTS).contains(&slot_count) || !(1..=slot_count).contains(&max_held) {
            return Err(nonsense(&format!("{slot_count} slots, {max_held} of them at a time")));
        }
        let slot_bytes = reader.u64()?;
        if slot_bytes == 0 || slot_bytes % PAGE != 0 {
            return Err(nonsense("slots that are no whole pages"));
        }
        let kind = reader.text(MAX_KIND)?;
        let device = DeviceId(reader.take(16)?.try_into().expect("sixteen bytes were taken"));
        let content = read_content(reader, slot_bytes)?;
        let memory_count = reader.u32()?;
        if !(1..=slot_count).contains(&memory_count) {
            return Err(nonsense(&format!("{memory_count} memory objects for {slot_count} slots")));
        }
        let mut memories = Vec::with_capacity(memory_count as usize);
        for _ in 0..memory_count {
            memories.push(WireHandle { tag: reader.u32()?, len: reader.u64()?, origin: None });
        }
        let mut slots = Vec::with_capacity(slot_count as usize);
        for _ in 0..slot_count {
            let slot = SlotEntry { memory: reader.u32()?, offset: reader.u64()? };
            let len = memories.get(slot.memory as usize).map(|memory| memory.len);
            let end = slot.offset.checked_add(slot_bytes);
            if len.zip(end).is_none_or(|(len, end)| end > len) || !slot.offset.is_multiple_of(PAGE) {
                return Err(nonsense("slots outside its memory, or between pages"));
            }
            slots.push(slot);
        }
        for memory in memories.iter_mut().filter(|memory| memory.tag == ExternalHandle::OPAQUE_FD) {
            let mut id = || -> Result<_> {
                Ok(DeviceId(reader.take(16)?.try_into().expect("sixteen bytes were taken")))
            };
            let (device, driver) = (id()?, id()?);
            let (memory_type, _reserved) = (reader.u32()?, reader.u32()?);
            memory.origin = Some(Origin { device, driver, memory_type });
        }
        let (writable, expels, watches) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Ok(Self {
            stream_id,
            pid,
            max_held,
            writable,
            expels,
            watches,
            slot_bytes,
            kind,
            device,
            content,
            memories,
            slots,
        })
    }
}

impl StreamInfo {
    fn encode(&self) -> Vec<u8> {
        let mut writer = begin(tag::INFO);
        writer.text(&self.name, MAX_NAME).u32(self.pid).text(&self.memory, MAX_KIND);
        writer.u32(self.slots).u64(self.slot_bytes);
        write_content(&mut writer, &self.content);
        writer.u64(self.published).u64(self.evicted).u64(self.expelled);
        writer.u64(match self.on_stall {
            OnStall::Wait => 0,
            OnStall::Expel(after) => nanoseconds(after),
        });
        writer.u64(self.stalled_for.map_or(0, |time| nanoseconds(time).max(1)));
        writer.u32(u32::from(self.writable) | u32::from(self.reliable) << 1);
        writer.text(&self.access, MAX_NAME).u32(self.max_held).u32(self.history);
        writer.u32(self.consumers.len() as u32);
        for consumer in &self.consumers {
            writer.u32(consumer.pid).u32(consumer.uid);
            write_policy(&mut writer, consumer.policy);
            writer.u32(consumer.held).u64(nanoseconds(consumer.held_for));
            writer.u32(consumer.unread).u64(nanoseconds(consumer.unread_for));
            writer.u64(consumer.received).u64(consumer.missed);
            writer.u32(u32::from(consumer.expelled) | u32::from(consumer.in_the_way) << 1);
            writer.text(&consumer.label, MAX_LABEL);
        }
        writer.finish()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (name, pid, memory) = (reader.text(MAX_NAME)?, reader.u32()?, reader.text(MAX_KIND)?);
        let (slots, slot_bytes) = (reader.u32()?, reader.u64()?);
        let content = read_content(reader, slot_bytes)?;
        let (published, evicted, expelled) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let on_stall = match reader.u64()? {
            0 => OnStall::Wait,
            after => OnStall::Expel(Duration::from_nanos(after)),
        };
        let stalled_for = Some(reader.u64()?).filter(|time| *time > 0).map(Duration::from_nanos);
        let flags = reader.u32()?;
        let access = reader.text(MAX_NAME)?;
        let (max_held, history, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if count as usize > MAX_CONSUMERS {
            return Err(Error::protocol(format!("the producer claims {count} consumers")));
        }
        let mut consumers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut consumer = ConsumerInfo {
                pid: reader.u32()?,
                uid: reader.u32()?,
                policy: read_policy(reader)?,
                held: reader.u32()?,
                held_for: Duration::from_nanos(reader.u64()?),
                unread: reader.u32()?,
                unread_for: Duration::from_nanos(reader.u64()?),
                received: reader.u64()?,
                missed: reader.u64()?,
                expelled: false,
                in_the_way: false,
                label: String::new(),
            };
            let flags = reader.u32()?;
            (consumer.expelled, consumer.in_the_way) = (flags & 1 != 0, flags & 2 != 0);
            consumer.label = reader.text(MAX_LABEL)?;
            consumers.push(consumer);
        }
        let (writable, reliable) = (flags & 1 != 0, flags & 2 != 0);
        Ok(Self {
            name,
            pid,
            memory,
            slots,
            slot_bytes,
            content,
            published,
            evicted,
            expelled,
            on_stall,
            stalled_for,
            writable,
            reliable,
            access,
            max_held,
            history,
            consumers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::DType;
    use proptest::prelude::*;

    fn welcome() -> Welcome {
        Welcome {
            stream_id: [1, 2],
            pid: 3,
            max_held: 2,
            writable: false,
            expels: true,
            watches: true,
            slot_bytes: 4096,
            kind: "memfd".into(),
            device: DeviceId::default(),
            content: Content::tensor(DType::U8, &[10, 10]).unwrap(),
            memories: vec![WireHandle { tag: 1, len: 16384, origin: None }],
            slots: (0..4).map(|i| SlotEntry { memory: 0, offset: i * 4096 }).collect(),
        }
    }

    fn info() -> StreamInfo {
        let consumer = |policy| ConsumerInfo {
            pid: 1,
            uid: 2,
            policy,
            held: 3,
            held_for: Duration::from_nanos(30),
            unread: 4,
            unread_for: Duration::from_nanos(40),
            received: 5,
            missed: 6,
            expelled: false,
            in_the_way: true,
            label: "x".repeat(MAX_LABEL),
        };
        StreamInfo {
            name: "a/b".into(),
            pid: 7,
            memory: "memfd".into(),
            slots: 4,
            slot_bytes: 4096,
            content: Content::bytes(100).unwrap(),
            published: 9,
            evicted: 1,
            expelled: 2,
            on_stall: OnStall::Expel(Duration::from_millis(2500)),
            stalled_for: Some(Duration::from_nanos(7)),
            writable: true,
            reliable: false,
            access: "group:video".into(),
            max_held: 2,
            history: 1,
            consumers: [Policy::Reliable, Policy::KeepLast(3)].repeat(32).into_iter().map(consumer).collect(),
        }
    }

    #[test]
    fn come_back_as_they_went() {
        for request in [
            Request::Join(Policy::Reliable, "detector@box".into(), Vec::new()),
            Request::Join(Policy::KeepLast(7), String::new(), Vec::new()),
            Request::Join(Policy::KeepLast(7), String::new(), Party::parse_list("cpu,vulkan:0").unwrap()),
            Request::Query,
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
        let origin = Origin { device: DeviceId([1; 16]), driver: DeviceId([2; 16]), memory_type: 3 };
        let opaque = |len| WireHandle { tag: ExternalHandle::OPAQUE_FD, len, origin: Some(origin) };
        let mut mixed = welcome();
        mixed.memories.extend([opaque(4096), opaque(8192)]);
        for reply in [
            Reply::Welcome(mixed),
            Reply::Welcome(welcome()),
            Reply::Info(info()),
            Reply::Refused(ErrorKind::NameTaken, "no".into()),
        ] {
            let message = reply.encode();
            assert!(message.len() <= crate::sys::socket::MAX_MESSAGE);
            assert_eq!(Reply::decode(&message).unwrap(), reply);
        }
    }

    #[test]
    fn who_a_consumer_is_fits_into_a_line() {
        let mut consumer = info().consumers[0].clone();
        for (pid, label, who) in [
            (812, "detector@box", "consumer pid 812 \"detector@box\""),
            (812, "", "consumer pid 812"),
            (0, "detector@box", "consumer \"detector@box\" in another container"),
            (0, "", "a consumer in another container"),
            (0, "a\" \u{202e}b", "consumer \"a\\\" \\u{202e}b\" in another container"),
        ] {
            (consumer.pid, consumer.label) = (pid, label.into());
            assert_eq!(consumer.who(), who);
        }
    }

    #[test]
    fn another_major_version_says_both() {
        let mut message = Request::Query.encode();
        message[4] = 9;
        let error = Request::decode(&message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("1.0") && error.to_string().contains("9.0"), "{error}");
        let mut newer = Request::Query.encode();
        newer[6] = 5;
        assert!(Request::decode(&newer).is_ok(), "a newer minor version is understood");
    }

    #[test]
    fn a_label_may_be_missing_but_not_nonsense() {
        let mut message = Request::Join(Policy::Reliable, String::new(), Vec::new()).encode();
        message.truncate(message.len() - 2);
        assert_eq!(
            Request::decode(&message).unwrap(),
            Request::Join(Policy::Reliable, String::new(), Vec::new())
        );
        let full = Request::Join(Policy::Reliable, "ä".repeat(MAX_LABEL), Vec::new());
        let Request::Join(_, label, _) = Request::decode(&full.encode()).unwrap() else {
            panic!("it was to join")
        };
        assert_eq!(label, "ä".repeat(MAX_LABEL / 2), "cut between characters");
        for bad in ["\x1b[2J", "a\nb", "\u{85}"] {
            let error = Request::decode(&Request::Join(Policy::Reliable, bad.into(), Vec::new()).encode())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{bad:?}");
        }
        let mut long = message.clone();
        long.extend((MAX_LABEL as u16 + 1).to_le_bytes());
        long.extend([b'x'; MAX_LABEL + 1]);
        assert!(Request::decode(&long).is_err());
    }

    #[test]
    fn slots_outside_their_memory_are_refused() {
        let mut bad = welcome();
        bad.slots[3].offset = 12289;
        assert!(Reply::decode(&Reply::Welcome(bad).encode()).is_err());
        let mut bad = welcome();
        bad.slots[0].offset = u64::MAX;
        assert!(Reply::decode(&Reply::Welcome(bad).encode()).is_err());
        let mut bad = welcome();
        bad.slots[0].memory = 1;
        assert!(Reply::decode(&Reply::Welcome(bad).encode()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let _ = Request::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }

        #[test]
        fn no_damage_panics(which in 0u8..3, at in 0usize..900, value: u8, cut in 0usize..4000) {
            let mut bytes = match which {
                0 => Reply::Welcome(welcome()).encode(),
                1 => Reply::Info(info()).encode(),
                _ => Request::Join(Policy::KeepLast(2), "x@y".into(), Party::parse_list("cuda:0").unwrap()).encode(),
            };
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(1));
            let _ = Request::decode(&bytes);
            if let Ok(Reply::Welcome(welcome)) = Reply::decode(&bytes) {
                for slot in &welcome.slots {
                    prop_assert!(slot.offset + welcome.slot_bytes <= welcome.memories[slot.memory as usize].len);
                }
            }
        }
    }
}
