"""Takes a camera's images in place, as tensors, and checks them: checksum.py NAME"""

import sys

import bips
from pixels import address, checksum, place, xp


def main() -> None:
    """Checks the pictures."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME")
    consumer = bips.Consumer(sys.argv[1], timeout=30)

    frames = 0
    for frame in consumer:
        with frame:
            pixels = xp.from_dlpack(frame)
            total = checksum(pixels)
            if len(frame.metadata) != 8:
                sys.exit("error: there is no checksum beside the image")
            if total != int.from_bytes(frame.metadata, "little"):
                sys.exit("error: the checksum is not the camera's")
            start = address(pixels)
            at = place(start, pixels.nbytes)
            if at.startswith("private"):
                sys.exit("error: the image was copied")
            end = start + pixels.nbytes
            print(f"frame {frame.sequence}: checksum {total}, {at}, at {start:#x}-{end:#x}")
            frames += 1
            del pixels  # the slot goes back with its last view
    if consumer.ending != "closed":
        sys.exit("error: the camera died")
    print(f"{frames} frames, all as the camera drew them")


if __name__ == "__main__":
    main()
