//! The device nodes of this machine, and which of them serves whom no node was named.

use bips::{Error, ErrorKind, Result};
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use std::fs;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/dev/dri";
const CLASS: &str = "/sys/class/drm";

/// A device node of a DRM driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in `/dev/dri`.
    pub name: String,
    /// What the system calls its device: the driver, or the bus's name for it.
    pub device: String,
    /// Whether a display can be connected to it.
    pub display: bool,
    /// Whether it is for rendering alone.
    pub render: bool,
    /// Whether this process may open it, as far as its mode says.
    pub allowed: bool,
}

impl Node {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    fn number(&self) -> u32 {
        self.name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(u32::MAX)
    }
}

/// The nodes of this machine: cards, then render nodes, each by number. None of them is opened for it.
pub fn nodes() -> Vec<Node> {
    nodes_in(Path::new(DIRECTORY), Path::new(CLASS))
}

fn nodes_in(directory: &Path, class: &Path) -> Vec<Node> {
    let names = |of: &Path| -> Vec<String> {
        let entries = fs::read_dir(of).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let connectors = names(class);
    let node = |name: String| {
        let render = name.starts_with("renderD");
        if !render && !name.starts_with("card") {
            return None;
        }
        let place = class.join(&name).join("device");
        let last = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let driver = fs::canonicalize(place.join("driver")).ok().and_then(last);
        let device = driver.or_else(|| fs::canonicalize(&place).ok().and_then(last));
        let prefix = format!("{name}-");
        let path = directory.join(&name);
        let wanted = AccessFlags::R_OK | AccessFlags::W_OK;
        Some(Node {
            display: !render && connectors.iter().any(|connector| connector.starts_with(&prefix)),
            device: device.unwrap_or_else(|| "unknown".into()),
            allowed: faccessat(nix::fcntl::AT_FDCWD, &path, wanted, AtFlags::AT_EACCESS).is_ok(),
            render,
            name,
        })
    };
    let mut nodes: Vec<_> = names(directory).into_iter().filter_map(node).collect();
    nodes.sort_by_key(|node| (node.render, node.number()));
    nodes
}

/// The source a user named after the kind, checked as a name: what it is the name of is seen later.
pub(crate) fn name_of(kind: &str, source: &str) -> Result<String> {
    let name = source.strip_prefix("/dev/dri/").unwrap_or(source);
    // With the kind before it, it must fit the 32 characters of a kind.
    let fits = (1..=31 - kind.len()).contains(&name.len()) && !name.starts_with('.');
    if !(fits && name.chars().all(|c| c.is_ascii_graphic() && c != '/')) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{source:?} is no name of a device node; use one as in {kind}:card0, see {DIRECTORY}"),
        ));
    }
    Ok(name.into())
}

/// The node to use, and why this one.
pub(crate) fn choose(named: Option<&str>, render_too: bool) -> Result<(Node, String)> {
    choose_of(&nodes(), named, render_too)
}

fn choose_of(nodes: &[Node], named: Option<&str>, render_too: bool) -> Result<(Node, String)> {
    let absent = |text: String| Err(Error::new(ErrorKind::Unsupported, text));
    if nodes.is_empty() {
        return absent(format!(
            "no device node in {DIRECTORY}: no DRM driver is loaded (a GPU's, a display's; `modprobe vgem` for one \
             without a device), or the container was not given one: `--device {DIRECTORY}/card0`"
        ));
    }
    if let Some(name) = named {
        return match nodes.iter().find(|node| node.name == name) {
            Some(node) => Ok((node.clone(), "named".into())),
            None => absent(format!("there is no node {name:?} in {DIRECTORY}; use one of: {}", list(nodes))),
        };
    }
    let candidates = nodes.iter().filter(|node| render_too || !node.render);
    let Some(best) = candidates.min_by_key(|node| (!node.allowed, node.render, !node.display, node.number()))
    else {
        return absent(format!(
            "only render nodes here ({}), which make no dumb buffers; a card's node is needed, in a container: \
             `--device {DIRECTORY}/card0`, or use gbm",
            list(nodes)
        ));
    };
    let why = match (best.allowed, best.display, best.render) {
        (false, ..) => "the first; this process may open none",
        (_, true, _) => "the first card with a display that this process may open",
        (_, _, true) => "the first render node; this process may open no card",
        _ => "the first card that this process may open; none of those has a display",
    };
    Ok((best.clone(), why.into()))
}

