//! What the shared library gives to the linker.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use crate::workspace::Workspace;

/// The library exports what `capi/symbols.txt` lists and nothing else, under the name that belongs to its version.
pub(crate) fn check(workspace: &Workspace, prefix: &Path) -> Result<()> {
    let library = prefix.join("lib/libbips.so");
    let list = fs::read_to_string(workspace.root.join("capi/symbols.txt"))?;
    let said = output(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library))?;
    let exported: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    let listed: Vec<&str> = list.lines().collect();
    let (missing, more) = (without(&listed, &exported), without(&exported, &listed));
    ensure!(
        missing.is_empty() && more.is_empty(),
        "{} lacks {missing:?} of capi/symbols.txt, and exports besides {more:?}",
        library.display()
    );

    let header = fs::read_to_string(prefix.join("include/bips.h"))?;
    let version = header.lines().find_map(|line| line.strip_prefix("#define BIPS_ABI_VERSION "));
    let version = version.context("bips.h has no BIPS_ABI_VERSION")?.trim();
    let dynamic = output(Command::new("readelf").args(["-d", "-W"]).arg(&library))?;
    let soname = dynamic.lines().find(|line| line.contains("(SONAME)")).unwrap_or("no SONAME");
    ensure!(
        soname.ends_with(&format!("[libbips.so.{version}]")),
        "{} should be libbips.so.{version}: {soname}",
        library.display()
    );
    ensure!(
        dynamic.lines().any(|line| line.contains("NODELETE")),
        "{} should never leave a process: link it with -z nodelete",
        library.display()
    );
    println!(
        "libbips.so.{version} exports the {} functions of capi/symbols.txt and nothing else",
        listed.len()
    );
    Ok(())
}

fn without<'a>(all: &[&'a str], those: &[&str]) -> Vec<&'a str> {
    all.iter().filter(|name| !those.contains(name)).copied().collect()
}

fn output(command: &mut Command) -> Result<String> {
    crate::step::output_of(command).map_err(|error| anyhow!("{error:#}; apt-get install binutils"))
}
