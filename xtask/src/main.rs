//! The project's own commands, as programs instead of instructions: `cargo xtask --help`.

mod apt;
mod bench;
mod ci;
mod demo;
mod fuzz;
mod hw;
mod install;
mod lanes;
mod loom;
mod parties;
mod python;
mod shuttle;
mod soak;
mod step;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::lanes::Lane;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What the project does with itself", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the main job on a real film: set-up, build, three processes, and the proof that nothing was copied
    Demo(demo::Options),
    /// Run every lane this machine can run, and say what was skipped and why
    ///
    /// A lane that BIPS_REQUIRE names (comma-separated) and that would be skipped fails instead.
    Test {
        /// Only these lanes
        lanes: Vec<Lane>,
    },
    /// Formatting, lints, licences, documentation, and all lanes
    Ci,
    /// Measure, and print the ratios to the machine's own floors
    Bench(bench::Options),
    /// Check the signaler's real code under every schedule that loom can think of
    Loom(loom::Options),
    /// Check the signaler's real code under schedules drawn at random, with more participants than loom can follow
    Shuttle(shuttle::Options),
    /// Let processes join, leave, stall and die on a stream for minutes, and prove that nothing is lost or left
    Soak(soak::Options),
    /// Throw millions of made-up inputs at every parser of what comes from outside (needs a nightly compiler)
    Fuzz(fuzz::Options),
    /// Run a command in a virtual machine whose kernel has the drivers for shared buffers (hw-tests/vm/README.md)
    ///
    /// The host's files are there, read-only; the status is the command's, 124 if it took too long, 125 without a machine.
    Vm(vm::Options),
    /// Try every memory device of this machine, and write JSON and JUnit XML; `cargo xtask hw --help` has the options
    #[command(disable_help_flag = true)]
    Hw(hw::Options),
    /// Install the C and C++ package: libraries, headers, files for pkg-config and CMake
    Install(install::Options),
    /// Write the C header and the list of its symbols anew from capi/src
    Header,
    /// Make the environment of a purpose, with bips built and installed, and print its interpreter
    Python {
        /// Which environment
        #[arg(default_value = "core")]
        purpose: python::Purpose,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let done = match command {
        // Its status is the command's.
        Command::Vm(options) => return Ok(vm::run(&workspace, &options)),
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Test { lanes } => lanes::run(&workspace, &lanes),
        Command::Ci => ci::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Loom(options) => loom::run(&workspace, &options),
        Command::Shuttle(options) => shuttle::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Hw(options) => hw::run(&workspace, &options),
        Command::Install(options) => install::run(&workspace, &options),
        Command::Header => install::header(&workspace),
        Command::Python { purpose } => {
            let environment = python::Environments::new(&workspace)?.of(purpose)?;
            println!("{}", environment.python.display());
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}
