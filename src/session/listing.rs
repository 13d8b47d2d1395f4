//! Which streams there are, and what their producers say about them.

use super::asking::{Asking, Patience};
use super::message::{Reply, Request, StreamInfo};
use super::rendezvous;
use crate::stream::{StreamName, runtime_dir};
use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// The public facts of a stream.
///
/// # Errors
/// `NotFound`, with what is published instead; `AccessDenied`; `Timeout` from a stopped producer.
pub fn query(name: &str, directory: Option<&Path>) -> Result<StreamInfo> {
    let name = StreamName::new(name)?;
    let mut asking = Asking::new(directory, &name, Request::Query);
    match asking.advance(&Patience::SHORT) {
        Ok(Some((_, Reply::Info(info), _))) => Ok(info),
        Ok(Some(_)) => Err(Error::protocol("the producer answered something else than was asked")),
        Ok(None) => return Err(asking.why_not()),
        Err(error) => Err(error),
    }
    .map_err(|error| error.with("stream", name))
}

/// The names of all streams whose producer lives, sorted.
///
/// # Errors
/// `NotFound` or `AccessDenied` for the runtime directory itself.
pub fn streams(directory: Option<&Path>) -> Result<Vec<String>> {
    names_in(&runtime_dir(directory)?)
}

pub(super) fn names_in(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    collect(root, "", &mut names, 0)?;
    names.retain(|name| {
        // A leftover socket refuses; one we may not use is alive all the same.
        StreamName::new(name.as_str()).is_ok_and(|name| rendezvous::is_alive(root, &name))
    });
    names.sort();
    Ok(names)
}

fn collect(directory: &Path, prefix: &str, names: &mut Vec<String>, depth: u32) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|error| {
        Error::system("listing the runtime directory", error).with("directory", directory.display())
    })?;
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if let Some(leaf) = name.strip_suffix(".sock") {
            names.push(format!("{prefix}{leaf}"));
        } else if depth < 50 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A nested directory may vanish or be closed to us; the others still count.
            let _ = collect(&entry.path(), &format!("{prefix}{name}/"), names, depth + 1);
        }
    }
    Ok(())
}
