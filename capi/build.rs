//! How the shared library is linked. Its SONAME: programs ask for the interface's version, not for the release.

use std::path::Path;

fn main() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/bips.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let header = std::fs::read_to_string(&header).expect("the header is committed");
    let version = header.lines().find_map(|line| line.strip_prefix("#define BIPS_ABI_VERSION "));
    let version = version.expect("the header says its version").trim();
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libbips.so.{version}");
    // It never leaves a process: it has threads of its own, and what it keeps for each of the program's threads ends with
    // them, by code that must still be there.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
