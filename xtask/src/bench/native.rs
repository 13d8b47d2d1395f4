//! A hand-over through C++ beside one through Rust: the same program in both languages, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::install;
use crate::step::{Progress, logged, output_of};
use crate::workspace::{Workspace, on_path};

const ROUNDS: usize = 9;
/// Who is how, and how many round trips that takes to show.
const MODES: [(&str, &str); 2] = [("awake", "400000"), ("asleep", "20000")];
const LANGUAGES: [&str; 2] = ["rust", "cpp"];
/// What the C interface may cost.
const GOAL: f64 = 1.1;

/// Adds the times and their ratio; nothing, with the reason printed, without a C++ compiler.
pub(super) fn measure(workspace: &Workspace, rows: &mut Vec<(String, f64)>) -> Result<()> {
    let Some(compiler) = on_path("c++") else {
        println!("  --  measure native: skipped, there is no C++ compiler (c++)");
        return Ok(());
    };
    let programs = [rust(workspace)?, cpp(workspace, &compiler)?];
    let directory = workspace.target.join("native/streams");
    fs::create_dir_all(&directory)?;

    let progress = Progress::start("measure native");
    for (mode, round_trips) in MODES {
        let mut ways: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            for (language, program) in LANGUAGES.into_iter().zip(&programs) {
                let mut command = Command::new(program);
                let said = output_of(command.arg(&directory).args([mode, round_trips]))?;
                let way: f64 = said.trim().parse().with_context(|| format!("{language} printed {said:?}"))?;
                ways.entry(language).or_default().push(way);
            }
            let last = |language: &str| ways[language].last().copied().unwrap_or(f64::NAN);
            ratios.push(last("cpp") / last("rust"));
        }
        for language in LANGUAGES {
            rows.push((format!("native.{mode}_{language}_way_ns"), median(&mut ways[language].clone())));
        }
        rows.push((format!("native.{mode}_ratio_cpp_to_rust"), median(&mut ratios)));
    }
    progress.end(true);
    rows.push(("native.goal_ratio".into(), GOAL));
    Ok(())
}

fn rust(workspace: &Workspace) -> Result<PathBuf> {
    let mut build =
        workspace.cargo(["build", "--release", "--package", "bips-capi", "--example", "handover"]);
    logged("build the hand-over in Rust", &mut build, &workspace.log("build-handover"))?;
    Ok(workspace.target.join("release/examples/handover"))
}

fn cpp(workspace: &Workspace, compiler: &Path) -> Result<PathBuf> {
    let folder = workspace.target.join("native");
    let (prefix, program) = (folder.join("prefix"), folder.join("handover"));
    install::into(workspace, &prefix)?;
    let mut build = Command::new(compiler);
    build
        .args(["-std=c++17", "-O2", "-o"])
        .arg(&program)
        .arg(workspace.root.join("capi/benches/handover.cpp"));
    build.arg("-I").arg(prefix.join("include")).arg("-L").arg(prefix.join("lib")).arg("-lbips");
    build.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
    logged("build the hand-over in C++", &mut build, &workspace.log("build-handover-cpp"))?;
    Ok(program)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
