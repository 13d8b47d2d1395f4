//! How a command ends: one line on stderr and an exit code that scripts can rely on.

use std::fmt::Display;
use std::process::ExitCode;

use bips::ErrorKind;

/// The command ran and what it was asked to show is not so.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense (clap uses the same code).
pub(crate) const USAGE: u8 = 2;
/// There is no such stream, or no such runtime directory.
pub(crate) const NOT_FOUND: u8 = 3;
/// Nothing came in the time that was given.
pub(crate) const TIMED_OUT: u8 = 4;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ends before its work is done.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(TIMED_OUT, message)
    }

    /// A failure whose report is already on stdout; only the exit code is left to say.
    pub(crate) fn reported() -> Self {
        Self { code: FAILED, message: None }
    }

    /// The reader of our output has gone (`bips ls | head -1`): its right, so no error of ours.
    pub(crate) fn quiet() -> Self {
        Self { code: 0, message: None }
    }

    /// Something the operating system refused, with what was being done.
    pub(crate) fn system(doing: impl Display, error: impl Display) -> Self {
        Self::failed(format!("{doing}: {error}"))
    }

    /// The same exit code, with the words in front that say where it happened.
    pub(crate) fn at(self, place: impl Display) -> Self {
        Self { code: self.code, message: self.message.map(|message| format!("{place}: {message}")) }
    }

    /// The message alone, to be told by another process.
    pub(crate) fn into_message(self) -> String {
        self.message.unwrap_or_default()
    }

    /// Prints the one line and gives the process its exit code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            // A closed stderr must not turn the exit code into a panic's.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("bips: {message}\n"));
        }
        ExitCode::from(self.code)
    }
}

impl From<bips::Error> for Failure {
    fn from(error: bips::Error) -> Self {
        Self::new(code_of(error.kind()), error.to_string())
    }
}

fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidArgument => USAGE,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Timeout => TIMED_OUT,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_exit_code() {
        assert_eq!(code_of(ErrorKind::InvalidArgument), 2);
        assert_eq!(code_of(ErrorKind::NotFound), 3);
        assert_eq!(code_of(ErrorKind::Timeout), 4);
        for kind in [ErrorKind::Closed, ErrorKind::NameTaken, ErrorKind::Protocol, ErrorKind::OutOfMemory] {
            assert_eq!(code_of(kind), 1);
        }
    }
}
