//! Names in the runtime directory: taking one, giving it back, waiting for one.

use crate::step::{Step, reach};
use crate::stream::{AccessRule, StreamName, runtime_dir};
use crate::sys::fork::ProcessFd;
use crate::sys::socket::{self, OVERFLOW_UID, Peer};
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FlockArg, OFlag, open, openat, renameat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::unistd::{AccessFlags, Gid, Group, UnlinkatFlags, access, chown, ftruncate, unlinkat, write};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Searching is enough to connect; only who waits for a name must be able to read, for inotify.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The directory part of a stream's name, open.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    /// The runtime directory.
    root: PathBuf,
    /// The part of the name below it; "" at the top.
    nested: String,
    leaf: String,
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, DIRECTORY, Mode::empty())
}

impl Directory {
    /// For a consumer: `None` while a nested part of the name does not exist.
    fn find(root: &Path, name: &StreamName) -> Result<Option<Self>> {
        let (nested, leaf) = name.split();
        let path = root.join(nested);
        match open_directory(&path) {
            Ok(fd) => Ok(Some(Self { fd, root: root.into(), nested: nested.into(), leaf: leaf.into() })),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => {
                Err(Error::system("opening the runtime directory", errno).with("directory", path.display()))
            }
        }
    }

    /// For a producer: makes nested parts of the name.
    fn make(root: &Path, name: &StreamName) -> Result<Self> {
        let (nested, _) = name.split();
        let path = root.join(nested);
        access(root, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
            Error::system("the runtime directory can't be written", errno)
                .hint("a producer needs write permission there; change it, or name another directory in BIPS_DIR")
                .with("directory", root.display())
        })?;
        for attempt in 0.. {
            fs::create_dir_all(&path).map_err(|error| {
                Error::system("making the directory of the stream", error).with("directory", path.display())
            })?;
            match Self::find(root, name)? {
                Some(directory) => return Ok(directory),
                None if attempt < 10 => {} // another stream in it ended just now and took it away
                None => break,
            }
        }
        Err(Error::new(ErrorKind::System, format!("{} vanishes as soon as it is made", path.display())))
    }

    fn socket(&self) -> String {
        format!("{}.sock", self.leaf)
    }

    fn lock(&self) -> String {
        format!("{}.lock", self.leaf)
    }

    /// Short, so that its address fits; one per name, so that what a crash left is found again.
    fn temporary(&self) -> String {
        let hash = self.leaf.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!(".{hash:016x}")
    }

    fn remove(&self, leaf: &str) {
        let _ = unlinkat(&self.fd, leaf, UnlinkatFlags::NoRemoveDir);
    }
}

/// A name this process holds: the lock, and the directory it lies in.
#[derive(Debug)]
pub(crate) struct Claim {
    directory: Directory,
    lock: ProcessFd,
}

impl Claim {
    /// Takes a name, from a dead producer too; the lock decides, never a leftover file.
    pub(crate) fn take(root: Option<&Path>, name: &StreamName) -> Result<Self> {
        let root = runtime_dir(root)?;
        // Another stream's end can take the directory or the lock away from under us; not for ever.
        for _ in 0..100 {
            let directory = Directory::make(&root, name)?;
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let file = match openat(
                &directory.fd,
                directory.lock().as_str(),
                flags,
                Mode::from_bits_truncate(0o600),
            ) {
                Ok(file) => file,
                Err(Errno::ENOENT) => continue, // the directory went with another stream
                Err(Errno::EACCES) if is_alive(&root, name) => {
                    return Err(taken(name, "another user's process"));
                }
                Err(errno) => {
                    return Err(Error::system("opening the stream's lock", errno)
                        .hint("another user's producer may have left it; remove it, or choose another name")
                        .with("directory", root.join(&directory.nested).display()));
                }
            };
            let inode = fstat(&file).map_err(|errno| Error::system("fstat", errno))?.st_ino;
            let file = ProcessFd::new(file)?;
            // nix's Flock wants to own the file; the at-fork registry does. The call is one line.
            match flock(file.as_fd(), FlockArg::LockExclusiveNonblock) {
                Ok(()) => {}
                Err(Errno::EWOULDBLOCK) => return Err(taken(name, &holder(file.as_fd()))),
                Err(errno) => return Err(Error::system("locking the stream's name", errno)),
            }
            // Whoever held it before may have removed the file after we opened it.
            let now =
                fstatat(&directory.fd, directory.lock().as_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
            if now.is_ok_and(|now| now.st_ino == inode) {
                let _ = ftruncate(&file, 0);
                let _ = write(&file, format!("{}\n", std::process::id()).as_bytes());
                reach(Step::ClaimLocked);
                directory.remove(&directory.temporary());
                return Ok(Self { directory, lock: file });
            }
        }
        Err(Error::new(
            ErrorKind::System,
            format!("no lock file can be made in {}; name an ordinary directory in BIPS_DIR", root.display()),
        ))
    }

    /// Listens under the name. The socket appears with its permissions set, and in place of a dead one's.
    pub(crate) fn listen(&self, rule: &AccessRule) -> Result<OwnedFd> {
        let directory = &self.directory;
        let temporary = directory.temporary();
        let socket = socket::bind_in(directory.fd.as_fd(), &temporary)?;
        reach(Step::ClaimBound);
        let named = self.admit_and_name(rule, &temporary).and_then(|()| socket::begin_to_listen(&socket));
        if let Err(error) = named {
            directory.remove(&temporary);
            return Err(error);
        }
        let (from, to) = (temporary.as_str(), directory.socket());
        renameat(&directory.fd, from, &directory.fd, to.as_str()).map_err(|errno| {
            directory.remove(&temporary);
            Error::system("naming the stream's socket", errno)
        })?;
        reach(Step::ClaimNamed);
        Ok(socket)
    }

    /// Sets group and mode of the socket just bound.
    fn admit_and_name(&self, rule: &AccessRule, leaf: &str) -> Result<()> {
        let failed = |errno| Error::system("setting who may connect", errno);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // By descriptor: in a directory that others may write to, the name could become a link meanwhile.
        let inode = openat(&self.directory.fd, leaf, flags, Mode::empty()).map_err(failed)?;
        let kind = SFlag::from_bits_truncate(fstat(&inode).map_err(failed)?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFSOCK {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "somebody replaced the stream's socket while it was made; use a runtime directory only trusted users \
                 can write to",
            ));
        }
        let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
        let mode = match rule {
            AccessRule::Owner => 0o600,
            AccessRule::Group(name) => {
                chown(path.as_str(), None, Some(group(name)?)).map_err(|errno| {
                    failed(errno).hint("the producer must be root or a member of that group")
                })?;
                0o660
            }
            AccessRule::Directory => 0o666,
        };
        fchmodat(AT_FDCWD, path.as_str(), Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
            .map_err(failed)
    }
}

impl AccessRule {
    /// Whether this peer may come in. The socket's mode has kept strangers out already, where the rule is one of files.
    pub(crate) fn admits(&self, peer: &Peer) -> bool {
        let ours = nix::unistd::geteuid().as_raw();
        *self != Self::Owner || peer.uid == 0 || (peer.uid == ours && peer.uid != OVERFLOW_UID)
    }
}

/// A group by its name or, like for `chown`, where no group has that name, its number: in a container the number is
/// often all there is.
fn group(name: &str) -> Result<Gid> {
    if let Some(group) = Group::from_name(name).ok().flatten() {
        return Ok(group.gid);
    }
    // To the kernel the largest number is no group at all: it would leave the socket's group as it is.
    let number = name.parse().ok().filter(|number| *number != u32::MAX);
    number.map(Gid::from_raw).ok_or_else(|| {
        Error::invalid(format!(
            "there is no group {name:?} here; make it, give its number as in \"group:5000\", or use access \"directory\""
        ))
    })
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.lock.is_ours() {
            return; // a forked child's copy: the name is still the parent's
        }
        let directory = &self.directory;
        directory.remove(&directory.socket());
        reach(Step::CloseUnnamed);
        directory.remove(&directory.lock());
        // Explicitly: a forked child may share this lock.
        let _ = flock(self.lock.as_fd(), FlockArg::Unlock);
        let mut nested = directory.nested.as_str();
        while !nested.is_empty() && fs::remove_dir(directory.root.join(nested)).is_ok() {
            nested = nested.rsplit_once('/').map_or("", |(outer, _)| outer);
        }
    }
}

