"""Receives what produce sends, and checks it: consume.py NAME"""

import sys

import bips


def main() -> None:
    """Checks the greetings."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME")
    consumer = bips.Consumer(sys.argv[1], timeout=30)

    frames = 0
    for frame in consumer:
        with frame:
            greeting = frame.metadata.decode()
            if frame.sequence != frames:
                sys.exit("error: a frame is missing")
            if greeting != f"hello {frames}":
                sys.exit("error: another greeting was sent")
            if bytes(frame) != bytes([frames % 256]) * (4 * 16):
                sys.exit("error: other bytes were sent")
            rows, columns = frame.shape
            print(f"frame {frame.sequence}: {greeting}, {frame.dtype} {rows}x{columns} of {frames % 256}")
            frames += 1
    if consumer.ending != "closed":
        sys.exit("error: the producer died")
    print(f"{frames} frames, then the producer closed the stream")


if __name__ == "__main__":
    main()
