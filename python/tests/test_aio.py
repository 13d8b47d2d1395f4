"""`async for`, and the descriptor under it."""

import asyncio
import gc
import os
import selectors
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from conftest import PATIENCE, publish

import bips
from bips import _aio

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for_descriptors(expected: int) -> None:
    """The producer's side lets go of a consumer on a thread of its own."""
    end = time.monotonic() + PATIENCE
    while descriptors() > expected:
        gc.collect()
        assert time.monotonic() < end, f"{descriptors()} descriptors, {expected} expected"
        time.sleep(0.001)


async def publish_soon(producer: bips.Producer, value: int) -> None:
    """Publishes without ever blocking the loop that the consumer needs too."""
    while (slot := producer.try_acquire()) is None:
        await asyncio.sleep(0.001)
    with slot, memoryview(slot) as view:
        view.cast("B")[:] = bytes([value]) * view.nbytes


async def collect(consumer: bips.Consumer) -> list[int]:
    seen = []
    async for frame in consumer:
        assert bytes(frame)[:1] == bytes([frame.sequence % 256])
        seen.append(frame.sequence)
        frame.release()
    return seen


def test_frames_arrive_until_the_end(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main() -> list[int]:
        task = asyncio.create_task(collect(consumer))
        for value in range(50):
            await publish_soon(producer, value)
            # Sometimes the reader finds several, sometimes it must wait.
            await asyncio.sleep(0 if value % 3 else 0.002)
        producer.close()
        return await task

    assert run(main()) == list(range(50))


def test_frames_published_before(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer, 0)
    publish(producer, 1)
    producer.close()
    assert run(collect(consumer)) == [0, 1]


def test_one_reader_for_many_waits(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        added = 0
        add_reader = loop.add_reader

        def count(*arguments: Any) -> None:
            nonlocal added
            added += 1
            add_reader(*arguments)

        loop.add_reader = count  # type: ignore[method-assign, assignment]
        frames = aiter(consumer)
        for value in range(20):
            task = asyncio.ensure_future(anext(frames))
            await asyncio.sleep(0)
            publish(producer, value)
            (await task).release()
        return added

    assert run(main()) == 1


def test_a_busy_reader_does_not_make_the_loop_spin(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main() -> float:
        frames = aiter(consumer)
        task = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(0)
        publish(producer, 0)
        (await task).release()
        publish(producer, 1)
        begin = time.thread_time()
        await asyncio.sleep(0.5)
        busy = time.thread_time() - begin
        assert (await anext(frames)).sequence == 1
        task = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(0.01)
        publish(producer, 2)
        assert (await task).sequence == 2
        return busy

    assert run(main()) < 0.1


def test_cancelling_loses_no_frame(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main() -> list[int]:
        frames = aiter(consumer)
        seen = []
        for value in range(30):
            task = asyncio.ensure_future(anext(frames))
            await asyncio.sleep(0)
            publish(producer, value)
            if value % 2:
                # Cancelled after it was woken, before it ran.
                await asyncio.sleep(0.001 if value % 3 == 0 else 0)
                task.cancel()
            try:
                with await task as frame:
                    seen.append(frame.sequence)
            except asyncio.CancelledError:
                with await anext(frames) as frame:
                    seen.append(frame.sequence)
        return seen

    assert run(main()) == list(range(30))


def test_two_consumers_at_once(producer: bips.Producer, consumer: bips.Consumer, directory: Path) -> None:
    async def main(other: bips.Consumer) -> list[list[int]]:
        tasks = [asyncio.create_task(collect(one)) for one in (consumer, other)]
        for value in range(30):
            await publish_soon(producer, value)
            await asyncio.sleep(0.001)
        producer.close()
        return await asyncio.gather(*tasks)

    with bips.Consumer("cam", directory=directory) as other:
        assert run(main(other)) == [list(range(30))] * 2


def test_two_tasks_share_a_consumer(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main() -> list[int]:
        tasks = [asyncio.create_task(collect(consumer)) for _ in range(2)]
        for value in range(30):
            await publish_soon(producer, value)
            await asyncio.sleep(0.001)
        producer.close()
        return [sequence for seen in await asyncio.gather(*tasks) for sequence in seen]

    assert sorted(run(main())) == list(range(30))


def test_close_ends_the_loop_and_leaves_no_descriptor(directory: Path, producer: bips.Producer) -> None:
    async def main(value: int) -> list[int]:
        consumer = bips.Consumer("cam", directory=directory)
        task = asyncio.create_task(collect(consumer))
        publish(producer, value)
        while producer.stats["consumers"][-1]["received"] == 0:
            await asyncio.sleep(0.001)
        consumer.close()
        return await task

    before = descriptors()
    assert run(main(0)) == [0]
    assert run(main(1)) == [1]
    wait_for_descriptors(before)


def test_a_forgotten_consumer_leaves_no_descriptor(directory: Path, producer: bips.Producer) -> None:
    async def main() -> None:
        consumer = bips.Consumer("cam", policy="latest", directory=directory)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(aiter(consumer)), 0.02)
        del consumer
        gc.collect()
        await asyncio.sleep(0.02)

    before = descriptors()
    run(main())
    run(main())
    wait_for_descriptors(before)
    assert len(_aio._BELLS) == 0


def test_one_loop_after_another(producer: bips.Producer, consumer: bips.Consumer) -> None:
    async def main(value: int) -> int:
        task = asyncio.ensure_future(anext(aiter(consumer)))
        await asyncio.sleep(0.01)
        publish(producer, value)
        with await task as frame:
            return frame.sequence

    assert [run(main(value)) for value in range(3)] == [0, 1, 2]


def test_close_from_another_thread(directory: Path, producer: bips.Producer) -> None:
    async def main() -> list[int]:
        consumer = bips.Consumer("cam", directory=directory)
        task = asyncio.create_task(collect(consumer))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(consumer.close)
        return await task

    assert run(main()) == []


def test_fileno_for_select(producer: bips.Producer, consumer: bips.Consumer) -> None:
    def drain() -> list[int]:
        """Receives until the descriptor is silent; it may ring in vain, but not for ever."""
        seen = []
        end = time.monotonic() + PATIENCE
        while selector.select(0):
            while (frame := consumer.try_receive()) is not None:
                seen.append(frame.sequence)
                frame.release()
            assert time.monotonic() < end
        return seen

    with selectors.DefaultSelector() as selector:
        selector.register(consumer, selectors.EVENT_READ)
        assert os.fstat(consumer.fileno())
        assert consumer.try_receive() is None
        seen = drain()
        for value in range(5):
            publish(producer, value)
            while value not in seen:
                assert selector.select(PATIENCE)
                seen += drain()
        assert seen == list(range(5))
        producer.close()
        assert selector.select(PATIENCE)
        with pytest.raises(bips.Closed):
            consumer.try_receive()


def test_blocking_and_pollable_mix(producer: bips.Producer, consumer: bips.Consumer) -> None:
    consumer.fileno()
    for value in range(5):
        assert consumer.try_receive() is None
        publish(producer, value)
        with consumer.receive(timeout=PATIENCE) as frame:
            assert frame.sequence == value


def test_reconnecting_consumers_have_no_descriptor(directory: Path, producer: bips.Producer) -> None:
    with bips.Consumer("cam", reconnect=True, directory=directory) as consumer:
        with pytest.raises(bips.Unsupported, match="thread|by hand"):
            consumer.fileno()
