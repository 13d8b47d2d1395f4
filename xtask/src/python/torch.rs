//! PyTorch without the GPU's 2 GB.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::venv::Venv;
use crate::step;
use crate::workspace::Workspace;

/// `full` installs torch with everything it asks for, also where a CPU would never call it.
const CHOOSE: &str = "BIPS_TORCH";

/// What was asked for; another answer makes the layer anew.
pub(crate) fn variant() -> &'static str {
    if env::var(CHOOSE).is_ok_and(|choice| choice == "full") { "full" } else { "" }
}

/// Runs after torch itself is installed: makes it importable, or installs the rest after all.
pub(crate) fn finish(workspace: &Workspace, venv: &Venv, requirements: &Path, machine: &str) -> Result<()> {
    if variant() == "full" {
        return install_all(workspace, venv, requirements);
    }
    // Elsewhere PyPI's build is for the CPU and needs nothing of this.
    let lean = if machine == "x86_64" { write_stand_ins(workspace, venv) } else { Ok(()) };
    let Err(reason) = lean.and_then(|()| try_import(workspace, venv)) else {
        return Ok(());
    };
    eprintln!("{reason:#}\ninstead, torch gets everything it asks for, which is a download of over 2 GB");
    install_all(workspace, venv, requirements)
}

fn write_stand_ins(workspace: &Workspace, venv: &Venv) -> Result<()> {
    let mut generate = venv.command();
    generate.arg(workspace.root.join("xtask/python/cuda_stubs.py"));
    step::logged("spare torch the CUDA libraries", &mut generate, &workspace.log("cuda-stubs"))
}

fn try_import(workspace: &Workspace, venv: &Venv) -> Result<()> {
    let mut import = venv.command();
    hide_gpus(&mut import);
    import.args(["-c", "import torch; assert torch.linalg.det(torch.eye(3)) == 1; print(torch.__version__)"]);
    step::logged("try torch", &mut import, &workspace.log("try-torch"))
}

fn install_all(workspace: &Workspace, venv: &Venv, requirements: &Path) -> Result<()> {
    let text = fs::read_to_string(requirements)?;
    let pin = text.lines().find(|line| line.starts_with("torch==")).context("no torch in torch.txt")?;
    // --force-reinstall would fetch torch again; its files are fine, it is the libraries that lack.
    let mut install = venv.pip(&["install", pin]);
    step::logged("install torch with all it asks for (pip)", &mut install, &workspace.log("pip-torch-full"))?;
    try_import(workspace, venv)
}

/// With stand-ins for its libraries torch must not find a GPU, should the machine have one.
pub(crate) fn hide_gpus(command: &mut Command) {
    if variant() != "full" {
        command.env("CUDA_VISIBLE_DEVICES", "");
    }
}
