//! The cases in C and C++ (`capi/tests/native`), from each compiler and in each language that the headers are for: as
//! they are, with the compilers' sanitizers, and under valgrind.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::super::Skips;
use crate::parties::Parties;
use crate::step::Progress;
use crate::workspace::{Workspace, on_path};

/// A program takes seconds, under valgrind on a busy machine a minute; its waits give up after a minute each.
const PATIENCE: Duration = Duration::from_secs(300);
const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];
/// Of Debian's and Ubuntu's packages.
const OPENCV: &str = "/usr/include/opencv4";
/// The program that needs it, and exceptions.
const OPENCV_PROGRAM: &str = "opencv";
/// The program whose threads meet in one object.
const THREADS: &str = "threads";
/// What of a program is compiled without exceptions has its name and this suffix.
const WITHOUT_EXCEPTIONS: &str = "cc";
/// The program that loses memory: who looks for that must find it.
const LEAK: &str = "leak";
/// Tells the thread sanitizer what it can't see: the library's own order among threads.
const UNSEEN: &str = "unseen";
/// What those end a program with.
const FOUND: i32 = 86;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    C11,
    Cpp17,
    Cpp20,
    NoExceptions,
}

impl Mode {
    const ALL: [Self; 4] = [Self::C11, Self::Cpp17, Self::Cpp20, Self::NoExceptions];
    /// One for each language: those that are run again with more eyes on them.
    const ONE_EACH: [Self; 2] = [Self::C11, Self::Cpp17];

    fn suffix(self) -> &'static str {
        if self == Self::C11 { "c" } else { "cpp" }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::C11 => &["-std=c11"],
            Self::Cpp17 => &["-std=c++17"],
            Self::Cpp20 => &["-std=c++20"],
            Self::NoExceptions => &["-std=c++17", "-fno-exceptions"],
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::C11 => "C11",
            Self::Cpp17 => "C++17",
            Self::Cpp20 => "C++20",
            Self::NoExceptions => "C++17 without exceptions",
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Compiler {
    c: &'static str,
    cpp: &'static str,
    install: &'static str,
}

const COMPILERS: [Compiler; 2] = [
    Compiler { c: "gcc", cpp: "g++", install: "apt-get install gcc g++" },
    Compiler { c: "clang", cpp: "clang++", install: "apt-get install clang" },
];

impl Compiler {
    fn command(self, mode: Mode) -> Command {
        let mut command = Command::new(if mode == Mode::C11 { self.c } else { self.cpp });
        command.args(mode.flags());
        command
    }
}

/// Who else looks while a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Nobody,
    Sanitizers,
    /// For what threads do at the same time in the headers' code; that of the library is not made to be seen by it.
    Threads,
    Valgrind,
}

impl Watch {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Sanitizers => &[
                "-g",
                "-O1",
                "-fno-omit-frame-pointer",
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
            ],
            Self::Threads => &["-g", "-O1", "-fsanitize=thread"],
            Self::Valgrind => &["-g", "-O1"],
            Self::Nobody => &["-O2"],
        }
    }

    fn start(self, program: &Path) -> Command {
        if self != Self::Valgrind {
            let mut command = Command::new(program);
            command.env("ASAN_OPTIONS", format!("detect_leaks=1:exitcode={FOUND}"));
            let unseen = program.with_file_name(UNSEEN);
            command.env("TSAN_OPTIONS", format!("exitcode={FOUND}:suppressions={}", unseen.display()));
            return command;
        }
        let mut command = Command::new("valgrind");
        // What the library makes once for a process is still reachable in the end, which is no leak. A forked child ends
        // without its parent's cleaning up.
        command.args([
            "--quiet",
            "--error-exitcode=86",
            "--leak-check=full",
            "--child-silent-after-fork=yes",
            "--fair-sched=try", // else a thread that looks again and again keeps the others from running
        ]);
        command.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]).arg(program);
        command
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nobody => "",
            Self::Sanitizers => ", with sanitizers",
            Self::Threads => ", with the thread sanitizer",
            Self::Valgrind => ", under valgrind",
        })
    }
}

