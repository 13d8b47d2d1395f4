//! How much of what was given away is still in use, without holding on to any of it.
//!
//! An epoll instance keeps an entry for each file registered with it until the last descriptor or mapping of that file is
//! gone, in whatever process, and does not itself keep the file. So a buffer is registered, our descriptor closed, and the
//! entries that are left, which `/proc` lists, are the buffers in use.

use bips::{Error, ErrorKind, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whose it is: process and user, as the kernel says.
pub(super) type Client = (u32, u32);

/// How much may be in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one process.
    pub client_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Buffers in all. Below the files that this user may have open: what a client has not yet taken counts there.
    pub buffers: usize,
    /// Clients that are served at a time; others wait.
    pub clients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { client_bytes: 1 << 30, total_bytes: 4 << 30, buffers: 512, clients: 16 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    client: Client,
    bytes: u64,
    buffers: usize,
    /// Not given away yet, so nothing is registered.
    pending: bool,
}

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    epoll: Epoll,
    limits: Limits,
    book: Mutex<Book>,
}

/// Room in the limits, given back unless something was put in it.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    ledger: &'a Ledger,
    entry: u64,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::system("epoll_create1", errno))?;
        let ledger = Self { epoll, limits, book: Mutex::default() };
        ledger.live()?; // without /proc nothing would ever be free again
        Ok(ledger)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers under which something that lives is registered.
    fn live(&self) -> Result<HashSet<u64>> {
        let path = format!("/proc/self/fdinfo/{}", self.epoll.0.as_raw_fd());
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::system("looking what is in use", error).with("file", path))?;
        Ok(text.lines().filter_map(registered).collect())
    }

    /// Forgets what nobody uses any more.
    fn sweep(&self, book: &mut Book) -> Result<()> {
        let live = self.live()?;
        book.entries.retain(|id, entry| entry.pending || live.contains(id));
        Ok(())
    }

    /// Bytes and buffers in use.
    pub(super) fn in_use(&self) -> Result<(u64, usize)> {
        let mut book = self.book();
        self.sweep(&mut book)?;
        let entries = book.entries.values();
        Ok(entries.fold((0, 0), |(bytes, buffers), entry| (bytes + entry.bytes, buffers + entry.buffers)))
    }

    /// Makes room for a pool.
    pub(super) fn reserve(&self, client: Client, slots: u32, slot_bytes: u64) -> Result<Reservation<'_>> {
        let (buffers, limits) = (slots as usize, self.limits);
        let mut book = self.book();
        self.sweep(&mut book)?;
        let mut used = (0, 0, 0);
        for entry in book.entries.values() {
            used.0 += if entry.client == client { entry.bytes } else { 0 };
            used.1 += entry.bytes;
            used.2 += entry.buffers;
        }
        let bytes = slot_bytes.saturating_mul(slots.into());
        let beyond = |used: u64, limit: u64| used.checked_add(bytes).is_none_or(|sum| sum > limit);
        let refuse = |what: String, option: &str| {
            Err(Error::new(
                ErrorKind::OutOfMemory,
                format!(
                    "the broker gives no more: {what}; use fewer slots or smaller frames, or start it with {option}"
                ),
            ))
        };
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        if beyond(used.0, limits.client_bytes) {
            let (used, most) = (mib(used.0), mib(limits.client_bytes));
            return refuse(
                format!(
                    "this process has {used} MiB and asks for {}, of {most} that one may have",
                    mib(bytes)
                ),
                "a higher --client-mib",
            );
        }
        if beyond(used.1, limits.total_bytes) {
            let (used, most) = (mib(used.1), mib(limits.total_bytes));
            return refuse(
                format!("{used} of {most} MiB are in use, and {} were asked for", mib(bytes)),
                "a higher --total-mib",
            );
        }
        if used.2 + buffers > limits.buffers {
            return refuse(
                format!("{} of {} buffers are in use, and {buffers} were asked for", used.2, limits.buffers),
                "a higher --buffers",
            );
        }
        let entry = book.next;
        book.next += 1;
        book.entries.insert(entry, Entry { client, bytes, buffers, pending: true });
        Ok(Reservation { ledger: self, entry })
    }
}

