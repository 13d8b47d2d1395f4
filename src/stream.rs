//! Names of streams, the directory they meet in, and who may come in.

use crate::signaler::Policy;
use crate::{Error, ErrorKind, Result};
use nix::unistd::{Uid, getuid};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The name of a stream: 1 to 100 of `[A-Za-z0-9._-]`, with `/` for nesting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamName(String);

impl StreamName {
    pub(crate) fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let components_ok = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        // A directory of such a name would be taken for another stream's file.
        let directories_ok = name.rsplit_once('/').is_none_or(|(directories, _)| {
            directories.split('/').all(|part| !part.ends_with(".sock") && !part.ends_with(".lock"))
        });
        if (1..=100).contains(&name.len()) && name.chars().all(allowed) && components_ok && directories_ok {
            return Ok(Self(name));
        }
        Err(Error::invalid(format!(
            "{name:?} is no stream name; use 1 to 100 letters, digits, '.', '_' or '-', with '/' for nesting, and no \
             part that is empty or starts with '.' (nor ends with .sock or .lock before a '/')"
        )))
    }

    /// The name of a service: no stream's begins with a dot.
    pub(crate) fn of_service(name: &str) -> Result<Self> {
        Self::new(name).map(|name| Self(format!(".{}", name.0.replace('/', "."))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory part and the last part.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory in which streams meet: `explicit`, else `$BIPS_DIR`, else `/run/bips` where it exists, else
/// `$XDG_RUNTIME_DIR/bips`, else `/tmp/bips-UID`. The last two are made when absent.
///
/// # Errors
/// `NotFound` for a directory that was named and doesn't exist; `AccessDenied` when `/tmp/bips-UID` belongs to
/// somebody else.
pub fn runtime_dir(explicit: Option<&Path>) -> Result<PathBuf> {
    let named = explicit.map(|dir| (dir.to_path_buf(), "directory")).or_else(|| {
        std::env::var_os("BIPS_DIR").filter(|dir| !dir.is_empty()).map(|dir| (PathBuf::from(dir), "BIPS_DIR"))
    });
    if let Some((dir, source)) = named {
        return if dir.is_dir() {
            Ok(dir)
        } else if dir.exists() {
            let dir = dir.display();
            Err(Error::invalid(format!(
                "{dir} is no directory; name the runtime directory that both sides use"
            ))
            .with("named by", source))
        } else {
            Err(Error::new(
                ErrorKind::NotFound,
                format!("the runtime directory {} does not exist; make it with: mkdir -p {0}", dir.display()),
            )
            .with("named by", source))
        };
    }
    let system = Path::new("/run/bips");
    if system.is_dir() {
        return Ok(system.into());
    }
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        return private_dir(runtime.join("bips"));
    }
    private_dir(PathBuf::from(format!("/tmp/bips-{}", getuid())))
}

/// Makes a directory only its owner can use. One that is there already must be the user's own.
fn private_dir(dir: PathBuf) -> Result<PathBuf> {
    let made = DirBuilder::new().mode(0o700).create(&dir);
    let metadata = fs::symlink_metadata(&dir).map_err(|error| {
        Error::system("making the runtime directory", made.err().unwrap_or(error))
            .hint("or name another one in BIPS_DIR")
            .with("directory", dir.display())
    })?;
    if !metadata.is_dir() || Uid::from_raw(metadata.uid()) != getuid() {
        return Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "{} belongs to somebody else; remove it, or name another directory in BIPS_DIR",
                dir.display()
            ),
        ));
    }
    Ok(dir)
}

/// Which users may consume a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessRule {
    /// The producer's own user, and root.
    #[default]
    Owner,
    /// Members of this Unix group, given by name or number.
    Group(String),
    /// Whoever can reach the runtime directory. The rule for containers with users of their own.
    Directory,
}

impl AccessRule {
    /// From `owner`, `group:NAME`, `group:NUMBER` or `directory`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "owner" => Ok(Self::Owner),
            None if text == "directory" => Ok(Self::Directory),
            Some(("group", name)) if !name.is_empty() => Ok(Self::Group(name.into())),
            _ => Err(Error::invalid(format!(
                "{text:?} is no access rule; use \"owner\", \"group:NAME\" (or its number) or \"directory\""
            ))),
        }
    }
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Directory => f.write_str("directory"),
        }
    }
}

impl Policy {
    /// From `reliable`, `latest` or `keep-last:N`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let depth = match text {
            "reliable" => return Ok(Self::Reliable),
            "latest" => Some(1),
            _ => text.strip_prefix("keep-last:").and_then(|depth| depth.parse().ok()),
        };
        let policy = depth.map(Self::KeepLast).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no policy; use \"reliable\", \"latest\" or \"keep-last:N\""))
        })?;
        policy.checked()
    }

    /// Refuses a depth outside 1 to 64.
    pub(crate) fn checked(self) -> Result<Self> {
        match self {
            Self::KeepLast(depth) if !(1..=64).contains(&depth) => Err(Error::invalid(format!(
                "keep-last:{depth} is no policy; keep 1 to 64 frames, or use \"reliable\" to get every frame"
            ))),
            policy => Ok(policy),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reliable => f.write_str("reliable"),
            Self::KeepLast(1) => f.write_str("latest"),
            Self::KeepLast(depth) => write!(f, "keep-last:{depth}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["cam", "front-camera", "a/b.c/d_1", &"x".repeat(100)] {
            assert!(StreamName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/.b",
            "a.sock/b",
            "x/a.lock/b",
            "a b",
            "ü",
            &"x".repeat(101),
        ] {
            let error = StreamName::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("1 to 100"), "{error}");
        }
        assert_eq!(StreamName::new("a/b/c").unwrap().split(), ("a/b", "c"));
    }

    #[test]
    fn rules_and_policies_read_what_they_write() {
        for rule in ["owner", "group:video", "group:5000", "directory"] {
            assert_eq!(AccessRule::parse(rule).unwrap().to_string(), rule);
        }
        for policy in ["reliable", "latest", "keep-last:5"] {
            assert_eq!(Policy::parse(policy).unwrap().to_string(), policy);
        }
        assert!(AccessRule::parse("group:").unwrap_err().to_string().contains("group:NAME"));
        for bad in ["", "keep-last:0", "keep-last:65", "keep-last:x", "newest"] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_directory_must_exist() {
        let error = runtime_dir(Some(Path::new("/nonexistent/bips"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("mkdir -p /nonexistent/bips"), "{error}");
    }
}