fn flock(fd: BorrowedFd<'_>, operation: FlockArg) -> nix::Result<()> {
    let operation = match operation {
        FlockArg::LockExclusiveNonblock => libc::LOCK_EX | libc::LOCK_NB,
        _ => libc::LOCK_UN,
    };
    crate::sys::flock(fd, operation)
}

/// Who holds the lock, as it wrote itself.
fn holder(lock: BorrowedFd<'_>) -> String {
    holder_in(&written(lock))
}

fn written(lock: BorrowedFd<'_>) -> Vec<u8> {
    let mut text = vec![0; 16];
    let read = nix::sys::uio::pread(lock, &mut text, 0).unwrap_or(0);
    text.truncate(read);
    text
}

/// Who a lock file of this content says holds it.
pub(crate) fn holder_in(text: &[u8]) -> String {
    pid_in(text).map_or_else(|| String::from("another process"), |pid| format!("pid {pid}"))
}

/// The file may be anybody's who can write to the directory: digits only.
fn pid_in(text: &[u8]) -> Option<u32> {
    String::from_utf8_lossy(text).trim().parse().ok()
}

/// The process that holds a name, as it wrote itself, where we may read that.
pub(super) fn holder_of(root: &Path, name: &StreamName) -> Option<u32> {
    let directory = Directory::find(root, name).ok().flatten()?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let lock = openat(&directory.fd, directory.lock().as_str(), flags, Mode::empty()).ok()?;
    pid_in(&written(lock.as_fd()))
}

/// Whether a producer listens under the name, be it one we may not connect to.
pub(super) fn is_alive(root: &Path, name: &StreamName) -> bool {
    match try_connect(root, name) {
        Ok(found) => found.is_some(),
        Err(error) => matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Timeout),
    }
}

fn taken(name: &StreamName, who: &str) -> Error {
    Error::new(
        ErrorKind::NameTaken,
        format!("{name} is already published by {who}; choose another name, or stop that producer first"),
    )
}

/// Connects if somebody listens right now.
pub(super) fn try_connect(root: &Path, name: &StreamName) -> Result<Option<OwnedFd>> {
    let Some(directory) = Directory::find(root, name)? else {
        return Ok(None);
    };
    match socket::connect_in(directory.fd.as_fd(), &directory.socket()) {
        Ok(socket::Connected::Yes(socket)) => Ok(Some(socket)),
        Ok(socket::Connected::Nobody) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A watch on the place where a name will appear. No polling.
#[derive(Debug)]
pub(super) struct Appearance(Inotify);

impl Appearance {
    pub(super) fn watch(root: &Path, name: &StreamName) -> Result<Self> {
        let failed =
            |errno| Error::system("watching the runtime directory", errno).with("directory", root.display());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
        // The deepest part of the name that exists.
        let nested = root.join(name.split().0);
        for place in nested.ancestors() {
            match inotify.add_watch(place, events) {
                Ok(_) => break,
                Err(Errno::ENOENT | Errno::ENOTDIR) if place != root => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Self(inotify))
    }
}

impl AsFd for Appearance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