/// The number in a line such as `tfd:        4 events:        0 data:               2a  pos:0 ino:5 sdev:f`.
fn registered(line: &str) -> Option<u64> {
    let data = line.strip_prefix("tfd:")?.split_once("data:")?.1;
    u64::from_str_radix(data.split_whitespace().next()?, 16).ok()
}

impl Reservation<'_> {
    /// From now on each of these counts for as long as it lives, by itself.
    pub(super) fn fill(self, buffers: &[impl AsFd], slot_bytes: u64) -> Result<()> {
        // At one go: whoever counts meanwhile would count twice what is registered and still reserved.
        let mut book = self.ledger.book();
        let Entry { client, .. } = book.entries.remove(&self.entry).expect("reserved until now");
        for buffer in buffers {
            let id = book.next;
            book.next += 1;
            // Nothing is waited for: only that it is there counts.
            let event = EpollEvent::new(EpollFlags::empty(), id);
            self.ledger
                .epoll
                .add(buffer, event)
                .map_err(|errno| Error::system("keeping account of a buffer", errno))?;
            book.entries.insert(id, Entry { client, bytes: slot_bytes, buffers: 1, pending: false });
        }
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.ledger.book().entries.remove(&self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    const LIMITS: Limits = Limits { client_bytes: 3 << 20, total_bytes: 5 << 20, buffers: 6, clients: 1 };

    fn said(result: Result<Reservation<'_>>) -> String {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        error.to_string()
    }

    #[test]
    fn what_somebody_still_has_counts_and_nothing_else() {
        let ledger = Ledger::new(LIMITS).unwrap();
        let (a, b) = ((1, 1000), (2, 1000));
        // Any file that can be polled has such a life; a dma-buf is one.
        let buffers: Vec<OwnedFd> = (0..2).map(|_| OwnedFd::from(EventFd::new().unwrap())).collect();
        ledger.reserve(a, 2, 1 << 20).unwrap().fill(&buffers, 1 << 20).unwrap();
        assert_eq!(ledger.in_use().unwrap(), (2 << 20, 2));
        assert!(said(ledger.reserve(a, 2, 1 << 20)).contains("--client-mib"));
        assert!(said(ledger.reserve(b, 4, 1 << 20)).contains("--client-mib"), "one's limit comes first");
        let reserved = ledger.reserve(b, 3, 1 << 20).unwrap();
        assert!(said(ledger.reserve(a, 1, 1 << 20)).contains("--total-mib"), "also while it is made");
        assert!(said(ledger.reserve((3, 0), 2, 4096)).contains("--total-mib"));
        drop(reserved);
        assert!(said(ledger.reserve(b, 5, 4096)).contains("--buffers"));
        // A copy is the same buffer, and the last of them ends it.
        let copy = buffers[0].try_clone().unwrap();
        drop(buffers);
        assert_eq!(ledger.in_use().unwrap(), (1 << 20, 1));
        drop(copy);
        assert_eq!(ledger.in_use().unwrap(), (0, 0));
        ledger.reserve(a, 3, 1 << 20).unwrap();
    }

    /// Neither more than there is, nor anything that is on its way between the two.
    #[test]
    fn nobody_sees_a_pool_counted_twice() {
        let (ledger, over) = (&Ledger::new(LIMITS).unwrap(), &AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (begun, may_fill) = std::sync::mpsc::channel();
            let looker = scope.spawn(move || {
                let mut most = ledger.in_use().unwrap().1;
                begun.send(()).unwrap();
                while !over.load(SeqCst) {
                    most = most.max(ledger.in_use().unwrap().1);
                }
                most
            });
            may_fill.recv().unwrap();
            for _ in 0..300 {
                let buffers: Vec<OwnedFd> = (0..6).map(|_| EventFd::new().unwrap().into()).collect();
                ledger.reserve((1, 1000), 6, 4096).unwrap().fill(&buffers, 4096).unwrap();
            }
            over.store(true, SeqCst);
            assert!(looker.join().unwrap() <= 6);
        });
    }

    #[test]
    fn reads_what_the_kernel_lists() {
        let line = "tfd:        9 events:       18 data:               2a  pos:0 ino:4ab sdev:f";
        assert_eq!(registered(line), Some(42));
        for other in ["pos:\t0", "tfd: 9", "tfd: 9 data: xyz"] {
            assert_eq!(registered(other), None);
        }
    }
}
