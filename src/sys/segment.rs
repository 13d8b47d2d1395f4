//! Sealed memfd segments: how all shared memory of bips is made, and checked before it is mapped.

use super::{PAGE, limits, map::HUGE, map::Mapping};
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// Who may write to a segment besides its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody, ever again: sealed with `F_SEAL_FUTURE_WRITE` after the maker's own mapping was made.
    ReadOnly,
    /// Whoever gets the descriptor.
    ReadWrite,
}

impl Sharing {
    /// What a pool needs whose consumers may, or may not, write.
    pub fn of(writable: bool) -> Self {
        if writable { Self::ReadWrite } else { Self::ReadOnly }
    }
}

/// What the kernel may back a segment with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Huge ones where it can: attaching is faster.
    HugeIfPossible,
    /// None that it was not set to give everybody.
    Small,
}

/// Memory shared between processes: mapped once, never resized.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    fd: Option<OwnedFd>,
    huge: bool,
}

impl Segment {
    /// Makes a segment of `len` bytes of zeros, all of them backed by memory now rather than on first use.
    ///
    /// # Errors
    /// `OutOfMemory` when the machine or the memory control group has not that much; `Unsupported` on kernels
    /// without sealed memfds (before 5.1).
    pub fn create(name: &str, len: u64, sharing: Sharing) -> Result<Self> {
        Self::create_then(name, len, sharing, Pages::HugeIfPossible, |_| Ok(())).map(|(segment, ())| segment)
    }

