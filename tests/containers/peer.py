"""What the Python programs in the containers do: the twin of `roles.rs`, which speaks the same lines."""

import os
import sys
from pathlib import Path

import bips
import numpy as np

PATIENCE = 30.0
BATCH = 200
NAMESPACES = ("pid", "ipc", "net", "uts", "mnt", "user")


def say(text: object) -> None:
    """Tells the test something, at once."""
    print(f"@{text}", flush=True)


def hear() -> str:
    """Waits for the test's word; empty when it has hung up."""
    return sys.stdin.readline().rstrip()


def is_writable(path: Path) -> bool:
    """Whether a file can be made there."""
    try:
        path.write_bytes(b"")
    except OSError:
        return False
    return True


def arrive() -> None:
    """Says where this is, which is nowhere that could be written to."""
    assert not is_writable(Path("/file"))
    assert not is_writable(Path("/usr/file"))
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    words = [str(Path("/proc/self/ns", name).readlink()) for name in NAMESPACES]
    say(" ".join(words + [status[name] for name in ("Seccomp", "CapEff", "CapBnd", "NoNewPrivs")]))


def produce() -> None:
    """Publishes for as many consumers as its number says, by the rule it is told."""
    with bips.Producer("a/cam", shape=(64, 64, 3), access=hear()) as producer:
        say("ready")
        producer.wait_for_consumers(int(os.environ["BIPS_TEST_NUMBER"]), timeout=PATIENCE)
        while hear() == "publish":
            first = producer.stats["published"]
            for number in range(first, first + BATCH):
                with producer.acquire(timeout=PATIENCE) as slot:
                    pixels = np.from_dlpack(slot).reshape(-1)
                    pixels[:] = number % 251
                    pixels[:8] = pixels[-8:] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
                    del pixels
            say("published")


def consume() -> None:
    """Receives all frames and says how many; its mount is read-only."""
    assert not is_writable(Path(os.environ["BIPS_DIR"], "file"))
    received = 0
    for frame in bips.Consumer("a/cam", timeout=PATIENCE):
        with frame:
            pixels = np.from_dlpack(frame).reshape(-1)
            assert not pixels.flags.writeable
            assert int.from_bytes(pixels[:8].tobytes(), "little") == frame.sequence == received
            assert (pixels[-8:] == pixels[:8]).all()
            assert (pixels[8:-8] == received % 251).all(), f"torn frame {received}"
            del pixels
        received += 1
        if received == BATCH:
            say("received")
    say(received)


arrive()
{"produces": produce, "consumes": consume}[os.environ["BIPS_TEST_ROLE"]]()
