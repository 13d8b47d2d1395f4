"""Finds the bright boxes in a camera's images, and publishes where they are: detector.py NAME"""

import sys

import bips
import numpy as np

MOST = 16  # boxes of an image, each in a lane of its own


def detect(pixels: np.ndarray) -> np.ndarray:
    """What surrounds the bright pixels of each lane: x, y, width, height, score and class."""
    bright = pixels[:, :, 0] > 200
    lane = pixels.shape[1] // MOST
    boxes = []
    for b in range(MOST):
        here = bright[:, b * lane : (b + 1) * lane]
        if not here.any():
            continue
        xs, ys = np.flatnonzero(here.any(axis=0)), np.flatnonzero(here.any(axis=1))
        left, top = b * lane + xs[0], ys[0]
        width, height = xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1
        boxes.append((left, top, width, height, here.sum() / (width * height), b))
    return np.array(boxes, dtype=np.float32).reshape(-1, 6)


def main() -> None:
    """Answers each image."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME")
    with bips.Producer(f"{sys.argv[1]}/boxes", shape=(MOST, 6), dtype="float32") as producer:
        consumer = bips.Consumer(sys.argv[1], timeout=30)

        frames = 0
        for frame in consumer:
            with frame:
                boxes = detect(np.from_dlpack(frame))
                if len(boxes):
                    print(f"frame {frame.sequence}: {len(boxes)} found, the first at {boxes[0, 0]:g}, {boxes[0, 1]:g}")
                result = producer.acquire(timeout=30)
                np.from_dlpack(result)[: len(boxes)] = boxes
                result.publish(shape=boxes.shape, metadata=frame.sequence.to_bytes(8, "little"))
                frames += 1
        if consumer.ending != "closed":
            sys.exit("error: the camera died")
        print(f"{frames} frames, then the camera closed the stream")


if __name__ == "__main__":
    main()