/// All of them, against the package in `prefix`.
pub(crate) fn run(workspace: &Workspace, prefix: &Path, skips: &Skips) -> Result<()> {
    let bench = Bench::new(workspace, prefix)?;
    let opencv = Path::new(OPENCV).join("opencv2/core/mat.hpp").is_file();
    if !opencv {
        skips.add("capi/tests/native/opencv.cpp: there is no OpenCV: apt-get install libopencv-core-dev")?;
    }
    let valgrind = on_path("valgrind").is_some();
    if !valgrind {
        skips.add("the cases in C and C++ under valgrind: it is not there: apt-get install valgrind")?;
    }
    for compiler in COMPILERS {
        if on_path(compiler.c).is_none() || on_path(compiler.cpp).is_none() {
            skips.add(&format!(
                "the cases in C and C++ with {}: it is not there: {}",
                compiler.c, compiler.install
            ))?;
            continue;
        }
        bench.headers_alone(compiler)?;
        for mode in Mode::ALL {
            bench.all(compiler, mode, Watch::Nobody, opencv)?;
        }
        if bench.sanitizers_link(compiler, Mode::Cpp17, Watch::Threads)? {
            bench.all(compiler, Mode::Cpp17, Watch::Threads, opencv)?;
        } else {
            skips.add(&format!(
                "the threads of C++ with {}'s thread sanitizer: it can't be linked or run here; apt-get install libtsan2 libclang-rt-dev",
                compiler.c
            ))?;
        }
        for mode in Mode::ONE_EACH {
            if bench.sanitizers_link(compiler, mode, Watch::Sanitizers)? {
                bench.all(compiler, mode, Watch::Sanitizers, opencv)?;
                bench.leak_is_found(compiler, mode, Watch::Sanitizers)?;
            } else {
                skips.add(&format!(
                    "the cases in {mode} with {}'s sanitizers: they can't be linked here; apt-get install libclang-rt-dev",
                    compiler.c
                ))?;
            }
        }
        if valgrind && compiler.c == "gcc" {
            for mode in Mode::ONE_EACH {
                bench.all(compiler, mode, Watch::Valgrind, opencv)?;
                bench.leak_is_found(compiler, mode, Watch::Valgrind)?;
            }
        }
    }
    Ok(())
}

