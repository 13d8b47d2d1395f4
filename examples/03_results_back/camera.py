"""Publishes images with bright boxes, and checks what a detector says of each.

camera.py NAME [FRAMES [WIDTH HEIGHT]]
"""

import sys

import bips
import numpy as np

MOST = 16  # boxes of an image, each in a lane of its own


def choose(i: int, width: int, height: int) -> np.ndarray:
    """Which boxes image `i` has: x, y, width, height, score and class of each."""
    lane, count = width // MOST, 1 + i % MOST
    boxes = []
    for b in range(count):
        x, y = b * lane + i % (lane // 2), (7 * i + 11 * b) % (height - lane)
        boxes.append((x, y, lane // 2, lane, 1, b))
    return np.array(boxes, dtype=np.float32)


def draw(pixels: np.ndarray, boxes: np.ndarray) -> None:
    """Draws an image of these boxes."""
    pixels[:] = 16
    for x, y, width, height in boxes[:, :4].astype(int):
        pixels[y : y + height, x : x + width] = 240


def main() -> None:
    """Sends the images, and checks the answers."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME [FRAMES [WIDTH HEIGHT]]")
    frames = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    width, height = map(int, sys.argv[3:5]) if len(sys.argv) > 4 else (640, 480)
    if width < 2 * MOST or height <= width // MOST:
        sys.exit("error: the image is too small for its boxes")

    with bips.Producer(sys.argv[1], size=(width, height), format="RGB3") as producer:
        consumer = bips.Consumer(f"{sys.argv[1]}/boxes", timeout=30)
        producer.wait_for_consumers(1, timeout=30)

        for i in range(frames):
            frame = producer.acquire(timeout=30)
            drawn = choose(i, width, height)
            draw(np.from_dlpack(frame), drawn)
            sequence = frame.publish()

            with consumer.receive(timeout=30) as result:
                found = np.from_dlpack(result)
                if len(result.metadata) != 8:
                    sys.exit("error: the detector does not say of which image")
                if int.from_bytes(result.metadata, "little") != sequence:
                    sys.exit("error: the boxes are those of another image")
                if not np.array_equal(found, drawn):
                    sys.exit("error: the boxes are not where they were drawn")
                print(f"frame {sequence}: {len(drawn)} drawn, {len(found)} found, the same")
                del found  # the slot goes back with its last view


if __name__ == "__main__":
    main()
