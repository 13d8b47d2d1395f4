//! What the examples' programs must have said. Worked out here once more, so that two programs that are wrong in the
//! same way don't pass.

use anyhow::{Context, Result, bail, ensure};

/// Of a sender and its receiver.
pub(super) enum Expected {
    /// These lines.
    Text { sender: Vec<String>, receiver: Vec<String> },
    /// For each image a line with its checksum and its place, which must be the same on both sides.
    Images { checksums: Vec<u64>, nbytes: u64, file: &'static str },
}

pub(super) fn hello(frames: u64) -> Expected {
    let sender = (0..frames).map(|i| format!("frame {i}: hello {i}")).collect();
    let mut receiver: Vec<_> =
        (0..frames).map(|i| format!("frame {i}: hello {i}, uint8 4x16 of {}", i % 256)).collect();
    receiver.push(format!("{frames} frames, then the producer closed the stream"));
    Expected::Text { sender, receiver }
}

/// In memory files that the kernel calls `file`.
pub(super) fn tensor(frames: u64, width: u64, height: u64, file: &'static str) -> Expected {
    let row = |i, y| (0..3 * width).map(|at| (at / 3 + y + 5 * i + 85 * (at % 3)) % 256).sum::<u64>();
    let checksums = (0..frames).map(|i| (0..height).map(|y| (y + 1) * row(i, y)).sum()).collect();
    Expected::Images { checksums, nbytes: 3 * width * height, file }
}

pub(super) fn results(frames: u64, width: u64, height: u64) -> Expected {
    let lane = width / 16;
    let count = |i| 1 + i % 16;
    let first = |i| (i % (lane / 2), 7 * i % (height - lane));
    let sender =
        (0..frames).map(|i| format!("frame {i}: {0} drawn, {0} found, the same", count(i))).collect();
    let found = |i| format!("frame {i}: {} found, the first at {}, {}", count(i), first(i).0, first(i).1);
    let mut receiver: Vec<_> = (0..frames).map(found).collect();
    receiver.push(format!("{frames} frames, then the camera closed the stream"));
    Expected::Text { sender, receiver }
}

impl Expected {
    pub(super) fn judge(&self, sender: &str, receiver: &str) -> Result<()> {
        match self {
            Self::Text { sender: of_sender, receiver: of_receiver } => {
                same("sender", sender, of_sender)?;
                same("receiver", receiver, of_receiver)
            }
            Self::Images { checksums, nbytes, file } => {
                let (sent, received): (Vec<_>, Vec<_>) =
                    (sender.lines().collect(), receiver.lines().collect());
                ensure!(sent.len() == checksums.len(), "the sender should say {} lines", checksums.len());
                let end = format!("{} frames, all as the camera drew them", checksums.len());
                ensure!(received.last() == Some(&end.as_str()), "the receiver should end with {end:?}");
                ensure!(
                    received.len() == checksums.len() + 1,
                    "the receiver should say {} lines",
                    sent.len() + 1
                );
                let lines = checksums.iter().zip(sent).zip(received).enumerate();
                lines.into_iter().try_for_each(|(i, ((checksum, sent), received))| {
                    image(&format!("frame {i}: checksum {checksum}, {file} "), *nbytes, sent, received)
                        .with_context(|| format!("{sent:?} and {received:?}"))
                })
            }
        }
    }
}

fn same(who: &str, said: &str, expected: &[String]) -> Result<()> {
    let mut lines = said.lines();
    for expected in expected {
        let line = lines.next().unwrap_or("nothing");
        ensure!(line == expected, "the {who} should say {expected:?}, not {line:?}");
    }
    match lines.next() {
        Some(more) => bail!("the {who} should say no more, not {more:?}"),
        None => Ok(()),
    }
}

/// One image as both sides saw it.
fn image(begin: &str, nbytes: u64, sent: &str, received: &str) -> Result<()> {
    ensure!(sent.starts_with(begin), "an image should have {begin:?}");
    let written = sent.strip_suffix(", rw-s").context("the camera should have mapped it rw-s")?;
    let seen = received.strip_prefix(written).context("checksum and place should be those of the camera")?;
    let range = seen.strip_prefix(", r--s, at 0x").context("the receiver should have mapped it r--s")?;
    let (start, end) = range.split_once("-0x").context("the receiver should say where")?;
    let length = u64::from_str_radix(end, 16)?.checked_sub(u64::from_str_radix(start, 16)?);
    ensure!(length == Some(nbytes), "an image has {nbytes} bytes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_was_expected_to_the_last_line() {
        let (sender, receiver) = (
            "frame 0: hello 0\n",
            "frame 0: hello 0, uint8 4x16 of 0\n1 frames, then the producer closed the stream\n",
        );
        hello(1).judge(sender, receiver).unwrap();
        hello(1).judge("", receiver).unwrap_err();
        hello(1).judge(sender, "frame 0: hello 0, uint8 4x16 of 0\n").unwrap_err();
        hello(1).judge(sender, &receiver.replace("of 0", "of 1")).unwrap_err();
        hello(1).judge(sender, &format!("{receiver}more\n")).unwrap_err();
    }

    #[test]
    fn an_image_has_the_right_checksum_at_the_same_place_on_both_sides() {
        // Two rows of two pixels: 0 85 170, 1 86 171; 1 86 171, 2 87 172.
        let sum = 513 + 2 * 519;
        let sender = format!("frame 0: checksum {sum}, memfd 7 + 0x1000, rw-s\n");
        let receiver = format!(
            "frame 0: checksum {sum}, memfd 7 + 0x1000, r--s, at 0x2000-0x200c\n1 frames, all as the camera drew them\n"
        );
        let expected = tensor(1, 2, 2, "memfd");
        expected.judge(&sender, &receiver).unwrap();
        let wrong = |from: &str, to: &str| {
            assert!(receiver.contains(from), "{from}");
            expected.judge(&sender, &receiver.replace(from, to)).unwrap_err()
        };
        wrong(&sum.to_string(), "1550");
        wrong("memfd 7", "memfd 8");
        tensor(1, 2, 2, "dmabuf").judge(&sender, &receiver).unwrap_err();
        wrong("0x1000", "0x2000");
        wrong("memfd 7 + 0x1000, r--s", "private memory");
        wrong("r--s", "rw-s");
        wrong("200c", "200b");
        wrong("1 frames", "2 frames");
        let both = |text: &str| text.replace(&sum.to_string(), "1550");
        expected.judge(&both(&sender), &both(&receiver)).unwrap_err();
    }
}
