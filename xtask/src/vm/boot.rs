//! One boot, watched to its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::qemu::PORTS;
use super::session::Session;
use super::signals::Signals;
use super::stream::{self, Ended};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a boot ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// The command did, with this status.
    Exit(u8),
    TimedOut {
        up: bool,
    },
    /// The machine did not come as far as the command, or not in the time that it was given for that.
    NotUp(String),
    /// The machine ended before the command did.
    Broke(String),
    /// This process was told to end.
    Signal(i32),
    /// Nobody reads what the command prints.
    Unread,
}

/// How long a boot may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Until the command has ended.
    pub(super) whole: Duration,
    /// Until the machine is about to start it.
    pub(super) up: Duration,
}

/// What the threads that listen to the machine have heard.
enum Event {
    Status(String),
    Ended(&'static str, Ended),
}

/// A QEMU, which ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Must be called by the process's first thread: QEMU ends with the thread that starts it.
pub(super) fn run(mut command: Command, session: &Session, limits: Limits, signals: &Signals) -> Result<End> {
    let listeners = PORTS.map(|port| {
        // An earlier boot of this session may have left one.
        let _ = std::fs::remove_file(session.file(port));
        let listener = UnixListener::bind(session.file(port))?;
        listener.set_nonblocking(true)?;
        Ok((port, listener))
    });
    let listeners: io::Result<Vec<_>> = listeners.into_iter().collect();
    let said = File::create(session.file(QEMU_LOG))?;
    command.stdout(said.try_clone()?).stderr(said);
    let mut watch = Watch {
        qemu: Running(command.spawn().context("cannot start setpriv, of the package util-linux")?),
        limits,
        started: Instant::now(),
        signals,
        up: false,
        code: None,
    };
    watch.until_over(listeners.context("cannot make the machine's sockets")?, &session.end)
}

/// What QEMU itself says, in the session's folder.
pub(super) const QEMU_LOG: &str = "qemu.log";

struct Watch<'a> {
    qemu: Running,
    limits: Limits,
    started: Instant,
    signals: &'a Signals,
    /// The machine is about to start the command, or has.
    up: bool,
    /// The command's status.
    code: Option<u8>,
}

impl Watch<'_> {
    fn until_over(&mut self, listeners: Vec<(&'static str, UnixListener)>, mark: &str) -> Result<End> {
        let (sender, events) = channel();
        let mut waited = listeners;
        while !waited.is_empty() {
            let mut later = Vec::new();
            for (port, listener) in waited {
                match listener.accept() {
                    Ok((stream, _)) => listen(port, stream, mark, sender.clone())?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => later.push((port, listener)),
                    Err(error) => return Err(error).context("cannot listen to the machine"),
                }
            }
            waited = later;
            if let Some(end) = self.overdue() {
                return Ok(end);
            }
            if let Some(status) = self.qemu.0.try_wait()? {
                return Ok(End::NotUp(format!("QEMU did not start ({status})")));
            }
            thread::sleep(Duration::from_millis(2));
        }
        // Now that the threads have one each, the channel ends with them.
        drop(sender);
        self.listen_to(&events)
    }

    fn listen_to(&mut self, events: &Receiver<Event>) -> Result<End> {
        let mut streams = 2;
        let mut cut = false;
        loop {
            match events.recv_timeout(LOOK_EVERY) {
                Ok(Event::Status(line)) => match line.split_once(' ') {
                    None if line == "up" => self.up = true,
                    Some(("exit", code)) => self.code = code.parse().ok(),
                    _ => {}
                },
                Ok(Event::Ended("out", Ended::Unread)) => return Ok(End::Unread),
                Ok(Event::Ended("status", _)) => {}
                Ok(Event::Ended(_, ended)) => {
                    streams -= 1;
                    cut |= ended == Ended::Cut;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // All is closed and read, so QEMU ends now, if it has not.
                    let status = self.wait()?;
                    return Ok(self.over(status, cut));
                }
            }
            if let Some(code) = self.code.filter(|_| streams == 0 && !cut) {
                return Ok(End::Exit(code));
            }
            if let Some(end) = self.overdue() {
                return Ok(end);
            }
        }
    }

    /// QEMU's end by itself; its sockets were closed just before.
    fn wait(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = self.qemu.0.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                self.qemu.0.kill()?;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// What it means that the machine has ended.
    fn over(&self, status: ExitStatus, cut: bool) -> End {
        match self.code {
            Some(code) if !cut => End::Exit(code),
            Some(_) => End::Broke(format!(
                "the machine ended before all of the command's output had come (QEMU: {status})"
            )),
            None if self.up => End::Broke(format!("the machine ended before the command (QEMU: {status})")),
            None => End::NotUp(format!("the machine ended before it was up (QEMU: {status})")),
        }
    }

    fn overdue(&self) -> Option<End> {
        let took = self.started.elapsed();
        if let Some(signal) = self.signals.came() {
            return Some(End::Signal(signal));
        }
        if took >= self.limits.whole {
            return Some(End::TimedOut { up: self.up });
        }
        (!self.up && took >= self.limits.up).then(|| {
            End::NotUp(format!("the machine gave no sign of life in {} s", self.limits.up.as_secs()))
        })
    }
}

/// Starts the thread of one port.
fn listen(port: &'static str, stream: UnixStream, mark: &str, events: Sender<Event>) -> Result<()> {
    stream.set_nonblocking(false)?;
    let mark = mark.as_bytes().to_vec();
    let listener = move || {
        let ended = match port {
            "status" => {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let _ = events.send(Event::Status(line));
                }
                Ended::Whole
            }
            // Not the buffered ones of `std::io`: what is there is passed on at once.
            "out" => stream::pass(&stream, File::from(duplicate(io::stdout())?), &mark),
            _ => stream::pass(&stream, File::from(duplicate(io::stderr())?), &mark),
        };
        // Nobody listens any more when the boot is over.
        let _ = events.send(Event::Ended(port, ended));
        if ended == Ended::Unread {
            // The command goes on, and must not wait for a reader.
            io::copy(&mut &stream, &mut io::sink())?;
        }
        io::Result::Ok(())
    };
    thread::Builder::new().name(port.to_owned()).spawn(listener)?;
    Ok(())
}

fn duplicate(stream: impl std::os::fd::AsFd) -> io::Result<std::os::fd::OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
