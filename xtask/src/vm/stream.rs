//! A stream of the command, from the machine's port to where it belongs.

use std::io::{ErrorKind, Read, Write};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ended {
    /// All that the command wrote has been passed on.
    Whole,
    /// The machine ended first.
    Cut,
    /// Nobody reads it any more.
    Unread,
}

/// Copies all up to the end mark, byte for byte and as soon as it is there.
pub(super) fn pass(mut from: impl Read, mut to: impl Write, end: &[u8]) -> Ended {
    let mut buffer = vec![0; 1 << 16];
    // What may be the beginning of the mark is held back at the buffer's front.
    let mut held = 0;
    loop {
        let read = match from.read(&mut buffer[held..]) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let filled = held + read;
        held = if read == 0 { 0 } else { overlap(&buffer[..filled], end) };
        let ready = filled - held;
        if to.write_all(&buffer[..ready]).and_then(|()| to.flush()).is_err() {
            return Ended::Unread;
        }
        if read == 0 {
            return Ended::Cut;
        }
        if held == end.len() {
            return Ended::Whole;
        }
        buffer.copy_within(ready..filled, 0);
    }
}

/// How many of the last bytes are the first of the mark.
fn overlap(bytes: &[u8], mark: &[u8]) -> usize {
    let most = mark.len().min(bytes.len());
    (1..=most).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Gives its bytes in pieces of one size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn everything_before_the_mark_is_passed_on_however_it_arrives() {
        for content in [b"".as_slice(), b"abc", b"aabaab", b"\0\xff\naab\x04", &[b'a'; 100]] {
            let sent = [content, b"aabc"].concat();
            for size in [1, 2, 3, 5, 1000] {
                let mut passed = Vec::new();
                assert_eq!(pass(Pieces(&sent, size), &mut passed, b"aabc"), Ended::Whole);
                assert_eq!(passed, content, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn more_than_the_buffer_holds_is_passed_on() {
        let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = [content.as_slice(), b"MARK"].concat();
        let mut passed = Vec::new();
        assert_eq!(pass(Pieces(&sent, 70_001), &mut passed, b"MARK"), Ended::Whole);
        assert!(passed == content);
    }

    #[test]
    fn a_stream_without_its_mark_was_cut_and_what_came_is_passed_on() {
        let mut passed = Vec::new();
        assert_eq!(pass(Pieces(b"half MA", 3), &mut passed, b"MARK"), Ended::Cut);
        assert_eq!(passed, b"half MA");
    }

    #[test]
    fn nobody_reading_ends_it() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(pass(Pieces(b"text", 9), Closed, b"MARK"), Ended::Unread);
    }
}
