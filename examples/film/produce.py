"""Decodes a film straight into the buffers of a stream.

python produce.py film clip.mp4 --frames 528 --fps 50 --consumers 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import time
from collections.abc import Iterator

import av
import bips
import numpy as np
import place
import swscale


def pictures(clip: pathlib.Path) -> Iterator[av.VideoFrame]:
    """The clip's pictures, over and over."""
    while True:
        with av.open(clip) as container:
            yield from container.decode(container.streams.video[0])


def main() -> None:
    arguments = argparse.ArgumentParser(description="decode a film straight into the buffers of a stream")
    arguments.add_argument("stream", help="the name to publish under")
    arguments.add_argument("clip", type=pathlib.Path)
    arguments.add_argument("--frames", type=int, default=528, help="a shorter clip is played again and again")
    arguments.add_argument("--fps", type=float, default=50.0, help="0: as fast as the consumers go")
    arguments.add_argument("--slots", type=int, default=8)
    arguments.add_argument("--consumers", type=int, default=0, help="wait for so many before the first frame")
    arguments.add_argument("--wait", type=float, default=120.0, help="seconds to wait for them")
    arguments.add_argument("--result", type=pathlib.Path, help="write what happened there, as JSON")
    options = arguments.parse_args()

    with av.open(options.clip) as container:
        film = container.streams.video[0].codec_context
        width, height, pixel_format = film.width, film.height, str(film.pix_fmt)
    converter = swscale.Converter(width, height, pixel_format)
    places: set[str] = set()

    with bips.Producer(options.stream, size=(width, height), format="RGB3", slots=options.slots) as producer:
        print(f"{options.stream}: {width}x{height}, waiting for {options.consumers} consumers", flush=True)
        producer.wait_for_consumers(options.consumers, timeout=options.wait)
        started = time.monotonic()
        for number, picture in enumerate(itertools.islice(pictures(options.clip), options.frames)):
            if options.fps:
                time.sleep(max(0.0, started + number / options.fps - time.monotonic()))
            with producer.acquire(timeout=30) as frame:
                # The one write: FFmpeg's conversion has the slot itself as its destination.
                slot = np.asarray(frame)
                converter.into(picture, slot)
                places.add(place.of(slot.ctypes.data))
                del slot  # a view that lives on would keep the slot from being used again
        seconds = time.monotonic() - started
        copied = producer.stats["bytes_copied"]

    print(f"published {options.frames} frames in {seconds:.2f} s")
    if options.result:
        result = {
            "clip": options.clip.name,
            "width": width,
            "height": height,
            "frames": options.frames,
            "seconds": seconds,
            "slots": options.slots,
            "bytes_per_frame": width * height * 3,
            "bytes_copied": copied,
            "places": sorted(places),
            "dev_shm": place.dev_shm(),
        }
        options.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