    /// As [`Segment::create`], with something done to the memfd when it can't change its size any more but isn't sealed
    /// against writers yet, nor against further seals.
    ///
    /// # Errors
    /// As [`Segment::create`], and those of `then`.
    pub fn create_then<T>(
        name: &str,
        len: u64,
        sharing: Sharing,
        pages: Pages,
        then: impl FnOnce(BorrowedFd<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        let size = usize::try_from(len)
            .map_err(|_| Error::invalid(format!("{len} bytes don't fit this machine")))?;
        limits::check(len)?;
        let fd = memfd(name)?;
        nix::unistd::ftruncate(&fd, file_offset(len)?).map_err(|errno| Error::system("ftruncate", errno))?;
        limits::rehearse(&fd, len)?;
        back(&fd, file_offset(len)?).map_err(|errno| match errno {
            Errno::ENOMEM | Errno::ENOSPC => limits::too_large(len, "the kernel has no memory left for it"),
            errno => Error::system("fallocate", errno),
        })?;
        let mapping = Mapping::new(&fd, size, true, false)?;
        let huge = mapping.settle(pages == Pages::HugeIfPossible);
        seal(&fd, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
        let made = then(fd.as_fd())?;
        seal(&fd, closing(sharing))?;
        Ok((Self { mapping, fd: Some(fd), huge }, made))
    }

    /// Maps a segment a peer sent, after checking that it can't shrink under us, is as large as promised, is
    /// backed by memory now, and (for [`Sharing::ReadOnly`]) that nobody can write to it any more.
    /// With `keep` the descriptor stays open, to be passed on.
    ///
    /// # Errors
    /// `Protocol` when it isn't what a producer of this protocol makes.
    pub fn open(fd: OwnedFd, len: u64, sharing: Sharing, keep: bool) -> Result<Self> {
        check(fd.as_fd(), len, sharing)?;
        let size =
            usize::try_from(len).map_err(|_| Error::protocol("a segment larger than the address space"))?;
        let mapping = Mapping::new(&fd, size, sharing == Sharing::ReadWrite, false)?;
        Ok(Self { mapping, fd: keep.then_some(fd), huge: false })
    }

    /// Which memfd it is, as device and inode.
    ///
    /// # Errors
    /// `InvalidArgument` for what can't be [adopted](Segment::adopt), whatever it is.
    pub fn identify(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
        seals_of_adopted(fd)?;
        let stat = fstat(fd).map_err(|errno| Error::system("fstat of a memfd", errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Maps, for writing, a memfd that somebody else made, and makes of it what [`Segment::open`] demands of those who get
    /// it. Its maker keeps what it has mapped.
    ///
    /// # Errors
    /// `InvalidArgument`, saying what its maker must do first.
    pub fn adopt(fd: OwnedFd, sharing: Sharing) -> Result<Self> {
        let len = adoptable(fd.as_fd(), sharing)?;
        let size = usize::try_from(len)
            .map_err(|_| Error::invalid("this memfd is larger than the address space; use smaller ones"))?;
        let mapping = Mapping::new(&fd, size, true, false)?;
        let seals = SealFlag::from_bits_retain(
            fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|errno| Error::system("asking for seals", errno))?,
        );
        if !seals.contains(SealFlag::F_SEAL_SEAL) {
            seal(&fd, closing(sharing))?;
        }
        // Again: of one that is sealed against writers only now can nothing be taken out.
        backed(fd.as_fd(), len).map_err(|_| {
            Error::invalid(
                "this memfd can't be published from: its maker took memory out of it while it was adopted",
            )
        })?;
        Ok(Self { mapping, fd: Some(fd), huge: false })
    }

    /// First byte.
    pub fn start(&self) -> NonNull<u8> {
        self.mapping.start()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Never: segments have at least a byte.
    pub fn is_empty(&self) -> bool {
        self.mapping.is_empty()
    }

    /// Whether the kernel backs it with huge pages.
    pub fn huge_pages(&self) -> bool {
        self.huge
    }

    /// The descriptor, where it was kept.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Gives the descriptor away; the mapping stays.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// Gives the memory behind it back: its content is zeros from now on, and whoever touches it next pays for it anew.
    pub(crate) fn discard(&self) {
        self.mapping.discard();
    }

    /// A private copy-on-write view of the whole segment.
    ///
    /// # Errors
    /// `Unsupported` when the descriptor was not kept.
    pub fn private_view(&self) -> Result<Mapping> {
        let fd = self
            .fd()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this memory's descriptor is closed"))?;
        Mapping::new(fd, self.len(), false, true)
    }
}

/// `F_SEAL_FUTURE_WRITE`, which nix does not name.
fn future_write() -> SealFlag {
    SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE)
}

/// The last seals: consumers must not be able to add any to spite each other.
fn closing(sharing: Sharing) -> SealFlag {
    match sharing {
        Sharing::ReadOnly => SealFlag::F_SEAL_SEAL | future_write(),
        Sharing::ReadWrite => SealFlag::F_SEAL_SEAL,
    }
}

fn seal(fd: &OwnedFd, seals: SealFlag) -> Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(|errno| match errno {
        Errno::EINVAL => Error::new(
            ErrorKind::Unsupported,
            "this kernel can't seal memory against writers (F_SEAL_FUTURE_WRITE); Linux 5.1 or newer is needed",
        ),
        errno => Error::system("sealing a memfd", errno),
    })
}

fn file_offset(len: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(len)
        .map_err(|_| Error::invalid(format!("{len} bytes are more than a file can have")))
}

fn memfd(name: &str) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Never to be executed; kernels before 6.3 don't know the flag.
    let sealed = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let label = format!("bips:{name}");
    memfd_create(label.as_str(), sealed)
        .or_else(|_| memfd_create(label.as_str(), flags))
        .map_err(|errno| Error::system("memfd_create", errno))
}

/// Backs the file with memory, step by step: a signal interrupts `fallocate`, which then gives back what that
/// call had got. In one call a large pool under a profiling timer would begin for ever anew; a step is over
/// before the next tick.
fn back(fd: &OwnedFd, len: libc::off_t) -> nix::Result<()> {
    for start in (0..len).step_by(HUGE) {
        let step = (len - start).min(HUGE as libc::off_t);
        while let Err(errno) = fallocate(fd, FallocateFlags::empty(), start, step) {
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
    }
    Ok(())
}

fn check(fd: BorrowedFd<'_>, len: u64, sharing: Sharing) -> Result<()> {
    let bad = |what: &str| Err(Error::protocol(format!("the peer sent memory that {what}; it is refused")));
    let Ok(seals) = fcntl(fd, FcntlArg::F_GET_SEALS) else {
        return bad("is no sealable memfd");
    };
    let tmpfs =
        nix::sys::statfs::fstatfs(fd).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if !tmpfs {
        // Holes punched into huge-page files fault with SIGBUS when memory runs out; ours never are such files.
        return bad("is no ordinary memfd");
    }
    let seals = SealFlag::from_bits_retain(seals);
    if !seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW) {
        return bad("could shrink while it is used");
    }
    if sharing == Sharing::ReadOnly && !seals.intersects(future_write() | SealFlag::F_SEAL_WRITE) {
        return bad("others could write to although the stream is read-only");
    }
    let stat = fstat(fd).map_err(|errno| Error::system("fstat", errno))?;
    if u64::try_from(stat.st_size) != Ok(len) {
        return bad("has another size than the handshake says");
    }
    // A page that others may write to, a bell, may have become a hole honestly: one consumer punched it, and to
    // refuse it would let that one keep out all who come later.
    let excused = sharing == Sharing::ReadWrite && len <= PAGE;
    if !excused && (stat.st_blocks as u64).saturating_mul(512) < len {
        // Holes would be filled, and paid for, by whoever touches them first. A larger writable segment can get
        // them later too: docs/threat-model.md says what that costs.
        return bad("is not backed by memory yet");
    }
    tracing::trace!(fd = fd.as_raw_fd(), len, "segment accepted");
    Ok(())
}

fn not_adopted<T>(what: &str) -> Result<T> {
    Err(Error::invalid(format!("this memfd can't be published from: {what}")))
}

/// The seals of a memfd with small pages. They are asked for first: the kernel says by itself that files not in its own memory have none,
/// and a file's own file system can be a program that never answers.
fn seals_of_adopted(fd: BorrowedFd<'_>) -> Result<SealFlag> {
    let on_tmpfs = || {
        nix::sys::statfs::fstatfs(fd).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
    };
    match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(seals) if on_tmpfs() => Ok(SealFlag::from_bits_retain(seals)),
        _ => not_adopted(
            "it is no memfd, or one of huge pages; make it by memfd_create with MFD_ALLOW_SEALING",
        ),
    }
}

/// The size of a memfd that can be published from.
fn adoptable(fd: BorrowedFd<'_>, sharing: Sharing) -> Result<u64> {
    let bad = not_adopted;
    let seals = seals_of_adopted(fd)?;
    if !seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW) {
        return bad(
            "it could still shrink, and whoever reads it would be killed by SIGBUS; seal it with F_SEAL_SHRINK and \
             F_SEAL_GROW first (fcntl F_ADD_SEALS)",
        );
    }
    if seals.intersects(future_write() | SealFlag::F_SEAL_WRITE) {
        return bad(
            "it is sealed against writers already, and a producer maps its slots for writing; give it away before \
             F_SEAL_FUTURE_WRITE, which is added here, and without F_SEAL_WRITE",
        );
    }
    if sharing == Sharing::ReadOnly && seals.contains(SealFlag::F_SEAL_SEAL) {
        return bad(
            "it takes no more seals (F_SEAL_SEAL), so consumers could write to it; leave that seal out, or let consumers \
             write (`writable`)",
        );
    }
    let stat = fstat(fd).map_err(|errno| Error::system("fstat of a memfd", errno))?;
    let len = stat.st_size.cast_unsigned();
    if len == 0 {
        return bad("it is empty; give it a size (ftruncate) before it is sealed");
    }
    backed(fd, len)?;
    Ok(len)
}

