//! Builds the examples' programs in C, C++ and Rust.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::Skips;
use super::INSTALL;
use super::pairs::EXAMPLES;
use crate::step::{logged, output_of};
use crate::workspace::{Workspace, on_path};

/// Into the folder `programs`, anew. The reason if this machine can't.
pub(crate) fn build(
    workspace: &Workspace,
    prefix: &Path,
    programs: &Path,
    skips: &Skips,
) -> Result<Option<String>> {
    // CMake's cache knows by its path where the checkout was, and with what it was built.
    if programs.exists() {
        fs::remove_dir_all(programs).with_context(|| format!("cannot remove {}", programs.display()))?;
    }
    fs::create_dir_all(programs).with_context(|| format!("cannot make {}", programs.display()))?;
    let mut rust = workspace.cargo(["build", "--package", "bips-examples"]);
    logged("build the examples in Rust", &mut rust, &workspace.log("examples-rust"))?;

    let tool = ["make", "ninja"].into_iter().find(|tool| on_path(tool).is_some());
    if let (Some(_), Some(tool)) = (on_path("cmake"), tool) {
        with_cmake(workspace, prefix, programs, tool)?;
        return Ok(None);
    }
    if on_path("pkg-config").is_none() {
        return Ok(Some(format!("there is neither cmake (with make or ninja) nor pkg-config: {INSTALL}")));
    }
    skips
        .add(&format!("examples with find_package(bips): there is no cmake with make or ninja: {INSTALL}"))?;
    with_pkg_config(workspace, prefix, programs)?;
    Ok(None)
}

fn with_cmake(workspace: &Workspace, prefix: &Path, programs: &Path, tool: &str) -> Result<()> {
    let generator = if tool == "make" { "Unix Makefiles" } else { "Ninja" };
    let mut configure = Command::new("cmake");
    configure.args(["-G", generator, "-S"]).arg(workspace.root.join("examples")).arg("-B").arg(programs);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).arg("-DCMAKE_BUILD_TYPE=Release");
    logged("find bips with CMake", &mut configure, &workspace.log("examples-configure"))?;
    let mut build = Command::new("cmake");
    build.arg("--build").arg(programs).arg("--parallel");
    logged("build the examples in C and C++ with CMake", &mut build, &workspace.log("examples-build"))
}

fn with_pkg_config(workspace: &Workspace, prefix: &Path, programs: &Path) -> Result<()> {
    let mut ask = Command::new("pkg-config");
    ask.args(["--cflags", "--libs", "bips"]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let flags = output_of(&mut ask)?;
    for example in EXAMPLES {
        for program in [example.sender, example.receiver] {
            for (compiler, standard, language) in [("cc", "c11", "c"), ("c++", "c++17", "cpp")] {
                let source = workspace.root.join("examples").join(example.folder);
                let mut compile = Command::new(compiler);
                compile.arg(format!("-std={standard}")).args([
                    "-O2",
                    "-Wall",
                    "-Wextra",
                    "-Wpedantic",
                    "-Werror",
                ]);
                compile.arg(source.join(format!("{program}.{language}"))).arg("-o");
                compile.arg(programs.join(example.program(program, language)));
                compile.args(flags.split_whitespace());
                compile.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
                let name = example.program(program, language);
                let log = workspace.log(&format!("examples-{name}"));
                logged(&format!("compile {name} with pkg-config"), &mut compile, &log)?;
            }
        }
    }
    Ok(())
}
