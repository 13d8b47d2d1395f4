//! `bips capture --list`: the cameras, their formats and sizes.

use std::path::{Path, PathBuf};

use bips_v4l2::{Device, Offer, Ways};
use serde_json::{Value, json};

use super::mode::size_text;
use crate::exit::Outcome;
use crate::output;

pub(super) fn run(only: Option<&Path>, as_json: bool) -> Outcome {
    let cameras = match only {
        Some(path) => vec![Device::open(path)?],
        None => found()?,
    };
    if as_json {
        return output::json(&Value::Array(cameras.iter().map(to_json).collect()));
    }
    for camera in &cameras {
        output::line(to_text(camera))?;
    }
    Ok(())
}

/// All cameras that can be opened. That none can is an error, with the reasons.
fn found() -> Outcome<Vec<Device>> {
    let nodes = nodes(Path::new("/dev"));
    let (mut cameras, mut refused) = (Vec::new(), Vec::new());
    for node in &nodes {
        match Device::open(node) {
            Ok(camera) => cameras.push(camera),
            Err(error) => refused.push(error),
        }
    }
    match (cameras.is_empty(), refused.into_iter().next()) {
        (false, _) => Ok(cameras),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(bips::Error::new(
            bips::ErrorKind::NotFound,
            "there is no camera here (no /dev/video*); plug one in, in a container pass it with --device, or try with \
             the kernel's virtual one: modprobe vivid",
        )
        .into()),
    }
}

/// `/dev/video0` and so on, by number.
fn nodes(dev: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let mut nodes: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

fn to_text(camera: &Device) -> String {
    let mut lines =
        vec![format!("{}  {} (driver {})", camera.path().display(), camera.card(), camera.driver())];
    let inputs = camera.inputs();
    if inputs.len() > 1 {
        let now = camera.input();
        let named = inputs.iter().enumerate().map(|(i, name)| {
            let mark = if i as u32 == now { ", chosen" } else { "" };
            format!("{i} ({name}{mark})")
        });
        lines.push(format!("  inputs: {}", named.collect::<Vec<_>>().join(", ")));
    }
    let (known, other): (Vec<_>, Vec<_>) =
        camera.offers().into_iter().partition(|offer| offer.code.is_known());
    lines.extend(known.iter().map(|offer| format!("  {}", offer_text(offer))));
    if !other.is_empty() {
        let codes: Vec<_> = other.iter().map(|offer| offer.code.to_string()).collect();
        lines.push(format!("  formats bips can't describe: {}", codes.join(", ")));
    }
    if let Ok(ways) = camera.ways() {
        lines.push(format!("  memory it writes to: {}", memory_text(ways)));
    }
    lines.join("\n")
}

/// Whether others' dma-bufs suit shows only when they are tried: some cameras need memory in one piece.
fn memory_text(ways: Ways) -> String {
    let kinds = [
        (ways.user_ptr, "memfd"),
        (
            ways.dma_buf,
            "dma-bufs (--memory dma-heap or udmabuf, or dma-heap:linux,cma if it needs memory in one piece)",
        ),
        (ways.own, "its own buffers (--memory dma-buf)"),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(can, _)| *can).map(|(_, text)| *text).collect();
    if kinds.is_empty() {
        "none: bips can't capture from it without copying".into()
    } else {
        kinds.join(", ")
    }
}

fn offer_text(offer: &Offer) -> String {
    let sizes = offer.sizes.iter().map(|sizes| match sizes.fps {
        Some(fps) => format!("{} ({} fps)", size_text(sizes), (fps * 100.0).round() / 100.0),
        None => size_text(sizes),
    });
    let sizes: Vec<_> = sizes.collect();
    let about = if offer.emulated { " [converted by software]" } else { "" };
    format!("{:<4}  {}{about}: {}", offer.code.to_string(), offer.description, sizes.join(", "))
}

fn to_json(camera: &Device) -> Value {
    let ways = camera.ways().ok();
    let formats: Vec<_> = camera
        .offers()
        .iter()
        .map(|offer| {
            let sizes: Vec<_> = offer
                .sizes
                .iter()
                .map(|sizes| {
                    json!({
                        "least": [sizes.least.0, sizes.least.1],
                        "most": [sizes.most.0, sizes.most.1],
                        "step": [sizes.step.0, sizes.step.1],
                        "fps": sizes.fps,
                    })
                })
                .collect();
            json!({
                "code": offer.code.to_string(),
                "description": offer.description,
                "compressed": offer.compressed,
                "known": offer.code.is_known(),
                "sizes": sizes,
            })
        })
        .collect();
    json!({
        "device": camera.path().display().to_string(),
        "card": camera.card(),
        "driver": camera.driver(),
        "inputs": camera.inputs(),
        "input": camera.input(),
        "user_ptr": ways.map(|ways| ways.user_ptr),
        "dma_buf": ways.map(|ways| ways.dma_buf),
        "own": ways.map(|ways| ways.own),
        "formats": formats,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_listed_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "video", "videodev", "null", "v4l-subdev0"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> =
            nodes(dir.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["video2", "video10"]);
    }
}
