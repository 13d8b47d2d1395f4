//! Which mode to bring a camera into.

use bips_v4l2::{Code, Device, Layout, Mode, Offer, Sizes};

use super::Args;
use super::stream::Camera;
use super::tally::Tally;
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};

impl Camera {
    /// Brings it into the mode that was asked for.
    pub(super) fn prepare(
        device: Device,
        format: Option<Code>,
        size: Option<(u32, u32)>,
        fps: Option<f64>,
    ) -> Outcome<Self> {
        let offers = device.offers();
        let code = choose(&device, &offers, format)?;
        let before = device.mode()?;
        let mode = device.set_mode(code, size)?;
        let fitting = check(&device, &offers, &mode, code, size).and_then(|()| Ok(Layout::of(&mode)?));
        let layout = fitting.inspect_err(|_| {
            // Else the mode that was refused is the camera's present one, and the next capture takes it up.
            let _ = device.set_mode(before.code, Some((before.width, before.height)));
        })?;
        let fps = match fps {
            Some(fps) => Some(device.set_fps(fps)?),
            None => device.fps(),
        };
        let ways = device.ways()?;
        Ok(Self { device, mode, layout, ways, fps })
    }
}

/// Waits for a signal of some size after one that changed, and takes it over. None when told to end first.
pub(super) fn again(
    device: Device,
    args: &Args,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Outcome<Option<Camera>> {
    let mut told = false;
    while let Err(error) = device.follow_signal() {
        if error.kind() != bips::ErrorKind::Unsupported {
            return Err(error.into());
        }
        if !std::mem::replace(&mut told, true) {
            tally.say(&format!("{error}; waiting for it"))?;
        }
        if !interrupt.sleep(SLICE) {
            return Ok(None);
        }
    }
    // The size is the source's now, whatever was asked for at the beginning.
    Camera::prepare(device, args.format, None, args.fps).map(Some)
}

fn choose(device: &Device, offers: &[Offer], wanted: Option<Code>) -> Outcome<Code> {
    let can = offers.iter().map(|offer| offer.code).filter(|code| code.is_known());
    let found = match wanted {
        Some(wanted) => {
            // The very format, before one with the same pixels.
            let mut fitting: Vec<_> = can.filter(|code| code.serves_as(wanted)).collect();
            fitting.sort_by_key(|code| *code != wanted);
            fitting.first().copied()
        }
        None => {
            let present = device.mode()?.code;
            let plain = |code: &Code| offers.iter().any(|offer| offer.code == *code && !offer.compressed);
            let can: Vec<_> = can.collect();
            let present = Some(present).filter(|code| can.contains(code) && plain(code));
            present.or_else(|| can.iter().copied().find(plain)).or_else(|| can.first().copied())
        }
    };
    found.ok_or_else(|| {
        let (can, cannot): (Vec<_>, Vec<_>) = offers.iter().partition(|offer| offer.code.is_known());
        let names = |offers: &[&Offer]| match offers {
            [] => "none".to_owned(),
            offers => offers.iter().map(|offer| offer.code.to_string()).collect::<Vec<_>>().join(", "),
        };
        let wanted =
            wanted.map_or_else(|| "no format bips can describe".to_owned(), |wanted| format!("no {wanted}"));
        Failure::usage(format!(
            "{} ({}) has {wanted}; it has {}",
            device.path().display(),
            device.card(),
            if can.is_empty() { names(&cannot) } else { names(&can) }
        ))
    })
}

/// Drivers answer with what they can do instead of what was asked for.
fn check(device: &Device, offers: &[Offer], mode: &Mode, code: Code, size: Option<(u32, u32)>) -> Outcome {
    let (width, height) = size.unwrap_or((mode.width, mode.height));
    if mode.code == code && (mode.width, mode.height) == (width, height) {
        return Ok(());
    }
    let sizes = offers.iter().find(|offer| offer.code == code).map_or(&[][..], |offer| &offer.sizes);
    let listed: Vec<_> = sizes.iter().map(size_text).collect();
    let listed = if listed.is_empty() { "what its inputs have".to_owned() } else { listed.join(", ") };
    Err(Failure::usage(format!(
        "{} ({}) can't do {width}x{height} in {code}; the nearest is {}x{} in {}, its sizes in {code} are {listed}",
        device.path().display(),
        device.card(),
        mode.width,
        mode.height,
        mode.code
    )))
}

/// `640x480`, or a range.
pub(super) fn size_text(sizes: &Sizes) -> String {
    let pair = |(width, height): (u32, u32)| format!("{width}x{height}");
    match sizes {
        Sizes { least, most, .. } if least == most => pair(*least),
        Sizes { least, most, step: (1, 1), .. } => format!("{} to {}", pair(*least), pair(*most)),
        Sizes { least, most, step, .. } => {
            format!("{} to {} in steps of {}", pair(*least), pair(*most), pair(*step))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let sizes = |least, most, step| size_text(&Sizes { least, most, step, fps: None });
        assert_eq!(sizes((640, 480), (640, 480), (1, 1)), "640x480");
        assert_eq!(sizes((16, 16), (640, 480), (1, 1)), "16x16 to 640x480");
        assert_eq!(sizes((16, 16), (640, 480), (8, 2)), "16x16 to 640x480 in steps of 8x2");
    }
}
