//! Runs the real program, each test in a runtime directory of its own, and lets no child outlive its time.
#![allow(dead_code, unreachable_pub)] // each test file uses its share

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const LIMIT: Duration = Duration::from_secs(60);

/// A runtime directory, and the program in it.
pub struct House(TempDir);

pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Every failure says itself in one line that begins with the program's name.
    #[track_caller]
    pub fn expect_failure(self, code: i32, words: &str) -> Self {
        let ended = self.expect_code(code);
        let stderr = ended.stderr.trim_end();
        assert!(stderr.starts_with("bips: ") && !stderr.contains('\n'), "not one line: {stderr}");
        assert!(stderr.contains(words), "{words:?} is not in: {stderr}");
        ended
    }
}

/// A child that is killed, by its own id, when the test ends before it does.
pub struct Running {
    child: Child,
    readers: Option<[JoinHandle<String>; 2]>,
}

impl House {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("bips-test-").tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bips"));
        command
            .args(words.split_whitespace())
            .env("BIPS_DIR", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn start(&self, words: &str) -> Running {
        Running::new(&mut self.command(words))
    }

    pub fn run(&self, words: &str) -> Ended {
        self.start(words).end()
    }

    /// What lies in the runtime directory.
    pub fn left_behind(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until the stream exists and `enough` holds of what its producer says.
    pub fn wait_for(&self, stream: &str, enough: impl Fn(&bips::StreamInfo) -> bool) -> bips::StreamInfo {
        self.wait_for_within(LIMIT, stream, enough)
    }

    pub fn wait_for_within(
        &self,
        limit: Duration,
        stream: &str,
        enough: impl Fn(&bips::StreamInfo) -> bool,
    ) -> bips::StreamInfo {
        let deadline = Instant::now() + limit;
        loop {
            match bips::query(stream, Some(self.path())) {
                Ok(info) if enough(&info) => return info,
                _ => assert!(Instant::now() < deadline, "{stream} did not come so far in time"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Running {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let readers = [reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap())];
        Self { child, readers: Some(readers) }
    }

    /// One whose output the test reads itself.
    pub fn over(child: Child) -> Self {
        Self { child, readers: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Stops it; when this returns none of its threads runs any more.
    pub fn stop(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        self.signal(nix::sys::signal::Signal::SIGSTOP);
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    #[track_caller]
    pub fn end(self) -> Ended {
        self.end_within(LIMIT)
    }

    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "pid {} did not end in time", self.child.id()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = self.readers.take().unwrap().map(|reader| reader.join().unwrap());
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}
