"""A slot goes back with the last thing made from it, and not before."""

import gc
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, SHAPE, held, publish

import bips

np = pytest.importorskip("numpy")


def test_frame_holds_and_release_gives_back(frame: bips.Frame, producer: bips.Producer) -> None:
    assert held(producer) == 1
    frame.release()
    assert held(producer) == 0
    assert frame.released
    assert "released" in repr(frame)


def test_forgetting_a_frame_releases_it(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer)
    frame = consumer.receive(timeout=10)
    assert held(producer) == 1
    del frame
    assert held(producer) == 0


def test_with_releases_at_the_end_of_the_block(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer)
    with consumer.receive(timeout=10) as frame:
        assert held(producer) == 1
        total = int(np.from_dlpack(frame).sum())
    assert held(producer) == 0
    assert total == 7 * frame_bytes()


def frame_bytes() -> int:
    return SHAPE[0] * SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("make", ["dlpack", "asarray", "memoryview", "plane", "private", "capsule"])
def test_views_keep_the_slot_after_release(make: str, frame: bips.Frame, producer: bips.Producer) -> None:
    makers = {
        "dlpack": np.from_dlpack,
        "asarray": np.asarray,
        "memoryview": memoryview,
        "plane": lambda frame: frame.plane(0),
        "private": lambda frame: frame.private(),
        "capsule": lambda frame: frame.__dlpack__(max_version=(1, 0)),
    }
    view = makers[make](frame)
    frame.release()
    assert held(producer) == 1
    if make != "capsule":
        assert bytes(view) == bytes([7]) * frame_bytes()
    del view
    assert held(producer) == 0


def test_the_last_of_many_views_gives_back(frame: bips.Frame, producer: bips.Producer) -> None:
    arrays = [np.from_dlpack(frame), np.asarray(frame)[3:5], np.from_dlpack(frame.plane(0)).T]
    frame.release()
    while arrays:
        assert held(producer) == 1
        arrays.pop()
    assert held(producer) == 0


def test_a_slot_in_use_is_not_written(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer, 1)
    frame = consumer.receive(timeout=10)
    array = np.from_dlpack(frame)
    frame.release()
    for value in range(2, 40):
        publish(producer, value)
        consumer.receive(timeout=10).release()
        assert (array == 1).all()


def test_copies_hold_nothing(frame: bips.Frame, producer: bips.Producer) -> None:
    copies = [frame.copy(), np.from_dlpack(frame, copy=True)]
    frame.release()
    assert held(producer) == 0
    del copies


def test_an_unconsumed_capsule_gives_back(frame: bips.Frame, producer: bips.Producer) -> None:
    capsules = [frame.__dlpack__(), frame.__dlpack__(max_version=(1, 0))]
    frame.release()
    assert held(producer) == 1
    capsules.clear()
    assert held(producer) == 0


def test_consumer_and_producer_may_go_first(directory: Path) -> None:
    producer = bips.Producer("t", shape=SHAPE, directory=directory)
    consumer = bips.Consumer("t", directory=directory)
    publish(producer, 5)
    frame = consumer.receive(timeout=10)
    array = np.from_dlpack(frame)
    consumer.close()
    producer.close()
    del consumer, producer, frame
    gc.collect()
    assert (array == 5).all()


def test_release_on_another_thread(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer)
    arrays = [np.from_dlpack(consumer.receive(timeout=10))]
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join(PATIENCE)
    assert held(producer) == 0


def test_writable_views_outlive_publish_and_keep_the_slot(producer: bips.Producer, consumer: bips.Consumer) -> None:
    slot = producer.acquire()
    view = np.from_dlpack(slot)
    number = slot.slot
    slot.publish()
    consumer.receive(timeout=10).release()
    for _ in range(12):
        with producer.acquire(timeout=10) as other:
            assert other.slot != number
        consumer.receive(timeout=10).release()
    del view
    seen = set()
    for _ in range(12):
        with producer.acquire(timeout=10) as other:
            seen.add(other.slot)
        consumer.receive(timeout=10).release()
    assert seen  # any of them, the old one too


def test_all_slots_kept_by_own_views(producer: bips.Producer) -> None:
    views = []
    for _ in range(4):
        slot = producer.acquire(timeout=10)
        views.append(np.from_dlpack(slot))
        slot.cancel()
    assert producer.try_acquire() is None
    with pytest.raises(bips.Timeout):
        producer.acquire(timeout=0.05)
    views.pop()
    producer.acquire(timeout=10).cancel()


def test_with_publishes_or_cancels(producer: bips.Producer, consumer: bips.Consumer) -> None:
    with producer.acquire():
        pass
    assert consumer.receive(timeout=10).sequence == 0
    with pytest.raises(ZeroDivisionError), producer.acquire():
        raise ZeroDivisionError
    assert consumer.try_receive() is None
    with producer.acquire() as slot:
        assert slot.publish(metadata=b"early") == 1
    assert consumer.receive(timeout=10).metadata == b"early"
    with producer.acquire() as slot:
        slot.cancel()
    assert consumer.try_receive() is None
    assert producer.stats["published"] == 2


def test_forgetting_a_slot_cancels_it(producer: bips.Producer, consumer: bips.Consumer) -> None:
    for _ in range(10):
        slot = producer.acquire(timeout=10)
        del slot
    assert consumer.try_receive() is None


def test_interpreter_exit_ends_the_stream(directory: Path, start: object) -> None:
    assert callable(start)
    child = start(
        """
        import bips, sys
        class Cycle: pass
        cycle = Cycle()
        cycle.me, cycle.producer = cycle, bips.Producer("cam", shape=4, directory=sys.argv[1])
        sys.stdout.write("made\\n"); sys.stdout.flush()
        """
    )
    out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out, err) == (0, "made\n", "")
    assert list(directory.iterdir()) == []


def test_nothing_is_left_behind(directory: Path) -> None:
    with bips.Producer("a/b.c", shape=4, directory=directory):
        assert bips.streams(directory) == ["a/b.c"]
    assert bips.streams(directory) == []
    assert [path for path in directory.rglob("*") if not path.is_dir()] == []


def test_how_the_stream_ended_is_known_after_close(directory: Path) -> None:
    with bips.Producer("t", shape=4, directory=directory):
        with bips.Consumer("t", directory=directory) as early:
            assert early.ending is None
        late = bips.Consumer("t", directory=directory)
    late.close()
    assert (early.ending, late.ending) == (None, "closed")


def test_a_capsule_that_there_is_no_memory_for_holds_nothing(frame: bips.Frame, producer: bips.Producer) -> None:
    testcapi = pytest.importorskip("_testcapi")
    call = frame.__dlpack__
    for version in (None, (1, 0)):
        failed = 0
        for allocation in range(12):  # more than a call makes
            testcapi.set_nomemory(allocation, allocation + 1)
            try:
                call(max_version=version)
            except MemoryError:
                failed += 1
            finally:
                testcapi.remove_mem_hooks()
        assert 0 < failed < 12
    frame.release()
    assert held(producer) == 0
