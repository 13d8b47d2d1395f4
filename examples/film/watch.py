"""Takes each frame of a stream as a torch tensor, without a copy, and measures picture and motion.

python watch.py film
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import bips
import place
import torch


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    arguments = argparse.ArgumentParser(description="statistics and motion of a stream, by torch")
    arguments.add_argument("stream", help="the name to connect to")
    arguments.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the stream to appear")
    arguments.add_argument("--result", type=pathlib.Path, help="write what was seen there, as JSON")
    options = arguments.parse_args()
    torch.set_num_threads(1)  # the decoder and the other consumer want a core, too

    latencies: list[int] = []
    motion: list[float] = []
    places: set[str] = set()
    sums = torch.zeros(2, 3, dtype=torch.float64)
    inside = lost = 0
    pictures: torch.Tensor | None = None
    expected: int | None = None
    with bips.Consumer(options.stream, policy="reliable", timeout=options.wait) as consumer:
        for frame in consumer:
            latencies.append(time.monotonic_ns() - frame.published)
            lost += frame.sequence - (frame.sequence if expected is None else expected)
            expected = frame.sequence + 1

            tensor = torch.from_dlpack(frame)
            # No copy: the tensor's memory is the slot's, and the kernel says which memory that is.
            end = tensor.data_ptr() + tensor.nbytes
            inside += frame.address <= tensor.data_ptr() and end <= frame.address + frame.slot_bytes
            places.add(place.of(tensor.data_ptr()))

            # Real work. Making floats of the picture is its first and only private copy, and it's
            # torch's: arithmetic on 8-bit numbers would overflow. Never write into `tensor`: it is
            # another process's memory, mapped read-only.
            planes = tensor.permute(2, 0, 1)
            if pictures is None:
                pictures = torch.empty(3, *planes.shape, dtype=torch.float32)
                now, before, change = pictures.unbind()
            now.copy_(planes)
            mean = now.mean((1, 2))
            norm = torch.linalg.vector_norm(now, dim=(1, 2))
            deviation = (norm.square() / now[0].numel() - mean.square()).clamp(min=0).sqrt()
            sums += torch.stack((mean, deviation))
            if len(latencies) > 1:
                motion.append(float(torch.sub(now, before, out=change).abs_().mean()))
            now, before = before, now
            del planes, tensor, frame  # the slot goes back now, not when the next frame takes their names
        stats = consumer.stats

    count = len(latencies)
    if not count:
        raise SystemExit(f"{options.stream} ended before its first frame")
    mean, deviation = (sums / count).tolist()
    print(f"{count} frames, mean RGB {mean}, motion {sum(motion) / max(1, len(motion)):.2f}")
    if options.result:
        result = {
            "frames": count,
            "lost": lost,
            "inside": inside,
            "places": sorted(places),
            "latency_ns": {
                "p50": percentile(latencies, 0.5),
                "p99": percentile(latencies, 0.99),
                "max": max(latencies),
            },
            "bytes_copied": stats["bytes_copied"],
            "mean": mean,
            "deviation": deviation,
            "motion": motion,
            "torch": torch.__version__,
            "dev_shm": place.dev_shm(),
        }
        options.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
