//! A peer may send a file of a file system that is a program of its own, and never answers. Looking at it must not wait.

#[path = "../../../tests/common/skip.rs"]
mod skip;

use bips::ErrorKind;
use bips_dma_buf::DmaBuf;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// A mounted file system whose program reads no request.
struct Hung {
    directory: PathBuf,
    program: Option<File>,
}

impl Hung {
    fn mount() -> Result<Self, String> {
        let program = File::options().read(true).write(true).open("/dev/fuse");
        let program = program.map_err(|error| format!("/dev/fuse: {error}"))?;
        let directory = std::env::temp_dir().join(format!("bips-hung-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", program.as_raw_fd());
        let mounted = mount(Some("bips"), &directory, Some("fuse"), MsFlags::empty(), Some(options.as_str()));
        let hung = Self { directory, program: Some(program) };
        match mounted {
            Ok(()) => Ok(hung),
            Err(errno) => Err(format!("mounting: {errno}")),
        }
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

#[test]
fn a_file_whose_file_system_never_answers() {
    let mut hung = match Hung::mount() {
        Ok(hung) => hung,
        Err(why) => {
            return skip::skip(format_args!(
                "no file system can be mounted here that is a program's ({why})"
            ));
        }
    };
    let file: OwnedFd = open(&hung.directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let (say, hear) = channel();
    let looker = thread::spawn(move || say.send(DmaBuf::new(file).map(drop)));
    let told = hear.recv_timeout(Duration::from_secs(10));
    hung.end();
    let error = told.expect("it is refused without asking").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("no dma-buf: it is some other file"), "{error}");
    looker.join().unwrap().unwrap();
}
