//! `bips.h` and `bips.hpp` in every dialect that is promised, under each compiler of this machine, and the library's
//! symbols.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::Skips;
use crate::step::{Progress, output_of};
use crate::workspace::{Workspace, on_path};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// For C and for C++.
const COMPILERS: [(&str, &str); 2] = [("gcc", "g++"), ("clang", "clang++")];
const SANITIZE: &str = "-fsanitize=address,undefined";

struct Dialect {
    name: &'static str,
    source: &'static str,
    flags: &'static [&'static str],
}

const DIALECTS: [Dialect; 4] = [
    Dialect { name: "C11", source: "interface.c", flags: &["-std=c11"] },
    Dialect { name: "C++17", source: "header.cpp", flags: &["-std=c++17"] },
    Dialect { name: "C++20", source: "header.cpp", flags: &["-std=c++20"] },
    Dialect {
        name: "C++17 without exceptions",
        source: "header.cpp",
        flags: &["-std=c++17", "-fno-exceptions"],
    },
];

struct Bench<'a> {
    sources: PathBuf,
    prefix: &'a Path,
    folder: PathBuf,
}

pub(super) fn run(workspace: &Workspace, prefix: &Path, skips: &Skips) -> Result<()> {
    let folder = workspace.target.join("native/tests");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    symbols(workspace, prefix)?;
    let bench = Bench { sources: workspace.root.join("capi/tests/native"), prefix, folder };
    for (c, cpp) in COMPILERS {
        for dialect in &DIALECTS {
            let compiler = if dialect.source.ends_with(".c") { c } else { cpp };
            if on_path(compiler).is_none() {
                skips.add(&format!(
                    "{} with {compiler}, which is not here: apt-get install {c}",
                    dialect.name
                ))?;
                continue;
            }
            let program = bench.build(compiler, dialect, &[])?;
            bench.play(&format!("{} with {compiler}", dialect.name), &mut Command::new(&program))?;
            if c == "gcc" && dialect.flags.len() == 1 {
                bench.under_valgrind(dialect, &program, skips)?;
            }
            if dialect.flags.len() == 1 {
                bench.sanitized(compiler, dialect, skips)?;
            }
        }
        // Alone, and twice.
        for (compiler, header) in [(c, "bips.h"), (cpp, "bips.h"), (cpp, "bips.hpp")] {
            if on_path(compiler).is_some() {
                bench.header(compiler, header)?;
            }
        }
    }
    Ok(())
}

impl Bench<'_> {
    fn build(&self, compiler: &str, dialect: &Dialect, more: &[&str]) -> Result<PathBuf> {
        let name = format!("{compiler}-{}{}", dialect.name.replace(' ', "-"), more.concat());
        let program = self.folder.join(name.replace(['=', ','], "-"));
        let mut build = Command::new(compiler);
        build.args(dialect.flags).args(more).args(WARNINGS).args(["-g", "-O1", "-o"]).arg(&program);
        build.arg(self.sources.join(dialect.source)).arg("-I").arg(self.prefix.join("include"));
        build.arg("-L").arg(self.prefix.join("lib")).args(["-lbips", "-lpthread"]);
        build.arg(format!("-Wl,-rpath,{}", self.prefix.join("lib").display()));
        quietly(&mut build)?;
        Ok(program)
    }

    /// A run of a test program, with a runtime directory of its own.
    fn play(&self, title: &str, command: &mut Command) -> Result<()> {
        let streams = self.folder.join("streams");
        fs::create_dir_all(&streams)?;
        let progress = Progress::start(title);
        let output = command.env("BIPS_DIR", &streams).output();
        let output = output.with_context(|| format!("cannot run {command:?}"))?;
        progress.end(output.status.success());
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            bail!("{title}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let left: Vec<_> = fs::read_dir(&streams)?.flatten().map(|entry| entry.file_name()).collect();
        if left.iter().any(|name| name.to_string_lossy().ends_with(".sock")) {
            bail!("{title}: left behind: {left:?}");
        }
        Ok(())
    }

    fn sanitized(&self, compiler: &str, dialect: &Dialect, skips: &Skips) -> Result<()> {
        // A compiler may be here without its sanitizers.
        let mut try_it = Command::new(compiler);
        try_it.args([SANITIZE, "-x", "c", "/dev/null", "-shared", "-o"]).arg(self.folder.join("nothing"));
        if !try_it.output().is_ok_and(|output| output.status.success()) {
            if compiler.starts_with("clang") {
                println!(
                    "  --  {compiler} comes without its sanitizers here (libclang-rt); gcc's have looked"
                );
                return Ok(());
            }
            return skips.add(&format!("sanitizers of {compiler}: their library is not here"));
        }
        let program = self.build(compiler, dialect, &[SANITIZE, "-fno-sanitize-recover=all"])?;
        let title = format!("{} with {compiler}, address and undefined behaviour sanitizers", dialect.name);
        self.play(&title, Command::new(program).env("ASAN_OPTIONS", "detect_leaks=1"))
    }

    fn under_valgrind(&self, dialect: &Dialect, program: &Path, skips: &Skips) -> Result<()> {
        let Some(valgrind) = on_path("valgrind") else {
            return skips.add(&format!("{} under valgrind: apt-get install valgrind", dialect.name));
        };
        let mut command = Command::new(valgrind);
        // A forked child ends in the middle of things; it tests what it may do, not what it leaves.
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--child-silent-after-fork=yes"]);
        // The process's monitor lives as long as the process, and is reached through inner pointers.
        command.args(["--errors-for-leak-kinds=definite,indirect", "--show-leak-kinds=definite,indirect"]);
        self.play(&format!("{} under valgrind", dialect.name), command.arg(program))
    }

    fn header(&self, compiler: &str, header: &str) -> Result<()> {
        let language = if compiler.ends_with("++") { ("c++", "-std=c++17") } else { ("c", "-std=c11") };
        let mut check = Command::new(compiler);
        check.args(["-fsyntax-only", "-x", language.0, language.1]).args(WARNINGS);
        let header = self.prefix.join("include").join(header);
        check.arg("-include").arg(&header).arg("-include").arg(&header).arg("/dev/null");
        quietly(check.arg("-I").arg(self.prefix.join("include")))
    }
}

/// A compiler has nothing to say to what is right.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() || !output.stderr.is_empty() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// What the library shows to the outside is the committed list, and its name is the interface's version.
fn symbols(workspace: &Workspace, prefix: &Path) -> Result<()> {
    let library = prefix.join("lib/libbips.so");
    let table = output_of(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library))?;
    let shown: BTreeSet<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let list = fs::read_to_string(workspace.root.join("capi/symbols.txt"))?;
    let listed: BTreeSet<&str> = list.lines().collect();
    if shown != listed {
        let beside: Vec<_> = shown.symmetric_difference(&listed).collect();
        bail!("libbips.so and capi/symbols.txt differ in {beside:?}; a function that goes breaks programs");
    }
    let header = fs::read_to_string(prefix.join("include/bips.h"))?;
    let version = header.lines().find_map(|line| line.strip_prefix("#define BIPS_ABI_VERSION "));
    let soname = format!("[libbips.so.{}]", version.unwrap_or_default().trim());
    let dynamic = output_of(Command::new("readelf").arg("-d").arg(&library))?;
    if !dynamic.lines().any(|line| line.contains("(SONAME)") && line.contains(&soname)) {
        bail!("libbips.so should call itself {soname}:\n{dynamic}");
    }
    println!("  ok  {} symbols, as listed; SONAME {soname}", shown.len());
    Ok(())
}
