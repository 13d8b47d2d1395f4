"""What one received frame costs in Python, with the floors beside it.

    python benches/receive.py [--json] [--rounds N]

One producer publishes into eight slots, one consumer of the same process receives: nobody waits and nobody sleeps, so
what is timed is the cost of taking a frame, making an array of it and giving it back. Each figure is the median of
many batches, in nanoseconds for one frame. Ratios are of figures from this one run, on whatever machine it is.
"""

import argparse
import importlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import bips
from bips import _native

SHAPE = (1080, 1920, 3)
#: Frames that wait to be received when a batch begins: of eight slots, one is kept and one is written.
FRAMES = 6
#: The goal for receive + np.from_dlpack + release.
GOAL_NS = 1000


class Stream:
    """A producer and a consumer in one process."""

    def __init__(self, directory: str) -> None:
        self.producer = bips.Producer("bench", shape=SHAPE, slots=8, max_held=8, directory=directory)
        self.consumer = bips.Consumer("bench", directory=directory)

    def fill(self) -> None:
        for _ in range(FRAMES):
            self.producer.acquire(timeout=10).publish()


#: Runs one batch and gives the nanoseconds it took for one frame.
Batch = Callable[[], float]


def calls(call: Callable[[], Any], number: int = 50) -> Batch:
    """Batches of a call that leaves nothing behind."""

    def batch() -> float:
        turns = range(number)
        begin = perf_counter_ns()
        for _ in turns:
            call()
        return (perf_counter_ns() - begin) / number

    return batch


def receives(stream: Stream, take: Callable[[bips.Frame], Any] | None) -> Batch:
    """Batches of receive, `take` and release, the array being dropped too."""
    receive = stream.consumer.receive

    def bare() -> float:
        stream.fill()
        turns = range(FRAMES)
        begin = perf_counter_ns()
        for _ in turns:
            frame = receive()
            frame.release()
        return (perf_counter_ns() - begin) / FRAMES

    def with_array() -> float:
        assert take is not None
        stream.fill()
        turns = range(FRAMES)
        begin = perf_counter_ns()
        for _ in turns:
            frame = receive()
            array = take(frame)
            frame.release()
            del array
        return (perf_counter_ns() - begin) / FRAMES

    return bare if take is None else with_array


def batches(stream: Stream, frame: bips.Frame) -> dict[str, Batch]:
    """Everything that can be measured here."""
    found = {
        "empty call": calls(_native._nothing),
        "receive + release": receives(stream, None),
        "__dlpack__": calls(lambda: frame.__dlpack__(max_version=(1, 0))),
        "memoryview(frame)": calls(lambda: memoryview(frame)),
    }
    if np := module("numpy"):
        array = np.from_dlpack(frame)
        found["np.from_dlpack(array)"] = calls(lambda: np.from_dlpack(array))
        found["np.from_dlpack(frame)"] = calls(lambda: np.from_dlpack(frame))
        found["receive + np.from_dlpack + release"] = receives(stream, np.from_dlpack)
    if torch := module("torch"):
        found["torch.from_dlpack(frame)"] = calls(lambda: torch.from_dlpack(frame))
        found["frame.torch()"] = calls(frame.torch)
        found["receive + torch.from_dlpack + release"] = receives(stream, torch.from_dlpack)
        found["receive + frame.torch() + release"] = receives(stream, lambda frame: frame.torch())
    return found


def measure(rounds: int, stream: Stream) -> dict[str, float]:
    """Medians in nanoseconds. One batch of each in turn, so that a busy moment spoils all alike."""
    stream.fill()
    frame = stream.consumer.receive()
    while stream.consumer.try_receive():
        pass
    todo = batches(stream, frame)
    times: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(-rounds // 10, rounds):
        for name, batch in todo.items():
            time = batch()
            if number >= 0:
                times[name].append(time)
    frame.release()
    return {name: statistics.median(values) for name, values in times.items()}


def module(name: str) -> Any:
    """The module, or None where it isn't installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def ratios(ns: dict[str, float]) -> dict[str, float]:
    """What the figures are to each other."""
    pairs = {
        "receive + np.from_dlpack + release, to an empty call": ("receive + np.from_dlpack + release", "empty call"),
        "np.from_dlpack of a frame, to that of an array": ("np.from_dlpack(frame)", "np.from_dlpack(array)"),
        "torch.from_dlpack, to frame.torch()": ("torch.from_dlpack(frame)", "frame.torch()"),
    }
    return {name: ns[a] / ns[b] for name, (a, b) in pairs.items() if a in ns and b in ns}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3000, help="batches for each figure (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stream = Stream(directory)
        ns = measure(arguments.rounds, stream)
        copied = stream.consumer.stats["bytes_copied"]
        stream.consumer.close()
        stream.producer.close()
    goal = ns.get("receive + np.from_dlpack + release")
    reached = None if goal is None else goal <= GOAL_NS
    if arguments.json:
        facts = {"shape": SHAPE, "rounds": arguments.rounds, "python": sys.version.split()[0], "bytes_copied": copied}
        print(json.dumps({**facts, "ns": ns, "ratios": ratios(ns), "goal_ns": GOAL_NS, "goal_reached": reached}))
    else:
        for name, value in ns.items():
            print(f"{name:<40}{value:>10.0f} ns")
        print()
        for name, value in ratios(ns).items():
            print(f"{name:<55}{value:>8.2f} x")
        if reached is not None:
            print(f"\nreceive + np.from_dlpack + release within {GOAL_NS} ns: {'yes' if reached else 'NO'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
