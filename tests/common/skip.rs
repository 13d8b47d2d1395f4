//! What can't be tested here. A test left out passes, and the harnesses hide what passing tests say: so whoever runs
//! them can name a file in which it is collected.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Names that file; `cargo xtask test` does, and shows what was collected, or fails for it.
const COLLECT: &str = "BIPS_SKIPS";

/// Says that the calling test, or the rest of it, can't be done here, and why.
#[track_caller]
pub(crate) fn skip(reason: impl Display) {
    tell("", reason);
}

/// The same for want of a device, which few machines have: the run fails for it only if `BIPS_REQUIRE` names the device.
#[track_caller]
#[allow(dead_code, reason = "most tests need none")]
pub(crate) fn without(device: &str, reason: impl Display) {
    tell(&format!("[{device}] "), reason);
}

#[track_caller]
fn tell(device: &str, reason: impl Display) {
    println!("skipped: {reason}");
    let Some(file) = std::env::var_os(COLLECT) else { return };
    let caller = Location::caller();
    let reason = reason.to_string().replace('\n', " ");
    let line = format!("{}:{}: {device}{reason}\n", caller.file(), caller.line());
    // One write at the file's end: tests in many processes share it.
    let open = OpenOptions::new().create(true).append(true).open(&file);
    if let Err(error) = open.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("{COLLECT}: {}: {error}; it must not get lost that this was skipped: {line}", file.display());
    }
}