/// Where programs are made and run.
struct Bench<'a> {
    prefix: &'a Path,
    sources: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(workspace: &Workspace, prefix: &'a Path) -> Result<Self> {
        let made = Self {
            prefix,
            sources: workspace.root.join("capi/tests/native"),
            folder: workspace.target.join("native/cases"),
            logs: workspace.target.join("logs/native/cases"),
        };
        for folder in [&made.folder, &made.logs] {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(made.folder.join(UNSEEN), "called_from_lib:libbips.so\n")?;
        Ok(made)
    }

    fn include(&self) -> String {
        format!("-I{}", self.prefix.join("include").display())
    }

    /// Each header needs nothing before it, and minds nothing before it.
    fn headers_alone(&self, compiler: Compiler) -> Result<()> {
        let progress = Progress::start(&format!("{}: the headers alone", compiler.c));
        let mut all = vec!["bips.h".to_owned(), "bips.hpp".to_owned()];
        for part in fs::read_dir(self.prefix.join("include/bips"))? {
            all.push(format!("bips/{}", part?.file_name().to_string_lossy()));
        }
        let checked = Mode::ALL.iter().try_for_each(|&mode| {
            let (language, headers) = if mode == Mode::C11 { ("c", &all[..1]) } else { ("c++", &all[..]) };
            headers.iter().try_for_each(|header| {
                let mut compile = compiler.command(mode);
                compile.args(WARNINGS).arg("-DBIPS_NO_OPENCV").arg(self.include());
                compile.args([
                    "-fsyntax-only",
                    "-x",
                    language,
                    "-include",
                    header,
                    "-include",
                    header,
                    "/dev/null",
                ]);
                self.step("compiler", compile, &progress)
                    .with_context(|| format!("{header} as {mode}"))
                    .map(|_| ())
            })
        });
        progress.end(checked.is_ok());
        checked
    }

    /// Whether the compiler has these sanitizers' libraries, which are often packages of their own, and whether a program
    /// with them starts: the thread sanitizer does not under every kernel's layout of memory.
    fn sanitizers_link(&self, compiler: Compiler, mode: Mode, watch: Watch) -> Result<bool> {
        let source = self.folder.join(format!("nothing.{}", mode.suffix()));
        fs::write(&source, "int main(void) { return 0; }\n")?;
        let mut compile = compiler.command(mode);
        let program = self.folder.join("nothing");
        compile.args(watch.flags()).arg(&source).arg("-o").arg(&program);
        let linked =
            compile.output().with_context(|| format!("cannot start {}", compiler.c))?.status.success();
        Ok(linked && Command::new(&program).output().is_ok_and(|output| output.status.success()))
    }

    /// Every program of this mode, compiled and run.
    fn all(&self, compiler: Compiler, mode: Mode, watch: Watch, opencv: bool) -> Result<()> {
        let title = format!("{} {mode}{watch}", compiler.c);
        let progress = Progress::start(&title);
        let with_opencv = opencv && mode != Mode::NoExceptions;
        let outcome = self
            .programs(mode)?
            .iter()
            .filter(|source| with_opencv || !is(source, OPENCV_PROGRAM))
            .filter(|source| watch != Watch::Threads || is(source, THREADS))
            .filter(|source| {
                mode != Mode::NoExceptions || !source.with_extension(WITHOUT_EXCEPTIONS).exists()
            })
            .try_fold((0, 0), |(programs, found), source| {
                let program = self.compile(compiler, mode, watch, source, &progress);
                let said = program.and_then(|program| self.step("program", watch.start(&program), &progress));
                let more = said.and_then(|said| cases(&said));
                anyhow::Ok((
                    programs + 1,
                    found + more.with_context(|| format!("{}: {title}", source.display()))?,
                ))
            });
        progress.end(outcome.is_ok());
        let (programs, cases) = outcome?;
        ensure!(programs > 0, "there is no program in {} for {mode}", self.sources.display());
        println!("{title}: {programs} programs, {cases} cases, all ok");
        Ok(())
    }

    fn programs(&self, mode: Mode) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.sources)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == mode.suffix()) && !is(&path, LEAK) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The counter-proof: what is said to look for lost memory does.
    fn leak_is_found(&self, compiler: Compiler, mode: Mode, watch: Watch) -> Result<()> {
        if mode != Mode::C11 {
            return Ok(());
        }
        let title = format!("{} {mode}{watch}: lost memory is found", compiler.c);
        let progress = Progress::start(&title);
        let source = self.sources.join(LEAK).with_extension("c");
        let found = self.compile(compiler, mode, watch, &source, &progress).and_then(|program| {
            let output = watch
                .start(&program)
                .output()
                .with_context(|| format!("cannot run {}", program.display()))?;
            ensure!(
                output.status.code() == Some(FOUND),
                "a program that loses memory ended with {}:\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(())
        });
        progress.end(found.is_ok());
        found.context(title)
    }

    fn compile(
        &self,
        compiler: Compiler,
        mode: Mode,
        watch: Watch,
        source: &Path,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let program = self.folder.join(source.file_stem().context("a source has a name")?);
        let mut compile = compiler.command(mode);
        compile.args(WARNINGS).args(watch.flags()).arg("-pthread").arg(self.include());
        let part = source.with_extension(WITHOUT_EXCEPTIONS);
        if mode != Mode::C11 && part.exists() {
            let object = program.with_extension("o");
            let mut without = compiler.command(mode);
            without.args(WARNINGS).args(watch.flags()).args([
                "-fno-exceptions",
                "-DBIPS_NO_OPENCV",
                "-pthread",
            ]);
            without.arg(self.include()).arg("-c").arg(&part).arg("-o").arg(&object);
            self.step("compiler", without, progress)?;
            compile.arg(object);
        }
        compile.arg(source).arg("-o").arg(&program);
        let lib = self.prefix.join("lib");
        compile
            .arg(format!("-L{}", lib.display()))
            .arg(format!("-DBIPS_LIBRARY=\"{}\"", lib.join("libbips.so").display()))
            .args(["-Wl,--as-needed", "-lbips"]) // the program that loads it by that name is not linked with it
            .arg(format!("-Wl,-rpath,{}", lib.display()));
        if is(source, OPENCV_PROGRAM) {
            compile.args(["-isystem", OPENCV, "-lopencv_core"]);
        } else {
            compile.arg("-DBIPS_NO_OPENCV");
        }
        self.step("compiler", compile, progress)?;
        Ok(program)
    }

    /// What it said. It is ended when it takes too long.
    fn step(&self, who: &'static str, command: Command, progress: &Progress) -> Result<String> {
        let mut parties = Parties::new(&self.logs);
        parties.start(who, command)?;
        parties.wait(progress, PATIENCE)?;
        Ok(fs::read_to_string(self.logs.join(format!("{who}.log")))?)
    }
}

fn is(source: &Path, name: &str) -> bool {
    source.file_stem().is_some_and(|stem| stem == name)
}

/// How many a program that ended well says it had. One that ends before its end has had none.
fn cases(said: &str) -> Result<usize> {
    let (ok, failed) = said.lines().fold((0, 0), |(ok, failed), line| {
        (ok + usize::from(line.starts_with("ok ")), failed + usize::from(line.starts_with("FAILED")))
    });
    if said.lines().next_back() != Some("passed, 0 failed") || failed > 0 || ok == 0 {
        bail!("the program should end with `passed, 0 failed` and have cases:\n{said}");
    }
    Ok(ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_must_come_to_its_end() {
        assert_eq!(cases("ok     a\nok     b\npassed, 0 failed\n").unwrap(), 2);
        for wrong in [
            "",
            "passed, 0 failed\n",
            "ok     a\n",
            "ok     a\nFAILED b\npassed, 0 failed\n",
            "ok     a\nFAILED, 1 failed\n",
        ] {
            cases(wrong).unwrap_err();
        }
    }
}
