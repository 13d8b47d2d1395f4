//! The messages of the control socket, as either side may send them.

use super::{assert_printable, assert_tellable, description};
use crate::backend::DeviceId;
use crate::handle::{ExternalHandle, Origin, WireHandle};
use crate::session::{ConsumerInfo, Reply, Request, SlotEntry, StreamInfo, Welcome};
use crate::signaler::Policy;
use crate::sys::PAGE;
use crate::sys::socket::MAX_MESSAGE;
use crate::{Content, ErrorKind, MAX_SLOTS, OnStall, Result};
use std::fmt::Debug;
use std::time::Duration;

/// What a producer hears.
///
/// # Panics
/// When a request is accepted that cannot be, or comes back otherwise than it went.
pub fn request(data: &[u8]) {
    if let Some(request) = come_back(data, Request::decode, Request::encode) {
        match request {
            Request::Join(policy, label, _) => {
                check_policy(policy);
                assert_printable(&label);
                assert!(label.len() <= 64);
            }
            Request::Query => {}
        }
    }
}

/// What a consumer hears.
///
/// # Panics
/// When a reply is accepted that cannot be, or comes back otherwise than it went.
pub fn reply(data: &[u8]) {
    match come_back(data, Reply::decode, Reply::encode) {
        Some(Reply::Welcome(welcome)) => check_welcome(&welcome),
        Some(Reply::Info(info)) => check_info(&info),
        Some(Reply::Refused(_, text)) => assert_printable(&text),
        None => {}
    }
}

/// What is accepted is the same when it is sent on.
fn come_back<T: PartialEq + Debug>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Result<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    match decode(data) {
        Ok(message) => {
            let again = encode(&message);
            assert!(again.len() <= MAX_MESSAGE, "{} bytes are no message", again.len());
            assert_eq!(decode(&again).expect("what was accepted is accepted again"), message);
            Some(message)
        }
        Err(error) => {
            assert_tellable(&error);
            assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::InvalidArgument), "{error:?}");
            None
        }
    }
}

fn check_policy(policy: Policy) {
    if let Policy::KeepLast(depth) = policy {
        assert!((1..=MAX_SLOTS).contains(&depth), "keeps the last {depth}");
    }
}

fn check_welcome(welcome: &Welcome) {
    let slots = welcome.slots.len();
    assert!((1..=MAX_SLOTS as usize).contains(&slots));
    assert!((1..=slots).contains(&(welcome.max_held as usize)));
    assert!((1..=slots).contains(&welcome.memories.len()));
    assert!(welcome.slot_bytes > 0 && welcome.slot_bytes.is_multiple_of(PAGE));
    for slot in &welcome.slots {
        let memory = welcome.memories[slot.memory as usize];
        let end = u128::from(slot.offset) + u128::from(welcome.slot_bytes);
        assert!(end <= u128::from(memory.len), "{slot:?} outside {memory:?}");
        assert!(slot.offset.is_multiple_of(PAGE));
    }
    assert_printable(&welcome.kind);
    description::check(&welcome.content, welcome.slot_bytes);
}

fn check_info(info: &StreamInfo) {
    for text in [&info.name, &info.memory, &info.access] {
        assert_printable(text);
        assert!(text.len() <= 100);
    }
    assert!(info.consumers.len() <= 64);
    for consumer in &info.consumers {
        check_policy(consumer.policy);
        assert_printable(&consumer.label);
        assert!(consumer.label.len() <= 64);
    }
    description::check(&info.content, info.slot_bytes);
}

pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    let requests = [
        Request::Query,
        Request::Join(Policy::Reliable, String::new(), Vec::new()),
        Request::Join(
            Policy::KeepLast(1),
            "detector@box".into(),
            crate::Party::parse_list("cpu,vulkan:0").unwrap(),
        ),
        Request::Join(Policy::KeepLast(64), "x".repeat(64), Vec::new()),
    ];
    requests.iter().map(Request::encode).collect()
}

pub(super) fn reply_seeds() -> Vec<Vec<u8>> {
    let mut replies = vec![
        Reply::Refused(ErrorKind::NameTaken, "all 64 seats are taken".into()),
        Reply::Refused(ErrorKind::Protocol, String::new()),
    ];
    for described in description::samples() {
        let content = described.content;
        replies.push(Reply::Welcome(welcome(content, 4, 1)));
        replies.push(Reply::Info(info(content, 2)));
    }
    let content = Content::bytes(100).expect("a hundred bytes");
    replies.push(Reply::Welcome(welcome(content, 64, 64)));
    replies.push(Reply::Info(info(content, 64)));
    replies.iter().map(Reply::encode).collect()
}

fn memory(opaque: bool, len: u64) -> WireHandle {
    if !opaque {
        return WireHandle { tag: 1, len, origin: None };
    }
    let origin = Origin { device: DeviceId([7; 16]), driver: DeviceId([8; 16]), memory_type: 3 };
    WireHandle { tag: ExternalHandle::OPAQUE_FD, len, origin: Some(origin) }
}

fn welcome(content: Content, slots: u32, memories: u32) -> Welcome {
    let slot_bytes = 4 * PAGE;
    let each = slots / memories;
    Welcome {
        stream_id: [1, 2],
        pid: 3,
        max_held: slots / 2,
        writable: slots == 64,
        expels: slots == 4,
        watches: slots == 64,
        slot_bytes,
        kind: "memfd".into(),
        device: DeviceId::default(),
        content,
        memories: vec![memory(slots == 64, u64::from(each) * slot_bytes); memories as usize],
        slots: (0..slots)
            .map(|slot| SlotEntry { memory: slot / each, offset: u64::from(slot % each) * slot_bytes })
            .collect(),
    }
}

fn info(content: Content, consumers: u32) -> StreamInfo {
    let consumer = |pid| ConsumerInfo {
        pid,
        uid: 1000,
        policy: if pid % 2 == 0 { Policy::Reliable } else { Policy::KeepLast(3) },
        held: 1,
        held_for: Duration::from_millis(5),
        unread: 2,
        unread_for: Duration::from_millis(6),
        received: 3,
        missed: 4,
        expelled: pid % 3 == 0,
        in_the_way: pid % 2 == 0,
        label: format!("consumer {pid}"),
    };
    StreamInfo {
        name: "front/camera".into(),
        pid: 7,
        memory: "memfd".into(),
        slots: 4,
        slot_bytes: 4 * PAGE,
        content,
        published: 9,
        evicted: 1,
        expelled: 1,
        on_stall: OnStall::Expel(Duration::from_secs(2)),
        stalled_for: Some(Duration::from_secs(1)),
        writable: true,
        reliable: false,
        access: "group:video".into(),
        max_held: 2,
        history: 1,
        consumers: (0..consumers).map(consumer).collect(),
    }
}
