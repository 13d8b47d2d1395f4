//! Packages of a Debian release other than the machine's own. apt fetches and checks them, with lists, sources and a cache
//! apart from the system's: nothing is installed, no setting of the system changes, and no rights are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{logged, output_of};
use crate::workspace::{Workspace, on_path};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// If the machine's own apt names none.
const MIRROR: &str = "http://deb.debian.org/debian/";
/// For one call. A kernel is 107 MB.
const SECONDS: &str = "900";

pub(crate) struct Apt<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
}

impl<'a> Apt<'a> {
    /// Keeps all that apt needs for this release in a folder.
    pub(crate) fn new(workspace: &'a Workspace, folder: &Path, suite: &str) -> Result<Self> {
        if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
            bail!("there is no apt-get and dpkg-deb, which fetch and unpack Debian's packages");
        }
        if !Path::new(KEYRING).exists() {
            bail!(
                "there is no {KEYRING}, which the packages' origin is checked with: apt-get install debian-archive-keyring"
            );
        }
        for part in ["sources", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let targets = output_of(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)",
        ]))?;
        let mirror = mirror(&targets);
        let source =
            format!("Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n");
        fs::write(folder.join("sources/debian.sources"), source)?;
        Ok(Self { workspace, folder: folder.to_path_buf() })
    }

    /// `title` says what for.
    pub(crate) fn update(&self, title: &str) -> Result<()> {
        logged(title, self.apt("apt-get").arg("update"), &self.log("update"))
    }

    /// The packages that one needs.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        Ok(depends(&self.record(package)?))
    }

    /// The newest version of a package.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let record = self.record(package)?;
        let version = record.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).with_context(|| format!("{package} has no version"))
    }

    fn record(&self, package: &str) -> Result<String> {
        let record = output_of(self.apt("apt-cache").args(["show", "--no-all-versions", package]));
        record.with_context(|| format!("Debian's list has no {package}"))
    }

    /// Fetches packages and unpacks them into a folder.
    pub(crate) fn unpack(&self, title: &str, packages: &[String], into: &Path) -> Result<()> {
        let archives = self.fetch(title, packages)?;
        for archive in archives {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(archive).arg(into);
            logged("unpack it", &mut unpack, &self.log("unpack"))?;
        }
        Ok(())
    }

    /// Fetches packages, whose checksums are in the signed list, and says where they lie.
    fn fetch(&self, title: &str, packages: &[String]) -> Result<Vec<PathBuf>> {
        let into = tempfile::tempdir_in(&self.folder)?.keep();
        let mut fetch = self.apt("apt-get");
        fetch.arg("download").args(packages).current_dir(&into);
        logged(title, &mut fetch, &self.log("download"))?;
        let files = fs::read_dir(&into)?.map(|entry| Ok(entry?.path()));
        files.collect()
    }

    fn apt(&self, program: &str) -> Command {
        // A mirror that neither answers nor refuses must not hold anybody up for ever.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=10", SECONDS, program]);
        let at = self.folder.display();
        let options = [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            format!("Dir::Etc::SourceParts={at}/sources"),
            // Pins for the system's packages say nothing about these.
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={at}/lists"),
            format!("Dir::Cache={at}/cache"),
            // Its sandbox's user may not write into the folder.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        for option in options {
            command.arg("--option").arg(option);
        }
        command
    }

    fn log(&self, step: &str) -> PathBuf {
        self.workspace.log(&format!("apt-{step}"))
    }
}

/// The Debian mirror in apt's own list of what it knows: origin, label, address.
fn mirror(targets: &str) -> String {
    let rows = targets.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        Some((columns.next()?, columns.next()?, columns.next()?))
    });
    let mut known = rows.clone().filter(|(origin, label, _)| (*origin, *label) == ("Debian", "Debian"));
    // Before its first update apt knows addresses alone.
    let mut guessed = rows.filter(|(_, _, address)| address.trim_end_matches('/').ends_with("/debian"));
    let row = known.next().or_else(|| guessed.next());
    row.map_or(MIRROR, |(_, _, address)| address).to_owned()
}

/// What a package's record names under `Depends`; of alternatives the first.
fn depends(record: &str) -> Vec<String> {
    let line = record.lines().find_map(|line| line.strip_prefix("Depends:"));
    let names = line.unwrap_or_default().split(',').filter_map(|entry| entry.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_apt_uses_for_debian() {
        let known = "Docker\tDocker\thttps://docker.example/linux/debian\n\
                     Debian\tDebian-Security\thttp://mirror.example/debian-security/\n\
                     Debian\tDebian\thttp://mirror.example/debian/\n";
        assert_eq!(mirror(known), "http://mirror.example/debian/");
        let fresh = "$(ORIGIN)\t$(LABEL)\thttp://mirror.example/debian-security/\n\
                     $(ORIGIN)\t$(LABEL)\thttp://mirror.example/debian/\n";
        assert_eq!(mirror(fresh), "http://mirror.example/debian/");
        assert_eq!(mirror("Ubuntu\tUbuntu\thttp://archive.example/ubuntu\n"), MIRROR);
        assert_eq!(mirror(""), MIRROR);
    }

    #[test]
    fn dependencies_are_names_without_versions_and_alternatives() {
        let record = "Package: linux-image-6.12-amd64\nDepends: kmod, linux-base (>= 4.12~), \
                      initramfs-tools (>= 0.120) | linux-initramfs-tool\nDescription: Depends: nothing\n";
        assert_eq!(depends(record), ["kmod", "linux-base", "initramfs-tools"]);
        assert!(depends("Package: x\n").is_empty());
    }
}