pub(crate) fn list(nodes: &[Node]) -> String {
    if nodes.is_empty() {
        return "none".into();
    }
    let name = |node: &Node| format!("{} ({})", node.name, node.device);
    nodes.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What a backend tells people of itself, without opening anything.
pub(crate) fn describe(what: &str, named: Option<&str>, render_too: bool) -> String {
    match choose(named, render_too) {
        Ok((node, why)) => {
            format!("{what} of {} ({}; {why}; here: {})", node.name, node.device, list(&nodes()))
        }
        Err(_) => format!("{what} of a DRM driver; there is none here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn node(name: &str, display: bool, allowed: bool) -> Node {
        let render = name.starts_with("render");
        Node { name: name.into(), device: "driver".into(), display, render, allowed }
    }

    #[test]
    fn chooses_what_serves_most_and_says_why() {
        let chosen = |nodes: &[Node], render| {
            let (node, why) = choose_of(nodes, None, render).unwrap();
            (node.name, why)
        };
        let cards = [node("card0", false, true), node("card1", true, true), node("renderD128", false, true)];
        assert_eq!(chosen(&cards, false).0, "card1");
        assert!(chosen(&cards, true).1.contains("with a display"));
        let closed =
            [node("card0", true, false), node("card1", false, true), node("renderD128", false, true)];
        assert_eq!(chosen(&closed, false).0, "card1");
        let closed = [node("card0", true, false), node("renderD128", false, true)];
        assert_eq!(chosen(&closed, false).0, "card0");
        assert!(chosen(&closed, false).1.contains("may open none"));
        assert_eq!(chosen(&closed, true).0, "renderD128");
    }

    #[test]
    fn says_what_there_is_instead() {
        let says = |nodes: &[Node], named: Option<&str>, text: &str| {
            let error = choose_of(nodes, named, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(text), "{error}");
        };
        says(&[], None, "--device /dev/dri/card0");
        says(&[node("renderD128", false, true)], None, "only render nodes here (renderD128 (driver))");
        says(&[node("card3", false, true)], Some("card0"), "use one of: card3 (driver)");
    }

    #[test]
    fn a_name_is_a_name() {
        for bad in ["", "../card0", "a/b", ".card0", "card 0", "/dev/card0", "card0-and-then-some-more-text"]
        {
            assert_eq!(name_of("drm", bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        assert_eq!(name_of("drm", "/dev/dri/card1").unwrap(), "card1");
    }

    /// Plain files stand for nodes.
    #[test]
    fn reads_the_systems_lists() {
        let root = std::env::temp_dir().join(format!("bips-nodes-{}", std::process::id()));
        let (dev, class) = (root.join("dri"), root.join("class"));
        fs::create_dir_all(dev.join("by-path")).unwrap();
        for name in ["card10", "card2", "renderD128"] {
            fs::write(dev.join(name), "").unwrap();
            fs::create_dir_all(class.join(name)).unwrap();
        }
        fs::create_dir_all(class.join("card10-HDMI-A-1")).unwrap();
        fs::create_dir_all(root.join("drivers/some_gpu")).unwrap();
        fs::create_dir_all(class.join("card10/device")).unwrap();
        symlink(root.join("drivers/some_gpu"), class.join("card10/device/driver")).unwrap();
        let nodes = nodes_in(&dev, &class);
        fs::remove_dir_all(&root).unwrap();
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["card2", "card10", "renderD128"]);
        assert_eq!((nodes[1].display, nodes[0].display), (true, false));
        assert_eq!((nodes[1].device.as_str(), nodes[0].device.as_str()), ("some_gpu", "unknown"));
        assert!(nodes[0].allowed && nodes[2].render);
    }
}
