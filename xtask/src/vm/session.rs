//! What one command is told to the machine with, and the ends of its streams: a folder that the machine finds in the host's
//! root.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::kernel::Kernel;
use crate::workspace::Workspace;

/// Ways to what isn't in the machine: sessions and sockets of the host, make's pipes, another folder for temporary files.
const LEFT_OUT: [&str; 11] = [
    "CARGO_MAKEFLAGS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "MAKEFLAGS",
    "NOTIFY_SOCKET",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_ID",
];
/// Set inside.
const INSIDE: &str = "BIPS_VM";

pub(super) struct Session {
    folder: TempDir,
    /// What the machine ends the command's streams with.
    pub(super) end: String,
}

impl Session {
    pub(super) fn new(
        workspace: &Workspace,
        kernel: &Kernel,
        out: Option<&Path>,
        command: &[OsString],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bips-vm-").tempdir()?;
        if folder.path().as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'"' | b',' | b'\n')) {
            bail!("{} can't be said to a kernel: set TMPDIR to another folder", folder.path().display());
        }
        let session = Self { folder, end: format!("{:016x}{:016x}", random(), random()) };
        let mut settings = Vec::new();
        for (name, value) in [
            ("OUT", out.unwrap_or(Path::new("")).as_os_str()),
            ("MODULES", kernel.modules().as_os_str()),
            ("END", session.end.as_ref()),
        ] {
            settings.extend_from_slice(name.as_bytes());
            settings.push(b'=');
            quote(value, &mut settings);
            settings.push(b'\n');
        }
        session.write("settings", &settings)?;
        let here = env::current_dir().context("there is no current folder")?;
        session.write("command", &script(&here, environment(&workspace.target), command))?;
        Ok(session)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let file = self.file(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Of the machine's own, not secret: no command writes it by chance.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// This process's own, with the built `bips` first on PATH.
fn environment(target: &Path) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> =
        env::vars_os().filter(|(name, _)| !LEFT_OUT.iter().any(|left_out| name == left_out)).collect();
    environment.retain(|(name, _)| name != "PATH" && name != INSIDE);
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into());
    let folders = built(target).into_iter().chain(env::split_paths(&path));
    environment.push(("PATH".into(), env::join_paths(folders).unwrap_or(path.clone())));
    environment.push((INSIDE.into(), "1".into()));
    environment
}

/// The folder with the `bips` that was built last.
fn built(target: &Path) -> Option<PathBuf> {
    let folders = ["debug", "release"].map(|profile| target.join(profile));
    let built = folders.into_iter().filter_map(|folder| {
        Some((fs::metadata(folder.join("bips")).and_then(|file| file.modified()).ok()?, folder))
    });
    built.max().map(|(_, folder)| folder)
}

/// For the machine's shell.
fn script(here: &Path, environment: Vec<(OsString, OsString)>, command: &[OsString]) -> Vec<u8> {
    let mut script = b"cd ".to_vec();
    quote(here.as_os_str(), &mut script);
    script.extend_from_slice(b" || exit 125\nexec /usr/bin/env -i");
    for (mut variable, value) in environment {
        variable.push("=");
        variable.push(value);
        script.push(b' ');
        quote(&variable, &mut script);
    }
    for word in command {
        script.push(b' ');
        quote(word, &mut script);
    }
    script.push(b'\n');
    script
}

/// A word that a shell takes as it is, whatever bytes are in it.
fn quote(word: &OsStr, into: &mut Vec<u8>) {
    into.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => into.extend_from_slice(br"'\''"),
            byte => into.push(*byte),
        }
    }
    into.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let odd = OsString::from_vec(b"it's \"$HOME\" `x` \\ \xff\n*".to_vec());
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        let environment = vec![(OsString::from("ODD"), odd.clone()), ("PATH".into(), "/usr/bin:/bin".into())];
        let command = ["sh", "-c", "pwd; printf %s \"$1$ODD\"", "sh"].map(OsString::from);
        let command: Vec<_> = command.into_iter().chain([odd.clone()]).collect();
        let output = Command::new("sh")
            .arg("-c")
            .arg(OsStr::from_bytes(&script(&here, environment, &command)))
            .output()
            .unwrap();
        let expected = [here.as_os_str().as_bytes(), b"\n", odd.as_bytes(), odd.as_bytes()].concat();
        assert_eq!(output.stdout, expected);
        assert!(output.stderr.is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let script = script(Path::new("/nowhere/at/all"), Vec::new(), &["true".into()]);
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
    }

    #[test]
    fn the_newest_build_is_first_on_path() {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(built(target.path()), None);
        for profile in ["release", "debug"] {
            let folder = target.path().join(profile);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("bips"), "").unwrap();
        }
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::open(target.path().join("debug/bips")).unwrap().set_modified(old).unwrap();
        assert_eq!(built(target.path()), Some(target.path().join("release")));
        let environment = environment(target.path());
        let path = environment.iter().find(|(name, _)| name == "PATH").unwrap().1.clone();
        assert_eq!(env::split_paths(&path).next(), Some(target.path().join("release")));
        assert!(environment.iter().any(|(name, _)| name == INSIDE));
    }
}
