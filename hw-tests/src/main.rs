//! Tries every memory device of this machine with every case, each in a process of its own.

mod cases;
#[path = "../../tests/common/mod.rs"]
mod common;
mod inside;
mod inventory;
mod known;
mod options;
mod process;
mod report;
mod required;
mod run;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

fn main() -> ExitCode {
    // A case's children run this program with a test program's arguments.
    if let Some(ended) = inside::role() {
        return ended;
    }
    let options = Options::parse();
    let ended = match &options.inside {
        Some(inside) => inside::run(inside).map(|()| ExitCode::SUCCESS),
        None => run::run(&options),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
