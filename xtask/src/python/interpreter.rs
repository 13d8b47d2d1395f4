//! Finding a Python that can make virtual environments.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// The oldest one: the package is built for the stable ABI of 3.11.
const OLDEST: (u32, u32) = (3, 11);
const CANDIDATES: [&str; 5] = ["python3", "python3.13", "python3.12", "python3.11", "python3.14"];
const CHOOSE: &str = "BIPS_PYTHON";

/// Prints: executable, major, minor, machine, whether `venv` works.
const PROBE: &str = r#"
import platform, sys
try:
    import ensurepip, venv
    able = 1
except ImportError:
    able = 0
print(sys.executable, *sys.version_info[:2], platform.machine(), able, sep="\n")
"#;

#[derive(Debug, Clone)]
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    pub(crate) version: (u32, u32),
    pub(crate) machine: String,
    has_venv: bool,
}

impl Interpreter {
    /// The first one that will do, or why none does and what to install.
    pub(crate) fn find() -> Result<Self> {
        let chosen = env::var(CHOOSE).ok().filter(|path| !path.is_empty());
        let candidates = chosen.as_deref().map_or(CANDIDATES.to_vec(), |path| vec![path]);
        let found: Vec<_> = candidates.iter().filter_map(|program| Self::probe(program)).collect();
        if let Some(good) = found.iter().find(|one| one.version >= OLDEST && one.has_venv) {
            return Ok(good.clone());
        }
        let (major, minor) = OLDEST;
        if let Some(one) = found.iter().find(|one| one.version >= OLDEST) {
            bail!(
                "{} can't make virtual environments; install its venv module: \
                 apt-get install python3-venv (Debian, Ubuntu)",
                one.path.display()
            );
        }
        match (found.first(), &chosen) {
            (Some(old), _) => bail!(
                "{} is Python {}.{}, bips needs {major}.{minor} or newer; \
                 install one and point {CHOOSE} at it ({CHOOSE}=/path/to/python3.12)",
                old.path.display(),
                old.version.0,
                old.version.1
            ),
            (None, Some(path)) => bail!("{CHOOSE}={path} is no Python that starts; point it at a python3"),
            (None, None) => bail!(
                "python3 isn't on PATH; install Python {major}.{minor} or newer: \
                 apt-get install python3 python3-venv (Debian, Ubuntu)"
            ),
        }
    }

    fn probe(program: &str) -> Option<Self> {
        let output = Command::new(program)
            .args(["-c", PROBE])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let [path, major, minor, machine, able] = text.lines().collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            path: path.into(),
            version: (major.parse().ok()?, minor.parse().ok()?),
            machine: machine.to_owned(),
            has_venv: able == "1",
        })
    }
}
