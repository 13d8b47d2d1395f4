//! Texts: names and rules that people and files give, and what the kernel says about memory and locks.

use super::{assert_printable, assert_tellable};
use crate::session::holder_in;
use crate::signaler::Policy;
use crate::stream::{AccessRule, StreamName};
use crate::sys::limits::{droppable_in, machine_in, memory_groups};
use crate::{DType, Fourcc, Result};
use std::fmt::{Debug, Display};
use std::path::{Component, Path};

/// Whatever has a name: a stream, an access rule, a policy, a pixel format or an element type, by the first byte.
///
/// # Panics
/// When a name is accepted that leads out of the runtime directory, or one is read otherwise than it is written.
pub fn names(data: &[u8]) {
    let (kind, text) = data.split_first().unwrap_or((&0, data));
    let text = String::from_utf8_lossy(text);
    match kind % KINDS {
        0 => {
            if let Some(name) = reads_as_written(&text, |text| StreamName::new(text)) {
                check_name(&name);
            }
        }
        1 => {
            if let Some(Policy::KeepLast(depth)) = reads_as_written(&text, Policy::parse) {
                assert!((1..=64).contains(&depth));
            }
        }
        2 => drop(reads_as_written(&text, AccessRule::parse)),
        3 => drop(reads_as_written(&text, DType::parse)),
        _ => {
            if let Some(fourcc) = reads_as_written(&text, Fourcc::parse) {
                assert!(crate::Content::image(fourcc, 2, 2).is_ok());
            }
        }
    }
}

const KINDS: u8 = 5;

fn check_name(name: &StreamName) {
    assert!((1..=100).contains(&name.as_str().len()));
    let below = Path::new(name.as_str()).components();
    assert!(below.clone().all(|part| matches!(part, Component::Normal(part) if !is_hidden(part))));
    let (directory, leaf) = name.split();
    assert_eq!(Path::new(directory).join(leaf), Path::new(name.as_str()));
    assert!(!leaf.is_empty() && !leaf.contains('/'));
    assert_printable(name.as_str());
}

fn is_hidden(part: &std::ffi::OsStr) -> bool {
    part.as_encoded_bytes().starts_with(b".")
}

fn reads_as_written<T: Display + PartialEq + Debug>(
    text: &str,
    parse: impl Fn(&str) -> Result<T>,
) -> Option<T> {
    match parse(text) {
        Ok(value) => {
            assert_eq!(parse(&value.to_string()).expect("what is written can be read"), value);
            Some(value)
        }
        Err(error) => {
            assert_tellable(&error);
            None
        }
    }
}

pub(super) fn name_seeds() -> Vec<Vec<u8>> {
    let long = "x".repeat(100);
    let names = ["cam", "front-camera", "a/b.c/d_1", &long, "../a", "a//b", "a.sock/b", "x/a.lock"];
    let kinds: [&[&str]; KINDS as usize] = [
        &names,
        &["reliable", "latest", "keep-last:64"],
        &["owner", "group:video", "directory"],
        &["uint8", "bfloat16", "complex128"],
        &["RGB3", "Y16", "NV12"],
    ];
    let seed = |kind: usize, text: &str| [&[kind as u8], text.as_bytes()].concat();
    kinds
        .iter()
        .enumerate()
        .flat_map(|(kind, texts)| texts.iter().map(move |text| seed(kind, text)))
        .collect()
}

/// The files in which the kernel says how much memory there is, and the one in which a producer says who it is.
///
/// # Panics
/// When there seems to be more room than the limit, or a text of somebody else's gets through.
pub fn system(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(machine) = machine_in(&text) {
        let numbers = [machine.total, machine.available, machine.swap];
        assert!(numbers.iter().all(|bytes| bytes.is_multiple_of(1024) || *bytes == u64::MAX), "{machine:?}");
    }
    if let Some(number) =
        text.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok())
        && !text.contains("total_inactive_file ")
        && text.matches("inactive_file ").count() == 1
    {
        assert_eq!(droppable_in(&text), number);
    }
    for (root, path) in memory_groups(&text) {
        assert!(path.is_relative() && root.join(path).starts_with(root), "{path:?} is not below {root:?}");
    }
    let holder = holder_in(data);
    let number = holder.strip_prefix("pid ").map(|pid| pid.parse::<u32>());
    assert!(holder == "another process" || matches!(number, Some(Ok(_))), "{holder:?}");
}

pub(super) fn system_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"MemTotal:  8000 kB\nMemAvailable:   4000 kB\nSwapFree:  100 kB\n",
        b"anon 1\ninactive_file 4096\n",
        b"4:cpu,memory:/docker/0a\n1:name=systemd:/x\n0::/../user.slice\n",
        b"4711\n",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}
