//! What a consumer calls itself.

use crate::session::MAX_LABEL;
use crate::{Error, Result};
use std::path::Path;

/// The program's name and the host's. Containers have a host name of their own each, mostly their id.
pub(super) fn usual() -> String {
    let program = std::env::args_os().next();
    let program = program.as_deref().map(Path::new).and_then(Path::file_name);
    let program = program.map_or("?".into(), |name| name.to_string_lossy());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    compose(&program, host.trim_end())
}

fn compose(program: &str, host: &str) -> String {
    // Half each: of a name as long as that the beginning tells enough.
    let program = printable(program, MAX_LABEL / 2 - 1);
    match printable(host, MAX_LABEL / 2) {
        host if host.is_empty() => program,
        host => format!("{program}@{host}"),
    }
}

/// At most `limit` bytes of it, of whole characters.
fn printable(text: &str, limit: usize) -> String {
    let mut printable = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if printable.len() + c.len_utf8() > limit {
            break;
        }
        printable.push(c);
    }
    printable
}

/// Refuses what a producer would.
pub(super) fn checked(label: String) -> Result<String> {
    if label.len() > MAX_LABEL || label.contains(char::is_control) {
        return Err(Error::invalid(format!(
            "{label:?} is no label; use at most {MAX_LABEL} bytes of text, on one line"
        )));
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_one_is_a_good_one() {
        let usual = usual();
        assert!(usual.contains('@'), "{usual}");
        assert_eq!(checked(usual.clone()).unwrap(), usual);
        assert_eq!(compose("detector", "box"), "detector@box");
        assert_eq!(compose("det\nector", ""), "det?ector");
        assert_eq!(checked(compose(&"ä".repeat(99), &"b".repeat(99))).unwrap().len(), 30 + 1 + 32);
    }

    #[test]
    fn others_are_refused() {
        for bad in ["x".repeat(65), "ä".repeat(33), "a\nb".into(), "\x1b[2J".into()] {
            assert!(checked(bad).unwrap_err().to_string().contains("at most 64 bytes"));
        }
        assert_eq!(checked("x".repeat(64)).unwrap().len(), 64);
    }
}
