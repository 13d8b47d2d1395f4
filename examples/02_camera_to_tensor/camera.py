"""Publishes images of a moving pattern, each with its checksum: camera.py NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]"""

import sys

import bips
import numpy as np
from pixels import checksum, place, xp


def draw(pixels: np.ndarray, i: int) -> None:
    """Draws picture `i`."""
    height, width, channels = pixels.shape
    x, y, c = np.arange(width), np.arange(height), np.arange(channels)
    row = (x[:, None] + 5 * i + 85 * c).astype(np.uint8)
    np.add(row, y.astype(np.uint8)[:, None, None], out=pixels)


def main() -> None:
    """Sends the pictures."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]")
    frames = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    width, height = map(int, sys.argv[3:5]) if len(sys.argv) > 4 else (640, 480)
    memory = sys.argv[5] if len(sys.argv) > 5 else "auto"

    with bips.Producer(sys.argv[1], size=(width, height), format="RGB3", memory=memory) as producer:
        producer.wait_for_consumers(1, timeout=30)

        for i in range(frames):
            frame = producer.acquire(timeout=30)
            pixels = np.from_dlpack(frame)
            draw(pixels, i)
            total = checksum(xp.from_dlpack(pixels))
            at = place(pixels.ctypes.data, pixels.nbytes)
            del pixels  # a view that lives on keeps the slot from being used again
            sequence = frame.publish(metadata=total.to_bytes(8, "little"))
            print(f"frame {sequence}: checksum {total}, {at}")


if __name__ == "__main__":
    main()