/// Whether all of an adopted memfd has memory behind it.
fn backed(fd: BorrowedFd<'_>, len: u64) -> Result<()> {
    let stat = fstat(fd).map_err(|errno| Error::system("fstat of a memfd", errno))?;
    if (stat.st_blocks.cast_unsigned()).saturating_mul(512) < len {
        return not_adopted("not all of it has memory behind it; call fallocate() over all of it first");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap};
    use std::num::NonZeroUsize;

    fn duplicate(segment: &Segment) -> OwnedFd {
        segment.fd().unwrap().try_clone_to_owned().unwrap()
    }

    fn writable_mapping(fd: &OwnedFd) -> bool {
        let len = NonZeroUsize::new(4096).unwrap();
        // SAFETY: a new mapping at an address of the kernel's choice.
        unsafe { mmap(None, len, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0) }.is_ok()
    }

    #[test]
    fn read_only_segments_can_never_be_mapped_writable_again() {
        let segment = Segment::create("t", 8192, Sharing::ReadOnly).unwrap();
        assert!(!writable_mapping(&duplicate(&segment)));
        let shared = Segment::create("t", 8192, Sharing::ReadWrite).unwrap();
        assert!(writable_mapping(&duplicate(&shared)));
    }

    #[test]
    fn opens_only_what_it_should() {
        let sealed = Segment::create("t", 8192, Sharing::ReadOnly).unwrap();
        assert!(Segment::open(duplicate(&sealed), 8192, Sharing::ReadOnly, false).is_ok());
        let refused = |fd: OwnedFd, len, sharing| {
            let error = Segment::open(fd, len, sharing, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            error.to_string()
        };
        assert!(refused(duplicate(&sealed), 4096, Sharing::ReadOnly).contains("another size"));
        let writable = Segment::create("t", 8192, Sharing::ReadWrite).unwrap();
        assert!(refused(duplicate(&writable), 8192, Sharing::ReadOnly).contains("could write"));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(refused(file.into(), 8192, Sharing::ReadWrite).contains("no sealable"));
        let sparse = memfd("t").unwrap();
        nix::unistd::ftruncate(&sparse, 8192).unwrap();
        let copy = || sparse.try_clone().unwrap();
        assert!(refused(copy(), 8192, Sharing::ReadWrite).contains("shrink"));
        let seal = |seals| fcntl(&sparse, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        seal(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW);
        fallocate(&sparse, FallocateFlags::empty(), 0, 4096).unwrap();
        assert!(refused(copy(), 8192, Sharing::ReadWrite).contains("not backed"));
        seal(future_write());
        assert!(refused(copy(), 8192, Sharing::ReadOnly).contains("not backed"));
    }

    /// Any consumer can do this to the bell, which all of them open.
    #[test]
    fn a_hole_in_a_shared_page_keeps_nobody_out() {
        let bell = Segment::create("t", PAGE, Sharing::ReadWrite).unwrap();
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(bell.fd().unwrap(), hole, 0, 4096).unwrap();
        Segment::open(duplicate(&bell), PAGE, Sharing::ReadWrite, false).unwrap();
    }

    /// Of every size our own producers make: control segments, whole huge pages, and what lies between.
    #[test]
    fn opens_all_it_makes() {
        for sharing in [Sharing::ReadOnly, Sharing::ReadWrite] {
            for len in [PAGE, 40_960, HUGE as u64, 3 * HUGE as u64 + 4096] {
                let made = Segment::create("t", len, sharing).unwrap();
                Segment::open(duplicate(&made), len, sharing, false).unwrap();
            }
        }
    }

    #[test]
    fn more_than_the_machine_has_is_an_error() {
        let error = Segment::create("t", 1 << 50, Sharing::ReadOnly).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("fewer slots"), "{error}");
    }
}
