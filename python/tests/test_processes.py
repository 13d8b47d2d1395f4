"""Between processes, and when one of them is killed."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, finish, held, publish

import bips

PRODUCE = """
    import bips, itertools, sys, time
    with bips.Producer("cam", shape=(64, 64), slots=6, directory=sys.argv[1]) as producer:
        producer.wait_for_consumers(1, timeout=60)
        for i in range(int(sys.argv[2])):
            with producer.acquire(timeout=60) as slot, memoryview(slot) as view:
                view.cast("B")[:] = bytes([i % 256]) * view.nbytes
        print("published", flush=True)
        if len(sys.argv) > 3:
            time.sleep(600)
"""


def is_whole(frame: bips.Frame) -> bool:
    return bytes(frame) == bytes([frame.sequence % 256]) * frame.nbytes


def test_all_frames_cross_and_the_loop_ends(directory: Path, start: Callable[..., Any]) -> None:
    child = start(PRODUCE, "500")
    seen = []
    for frame in bips.Consumer("cam", timeout=PATIENCE, directory=directory):
        with frame:
            assert is_whole(frame)
            seen.append(frame.sequence)
    assert seen == list(range(500))
    assert finish(child) == "published\n"


def test_consumers_may_be_started_first(directory: Path, start: Callable[..., Any]) -> None:
    child = start(
        """
        import bips, sys
        print("waiting", flush=True)
        for frame in bips.Consumer("late/cam", timeout=60, directory=sys.argv[1]):
            print(bytes(frame))
        """
    )
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    with bips.Producer("late/cam", shape=4, directory=directory) as producer:
        producer.wait_for_consumers(1, timeout=PATIENCE)
        publish(producer, 65)
    assert finish(child) == "b'AAAA'\n"


def test_producer_killed(directory: Path, start: Callable[..., Any]) -> None:
    child = start(PRODUCE, "4", "stay")
    consumer = bips.Consumer("cam", timeout=PATIENCE, directory=directory)
    first = consumer.receive(timeout=PATIENCE)
    assert child.stdout.readline() == "published\n"
    assert consumer.ending is None
    child.kill()
    child.wait(PATIENCE)
    # What was published is received, what is held stays, then the end is told.
    assert [frame.sequence for frame in consumer] == [1, 2, 3]
    assert is_whole(first)
    with pytest.raises(bips.Closed):
        consumer.receive(timeout=PATIENCE)
    assert consumer.ending == "died"
    # The name is free again.
    with bips.Producer("cam", shape=4, directory=directory):
        pass


def test_producer_killed_while_a_loop_waits(directory: Path, start: Callable[..., Any]) -> None:
    child = start(PRODUCE, "2", "stay")
    consumer = bips.Consumer("cam", timeout=PATIENCE, directory=directory)

    async def main() -> list[int]:
        seen = []
        async for frame in consumer:
            seen.append(frame.sequence)
            if len(seen) == 2:
                asyncio.get_running_loop().call_later(0.05, child.kill)
        return seen

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == [0, 1]


def test_reconnecting_to_the_next_producer(directory: Path) -> None:
    first = bips.Producer("cam", shape=4, directory=directory)
    with bips.Consumer("cam", reconnect=True, directory=directory) as consumer:
        publish(first, 1)
        first.close()
        assert bytes(consumer.receive(timeout=PATIENCE)) == bytes([1]) * 4
        assert consumer.try_receive() is None
        with bips.Producer("cam", shape=(2, 8), history=1, directory=directory) as second:
            publish(second, 2)
            frame = consumer.receive(timeout=PATIENCE)
            assert (frame.shape, bytes(frame)) == ((2, 8), bytes([2]) * 16)
            assert (frame.generation, consumer.generation, consumer.stats["reconnects"]) == (1, 1, 1)
            assert consumer.layout["shape"] == (2, 8)


def test_consumer_killed_with_frames_in_hand(
    producer: bips.Producer, consumer: bips.Consumer, start: Callable[..., Any]
) -> None:
    child = start(
        """
        import bips, sys, time
        consumer = bips.Consumer("cam", directory=sys.argv[1])
        frames = [consumer.receive(timeout=60) for _ in range(consumer.max_held)]
        print("holding", flush=True)
        time.sleep(600)
        """
    )
    producer.wait_for_consumers(2, timeout=PATIENCE)
    for value in range(consumer.max_held):
        publish(producer, value)
        consumer.receive(timeout=PATIENCE).release()
    assert child.stdout.readline() == "holding\n"
    assert held(producer) == consumer.max_held
    child.kill()
    child.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while held(producer) > 0:
        assert time.monotonic() < end
        time.sleep(0.001)
    for value in range(20):
        publish(producer, value)
        with consumer.receive(timeout=PATIENCE) as frame:
            assert bytes(frame)[:1] == bytes([value])


def test_a_stopped_consumer_is_put_out_and_keeps_its_frame(directory: Path, start: Callable[..., Any]) -> None:
    with bips.Producer("cam", shape=4, slots=4, on_stall="expel:0.02", directory=directory) as producer:
        child = start(
            """
            import bips, sys
            consumer = bips.Consumer("cam", directory=sys.argv[1])
            print("ready", flush=True)
            frame = consumer.receive(timeout=60)
            print("holding", flush=True)
            sys.stdin.readline()
            try:
                consumer.receive(timeout=60)
            except bips.Closed as closed:
                print(consumer.ending, "put this consumer out" in str(closed), list(bytes(frame)), flush=True)
            """
        )
        assert child.stdout.readline() == "ready\n"
        publish(producer, 1)
        assert child.stdout.readline() == "holding\n"
        child.send_signal(signal.SIGSTOP)
        for value in range(2, 12):
            publish(producer, value)
        (consumer,) = bips.info("cam", directory=directory)["consumers"]
        assert (consumer["held"], consumer["unread"], consumer["expelled"]) == (1, 0, True)
        assert consumer["held_for"] >= 0.02
        assert bips.info("cam", directory=directory)["on_stall"] == "expel:0.02"
        assert producer.stats["expelled"] == 1
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "expelled True [1, 1, 1, 1]\n"
        assert child.wait(PATIENCE) == 0


def test_a_rule_for_stalls_that_is_none(directory: Path) -> None:
    with pytest.raises(bips.InvalidArgument, match="expel:SECONDS"):
        bips.Producer("cam", shape=4, on_stall="never", directory=directory)
