//! `cargo xtask install`: the C and C++ package where native programs look for it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::step;
use crate::workspace::Workspace;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Where: libraries in PREFIX/lib, headers in PREFIX/include
    #[arg(long, value_name = "PREFIX", default_value = "/usr/local")]
    prefix: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    into(workspace, &options.prefix)
}

pub(crate) fn into(workspace: &Workspace, prefix: &Path) -> Result<()> {
    Package::build(workspace)?.install(prefix)
}

/// What is installed.
struct Package {
    capi: PathBuf,
    built: PathBuf,
    version: String,
    abi: String,
    /// What a program that links the static library needs besides, as the compiler says.
    native: Vec<String>,
}

impl Package {
    fn build(workspace: &Workspace) -> Result<Self> {
        let capi = workspace.root.join("capi");
        let log = workspace.log("build-capi");
        let arguments =
            ["rustc", "--release", "--package", "bips-capi", "--lib", "--", "--print", "native-static-libs"];
        let mut build = workspace.cargo(arguments);
        step::logged("build the C package", build.env("CARGO_TERM_COLOR", "never"), &log)?;
        let said = fs::read_to_string(&log)?;
        let native = said.lines().find_map(|line| line.split_once("native-static-libs: "));
        let Some((_, native)) = native else {
            bail!("the compiler does not say what a static library needs; see {}", log.display())
        };
        let header = fs::read_to_string(capi.join("include/bips.h"))?;
        let abi = header.lines().find_map(|line| line.strip_prefix("#define BIPS_ABI_VERSION "));
        Ok(Self {
            built: workspace.target.join("release"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: abi.context("include/bips.h has no BIPS_ABI_VERSION")?.trim().to_owned(),
            native: native.split_whitespace().map(str::to_owned).collect(),
            capi,
        })
    }

    fn install(&self, prefix: &Path) -> Result<()> {
        let (lib, include) = (prefix.join("lib"), prefix.join("include"));
        let cmake = lib.join("cmake/bips");
        for folder in [&include.join("bips"), &cmake, &lib.join("pkgconfig")] {
            fs::create_dir_all(folder).with_context(|| {
                format!("cannot make {}; name a place that you may write to with --prefix", folder.display())
            })?;
        }
        for header in ["bips.h", "bips.hpp"] {
            put(&self.capi.join("include").join(header), &include.join(header))?;
        }
        for entry in fs::read_dir(self.capi.join("include/bips"))? {
            let part = entry?.path();
            put(&part, &include.join("bips").join(part.file_name().context("a header has a name")?))?;
        }
        put(&self.built.join("libbips_capi.a"), &lib.join("libbips.a"))?;
        let full = format!("libbips.so.{}.{}", self.abi, self.version);
        put(&self.built.join("libbips_capi.so"), &lib.join(&full))?;
        let soname = format!("libbips.so.{}", self.abi);
        for link in [soname.as_str(), "libbips.so"] {
            whole(&lib.join(link), |new| symlink(&full, new))?;
        }
        for file in ["bips.pc", "bips-static.pc"] {
            self.fill(&format!("{file}.in"), &lib.join("pkgconfig").join(file), " ")?;
        }
        self.fill("bipsConfig.cmake.in", &cmake.join("bipsConfig.cmake"), ";")?;
        self.fill("bipsConfigVersion.cmake.in", &cmake.join("bipsConfigVersion.cmake"), ";")?;
        println!(
            "\nbips {} is in {p}. Where the linker does not look there by itself:\n  \
             pkg-config: PKG_CONFIG_PATH={p}/lib/pkgconfig\n  CMake:      -DCMAKE_PREFIX_PATH={p}\n  \
             at run time: LD_LIBRARY_PATH={p}/lib, or ldconfig",
            self.version,
            p = prefix.display()
        );
        Ok(())
    }

    fn fill(&self, template: &str, to: &Path, separator: &str) -> Result<()> {
        let mut parts = self.version.split('.');
        let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
        let text = fs::read_to_string(self.capi.join("install").join(template))?
            .replace("@VERSION@", &self.version)
            .replace("@MAJOR@", major)
            .replace("@MINOR@", minor)
            .replace("@ABI@", &self.abi)
            .replace("@NATIVE@", &self.native.join(separator));
        fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
        println!("{}", to.display());
        Ok(())
    }
}

fn put(from: &Path, to: &Path) -> Result<()> {
    whole(to, |new| fs::copy(from, new).map(drop)).with_context(|| format!("cannot copy {}", from.display()))
}

/// What stands there is at any time the old one or the new one as a whole: programs may start just now, or have the old
/// one mapped.
fn whole(to: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if new.symlink_metadata().is_ok() {
        fs::remove_file(&new).with_context(|| format!("cannot remove {}", new.display()))?; // of one cut short
    }
    let made = make(&new).and_then(|()| fs::rename(&new, to));
    made.with_context(|| format!("cannot make {}", to.display()))?;
    println!("{}", to.display());
    Ok(())
}

/// The header and the list of symbols from the sources.
pub(crate) fn header(workspace: &Workspace) -> Result<()> {
    let mut make = workspace.cargo(["test", "--quiet", "--package", "bips-capi", "--test", "header"]);
    step::shown_live(make.env("BIPS_WRITE_HEADER", "1"))
}
