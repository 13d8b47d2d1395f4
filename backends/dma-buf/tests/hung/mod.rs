//! A file system whose program never answers: a peer may have one, and send a file of it.

#[path = "../../../../tests/common/skip.rs"]
mod skip;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// The mount. Its end also ends whoever waits for it.
pub(crate) struct Hung {
    directory: PathBuf,
    program: Option<File>,
}

impl Hung {
    /// `None` where none can be mounted, which is said.
    #[track_caller]
    pub(crate) fn mount() -> Option<Self> {
        let why = match Self::try_mount() {
            Ok(hung) => return Some(hung),
            Err(why) => why,
        };
        skip::skip(format_args!("no file system can be mounted here that is a program's ({why})"));
        None
    }

    fn try_mount() -> Result<Self, String> {
        let program = File::options().read(true).write(true).open("/dev/fuse");
        let program = program.map_err(|error| format!("/dev/fuse: {error}"))?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bips-hung-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", program.as_raw_fd());
        let mounted = mount(Some("bips"), &directory, Some("fuse"), MsFlags::empty(), Some(options.as_str()));
        let hung = Self { directory, program: Some(program) };
        match mounted {
            Ok(()) => Ok(hung),
            Err(errno) => Err(format!("mounting: {errno}")),
        }
    }

    /// A descriptor of one of its files.
    pub(crate) fn file(&self) -> OwnedFd {
        open(&self.directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    /// What `look` says of it, which it says without asking the program.
    pub(crate) fn unasked<T: Send + 'static>(
        mut self,
        look: impl FnOnce(OwnedFd) -> T + Send + 'static,
    ) -> T {
        let (file, (say, hear)) = (self.file(), channel());
        let looker = thread::spawn(move || drop(say.send(look(file))));
        let told = hear.recv_timeout(Duration::from_secs(10));
        self.end();
        looker.join().unwrap();
        told.expect("it is told without asking")
    }

    /// Whoever waits for it gets an error from now on.
    fn end(&mut self) {
        self.program = None;
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.end();
        let _: Result<(), Errno> = umount2(&self.directory, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.directory);
    }
}
