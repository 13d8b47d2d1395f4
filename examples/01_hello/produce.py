"""Publishes a few small tensors, each with a greeting beside it: produce.py NAME [FRAMES]"""

import sys

import bips


def main() -> None:
    """Sends the greetings."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} NAME [FRAMES]")
    frames = int(sys.argv[2]) if len(sys.argv) > 2 else 5

    with bips.Producer(sys.argv[1], shape=(4, 16), dtype="uint8") as producer:
        producer.wait_for_consumers(1, timeout=30)

        for i in range(frames):
            frame = producer.acquire(timeout=30)
            with memoryview(frame).cast("B") as view:
                view[:] = bytes([i % 256]) * (4 * 16)
            greeting = f"hello {i}"
            sequence = frame.publish(metadata=greeting.encode())
            print(f"frame {sequence}: {greeting}")


if __name__ == "__main__":
    main()
