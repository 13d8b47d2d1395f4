//! One error type for everything rare, and stable codes that C and Python share.

use std::error::Error as StdError;
use std::fmt;

/// Result of every control-plane call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a stable number. The numbers are part of the C ABI and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorKind {
    /// The time allowed ran out.
    Timeout = 1,
    /// The other side, or this handle, has been closed.
    Closed = 2,
    /// Another live producer publishes under this name.
    NameTaken = 3,
    /// No producer of this name lives in the runtime directory.
    NotFound = 4,
    /// This machine, kernel, backend or peer cannot do what was asked.
    Unsupported = 5,
    /// Permissions, of files or of the stream's access rule, forbid it.
    AccessDenied = 6,
    /// A peer broke the protocol, or speaks another major version of it.
    Protocol = 7,
    /// The machine, or the memory control group, has not that much memory.
    OutOfMemory = 8,
    /// An argument is outside what the call allows.
    InvalidArgument = 9,
    /// The handle was made before a `fork` and is used in the child.
    Forked = 10,
    /// The frame was never completed: its producer died before its device work was done.
    Lost = 11,
    /// The operating system refused a call that should succeed.
    System = 12,
    /// The consumer already leases as many frames as the producer allows it.
    TooManyHeld = 13,
}

impl ErrorKind {
    /// The kind in kebab-case, as the CLI and Python show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NameTaken => "name-taken",
            Self::NotFound => "not-found",
            Self::Unsupported => "unsupported",
            Self::AccessDenied => "access-denied",
            Self::Protocol => "protocol",
            Self::OutOfMemory => "out-of-memory",
            Self::InvalidArgument => "invalid-argument",
            Self::Forked => "forked",
            Self::Lost => "lost",
            Self::System => "system",
            Self::TooManyHeld => "too-many-held",
        }
    }

    /// The kind behind a code received from a peer; unknown codes read as [`ErrorKind::Protocol`].
    pub fn from_code(code: u32) -> Self {
        use ErrorKind::*;
        [
            Timeout,
            Closed,
            NameTaken,
            NotFound,
            Unsupported,
            AccessDenied,
            Protocol,
            OutOfMemory,
            InvalidArgument,
            Forked,
            Lost,
            System,
            TooManyHeld,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == code)
        .unwrap_or(Protocol)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error with its kind, a message that names the next step, and what is known around it.
///
/// One pointer wide, so that a `Result` of a hot call stays small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`; `message` should say what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None }))
    }

    /// An error of the operating system, its kind taken from `errno`.
    pub fn system(operation: &str, errno: impl Into<std::io::Error>) -> Self {
        let source = errno.into();
        let kind = match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::AccessDenied,
            Some(libc::ENOMEM | libc::ENOSPC) => ErrorKind::OutOfMemory,
            Some(libc::ENOENT) => ErrorKind::NotFound,
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        let mut error = Self::new(kind, format!("{operation}: {source}"));
        if source.raw_os_error() == Some(libc::EMFILE) {
            error = error.hint("this process has as many files open as it may; raise `ulimit -n`");
        }
        error.0.source = Some(Box::new(source));
        error
    }

    /// Adds one fact that helps to find the cause.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Appends a sentence to the message, usually the next step.
    #[must_use]
    pub fn hint(mut self, sentence: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(sentence);
        self
    }

    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without the context pairs.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts added by [`Error::with`], in order.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(crate) fn forked() -> Self {
        Self::new(
            ErrorKind::Forked,
            "this handle was made before a fork and belongs to the parent process; open the stream anew in the \
             child (with Python's multiprocessing: start method \"spawn\")",
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut separator = " (";
        for (key, value) in &self.0.context {
            write!(f, "{separator}{key}: {value}")?;
            separator = ", ";
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Why no buffer could be had. Small and `Copy`; `Producer::explain` turns it into a full [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcquireError {
    /// Every slot stayed taken for the time allowed.
    Timeout,
    /// The producer has been closed.
    Closed,
    /// The producer belongs to the parent of this process.
    Forked,
    /// The system refused the CPU the slot it asked for; the slot is free again.
    Memory,
    /// The pool has no slot of this index.
    NoSuchSlot,
}

impl AcquireError {
    /// The stable kind.
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::Timeout => ErrorKind::Timeout,
            Self::Closed => ErrorKind::Closed,
            Self::Forked => ErrorKind::Forked,
            Self::Memory => ErrorKind::System,
            Self::NoSuchSlot => ErrorKind::InvalidArgument,
        }
    }
}

/// Why no frame could be had. Small and `Copy`; `Consumer::explain` turns it into a full [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing was published in the time allowed.
    Timeout,
    /// The producer ended, and every frame it published has been received.
    Closed,
    /// The consumer belongs to the parent of this process.
    Forked,
    /// This consumer leases as many frames as the producer allows; release one first.
    TooManyHeld,
    /// The producer wrote nonsense; the stream can't be trusted further.
    Protocol,
    /// The next producer of the name can't be joined; `Consumer::explain` knows why.
    Refused,
    /// The system refused the CPU the frame's slot; it was given back, and the frame counts as missed.
    Memory,
}

impl ReceiveError {
    /// The stable kind.
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::Timeout => ErrorKind::Timeout,
            Self::Closed => ErrorKind::Closed,
            Self::Forked => ErrorKind::Forked,
            Self::TooManyHeld => ErrorKind::TooManyHeld,
            Self::Protocol => ErrorKind::Protocol,
            Self::Refused => ErrorKind::Unsupported,
            Self::Memory => ErrorKind::System,
        }
    }
}

macro_rules! display_as_kind {
    ($($error:ty),*) => {$(
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.kind().name())
            }
        }
        impl StdError for $error {}
    )*};
}
display_as_kind!(AcquireError, ReceiveError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn codes_survive_the_wire() {
        for code in 1..=13 {
            assert_eq!(ErrorKind::from_code(code) as u32, code);
        }
        assert_eq!(ErrorKind::from_code(9999), ErrorKind::Protocol);
    }

    #[test]
    fn shows_message_then_context() {
        let error = Error::invalid("65 slots asked for").hint("use 1 to 64").with("stream", "cam");
        assert_eq!(error.to_string(), "65 slots asked for; use 1 to 64 (stream: cam)");
    }
}
