//! What a client and a broker say: one request, one answer, each in a packet of known size. Both are read as input.

use bips::{Error, ErrorKind, Result};

const MAGIC: &[u8; 8] = b"bipsbrk1";

/// Longest name of a heap.
const MAX_NAME: usize = 32;

/// Longest text of an answer.
const MAX_TEXT: usize = 4096;

/// Most slots of a pool.
const MAX_SLOTS: u32 = bips::MAX_SLOTS;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// What there is here.
    Ask,
    /// Dma-bufs of a heap: the one of this name, or the broker's choice.
    Heap { name: Option<String>, slots: u32, slot_bytes: u64 },
    /// Dma-bufs over a memfd, which comes with it.
    Cover { slots: u32, slot_bytes: u64 },
}

/// What the broker says to it: a text for who asked, or the buffers, which come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Kinds(Vec<String>),
    Buffers(u32),
    Refused(ErrorKind, String),
}

const ASK: u32 = 1;
const HEAP: u32 = 2;
const COVER: u32 = 3;

const KINDS: u32 = 1;
const BUFFERS: u32 = 2;
const REFUSED: u32 = 3;

/// Reads numbers off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// After the letters that every message begins with.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.strip_prefix(MAGIC).map(Self)
    }

    fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    /// What is left, if it is text of so many bytes at most.
    fn text(self, most: usize) -> Option<&'a str> {
        (self.0.len() <= most).then_some(self.0).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

fn begin(what: u32) -> Vec<u8> {
    [MAGIC.as_slice(), &what.to_le_bytes()].concat()
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let pool = |what, slots: &u32, slot_bytes: &u64, name: &str| {
            let mut bytes = begin(what);
            bytes.extend(slots.to_le_bytes());
            bytes.extend(slot_bytes.to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes
        };
        match self {
            Self::Ask => begin(ASK),
            Self::Heap { name, slots, slot_bytes } => {
                pool(HEAP, slots, slot_bytes, name.as_deref().unwrap_or_default())
            }
            Self::Cover { slots, slot_bytes } => pool(COVER, slots, slot_bytes, ""),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Protocol,
                "the broker does not understand this request; use the same version of bips on both sides",
            )
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes)?;
        let what = reader.u32()?;
        if what == ASK {
            return reader.0.is_empty().then_some(Self::Ask);
        }
        let (slots, slot_bytes) = (reader.u32()?, reader.u64()?);
        if !(1..=MAX_SLOTS).contains(&slots) || slot_bytes == 0 || slot_bytes % bips::sys::PAGE != 0 {
            return None;
        }
        slot_bytes.checked_mul(slots.into())?;
        let name = reader.text(MAX_NAME)?;
        match what {
            HEAP => {
                let name = (!name.is_empty()).then(|| name.to_owned());
                Some(Self::Heap { name, slots, slot_bytes })
            }
            COVER if name.is_empty() => Some(Self::Cover { slots, slot_bytes }),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Kinds(kinds) => [begin(KINDS), kinds.join("\n").into_bytes()].concat(),
            Self::Buffers(count) => [begin(BUFFERS), count.to_le_bytes().to_vec()].concat(),
            Self::Refused(kind, text) => {
                let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end));
                let text = &text[..end.unwrap_or(0)];
                [begin(REFUSED), (*kind as u32).to_le_bytes().to_vec(), text.into()].concat()
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Protocol,
                "what answers as the broker is none of this version; use the same version of bips on both sides",
            )
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes)?;
        match reader.u32()? {
            KINDS => {
                let kinds = reader.text(MAX_TEXT)?.lines().map(plain);
                Some(Self::Kinds(kinds.collect()))
            }
            BUFFERS => {
                let count = reader.u32()?;
                ((1..=MAX_SLOTS).contains(&count) && reader.0.is_empty()).then_some(Self::Buffers(count))
            }
            REFUSED => {
                let kind = ErrorKind::from_code(reader.u32()?);
                Some(Self::Refused(kind, plain(reader.text(MAX_TEXT)?)))
            }
            _ => None,
        }
    }
}

/// As it may be shown on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for request in [
            Request::Ask,
            Request::Heap { name: None, slots: 1, slot_bytes: 4096 },
            Request::Heap { name: Some("linux,cma".into()), slots: 64, slot_bytes: 1 << 30 },
            Request::Cover { slots: 3, slot_bytes: 8192 },
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
        for answer in [
            Answer::Kinds(vec!["dma-heap:system".into(), "udmabuf".into()]),
            Answer::Buffers(64),
            Answer::Refused(ErrorKind::OutOfMemory, "use fewer slots".into()),
        ] {
            assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
        }
    }

    #[test]
    fn nonsense_is_refused_and_long_text_cut() {
        let heap = |slots, slot_bytes| Request::Heap { name: None, slots, slot_bytes }.encode();
        let mut long = heap(1, 4096);
        long.extend([b'a'; MAX_NAME + 1]);
        let mut wrong = heap(1, 4096);
        wrong.push(0xff);
        let mut asks_more = Request::Ask.encode();
        asks_more.push(0);
        let mut named_cover = Request::Cover { slots: 1, slot_bytes: 4096 }.encode();
        named_cover.push(b'a');
        let bad = [
            vec![],
            b"bips".to_vec(),
            b"bipsbrk2\x01\0\0\0".to_vec(),
            begin(9),
            heap(0, 4096),
            heap(65, 4096),
            heap(1, 0),
            heap(1, 4097),
            heap(64, 1 << 60),
            heap(1, 4096)[..20].to_vec(),
            long,
            wrong,
            asks_more,
            named_cover,
        ];
        for bytes in bad {
            assert_eq!(Request::decode(&bytes).unwrap_err().kind(), ErrorKind::Protocol, "{bytes:?}");
        }
        for bytes in [vec![], begin(9), Answer::Buffers(0).encode(), Answer::Buffers(65).encode()] {
            assert_eq!(Answer::decode(&bytes).unwrap_err().kind(), ErrorKind::Protocol, "{bytes:?}");
        }
        let refused = Answer::Refused(ErrorKind::System, "é".repeat(MAX_TEXT)).encode();
        assert!(refused.len() <= 16 + MAX_TEXT);
        assert!(Answer::decode(&refused).is_ok());
        let escape = Answer::Refused(ErrorKind::System, "a\x1b[2Jb\nc".into()).encode();
        assert_eq!(Answer::decode(&escape).unwrap(), Answer::Refused(ErrorKind::System, "a [2Jb c".into()));
    }
}
