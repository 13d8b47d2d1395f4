//! Vulkan's memory with two drivers that need no GPU, lavapipe and SwiftShader, each alone and under Khronos' validation
//! layer, whose first message ends the process that earned it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Outcome, Skips, tests};
use crate::apt::Apt;
use crate::step::shown_live;
use crate::workspace::Workspace;

/// Has SwiftShader and the layer.
const PACKAGE: &str = "chromium-common";
const SUITE: &str = "bookworm";
const FOLDER: &str = "usr/lib/chromium";
const SWIFTSHADER: &str = "libvk_swiftshader.so";
const LAYER: &str = "libVkLayer_khronos_validation.so";
const LAYER_NAME: &str = "VK_LAYER_KHRONOS_validation";
const SETTINGS: &str = "vk_layer_settings.txt";
/// A message ends the process by SIGTRAP: so none is lost, in whatever child of a test.
const SET: &str = "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG,VK_DBG_LAYER_ACTION_BREAK\n\
                   khronos_validation.report_flags = error,warn\n\
                   khronos_validation.validate_sync = true\n";
const INSTALL: &str = "apt-get install libvulkan1 mesa-vulkan-drivers";

struct Driver {
    name: &'static str,
    manifest: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    let Some(lavapipe) = lavapipe() else {
        return Ok(Outcome::Skipped(format!("there is no lavapipe in /usr/share/vulkan/icd.d: {INSTALL}")));
    };
    let folder = match tools(workspace) {
        Ok(folder) => folder,
        Err(error) => return Ok(Outcome::Skipped(format!("SwiftShader can't be fetched: {error:#}"))),
    };
    let drivers = [
        Driver { name: "lavapipe", manifest: lavapipe },
        Driver { name: "SwiftShader", manifest: folder.join("swiftshader.json") },
    ];
    for (driver, other) in [(&drivers[0], &drivers[1]), (&drivers[1], &drivers[0])] {
        for validated in [false, true] {
            println!("--- {}{}", driver.name, if validated { ", validated" } else { "" });
            let mut command = tests(workspace, &["--package", "bips-vulkan"]);
            chosen(&mut command, driver, other);
            if validated {
                validate(&mut command, &folder);
            }
            // That lane's own tests must not be left out for want of a driver.
            command.env("BIPS_REQUIRE", "vulkan");
            shown_live(skips.of(&mut command))?;
        }
    }
    Ok(Outcome::Passed)
}

fn lavapipe() -> Option<PathBuf> {
    let folders = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let mut paths = files.map(|entry| entry.path());
    paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")))
}

/// Both names: which one a loader reads depends on its age.
fn chosen(command: &mut Command, driver: &Driver, other: &Driver) {
    command.env("VK_ICD_FILENAMES", &driver.manifest).env("VK_DRIVER_FILES", &driver.manifest);
    command.env("BIPS_TEST_OTHER_DRIVER", &other.manifest);
}

fn validate(command: &mut Command, folder: &Path) {
    command.env("VK_LAYER_PATH", folder).env("VK_INSTANCE_LAYERS", LAYER_NAME);
    command.env("VK_LAYER_SETTINGS_PATH", folder.join(SETTINGS));
}

/// The folder of what is fetched once, with a manifest for each.
fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("vulkan");
    if !folder.join("swiftshader.json").exists() {
        fetch(workspace, &folder)?;
    }
    fs::write(folder.join(SETTINGS), SET)?;
    Ok(folder)
}

fn fetch(workspace: &Workspace, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let work = tempfile::tempdir_in(folder)?;
    let apt = Apt::new(workspace, &work.path().join("apt"), SUITE)?;
    apt.update("ask Debian which SwiftShader there is")?;
    let unpacked = work.path().join("unpacked");
    fs::create_dir_all(&unpacked)?;
    apt.unpack("fetch SwiftShader and the validation layer (about 32 MB)", &[PACKAGE.to_owned()], &unpacked)?;
    for library in [SWIFTSHADER, LAYER] {
        let from = unpacked.join(FOLDER).join(library);
        fs::rename(&from, folder.join(library)).with_context(|| format!("{PACKAGE} has no {library}"))?;
    }
    let layer = serde_json::json!({
        "file_format_version": "1.2.0",
        "layer": {
            "name": LAYER_NAME,
            "type": "GLOBAL",
            "library_path": folder.join(LAYER),
            "api_version": "1.3.280",
            "implementation_version": "1",
            "description": "Khronos validation",
        }
    });
    fs::write(folder.join("validation.json"), layer.to_string())?;
    let driver = serde_json::json!({
        "file_format_version": "1.0.0",
        "ICD": { "library_path": folder.join(SWIFTSHADER), "api_version": "1.1.0" }
    });
    // Last: it says that all is there.
    fs::write(folder.join("swiftshader.json"), driver.to_string())?;
    Ok(())
}
