"""In a forked child the parent's handles say so, and take nothing from the parent."""

from collections.abc import Callable
from typing import Any

from conftest import finish


def test_handles_answer_forked(start: Callable[..., Any]) -> None:
    code = """
        import bips, os, sys, traceback
        directory = sys.argv[1]
        producer = bips.Producer("cam", shape=(4, 4), directory=directory)
        consumer = bips.Consumer("cam", directory=directory)
        slot = producer.acquire()
        memoryview(slot).cast("B")[:] = bytes(range(16))
        slot.publish()
        frame = consumer.receive(timeout=10)
        view = frame.plane(0)
        slot = producer.acquire()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                calls = {
                    "receive": consumer.receive, "try_receive": consumer.try_receive, "iterate": lambda: next(consumer),
                    "fileno": consumer.fileno, "close": consumer.close, "layout": lambda: consumer.layout,
                    "stats": lambda: consumer.stats, "aiter": lambda: aiter(consumer),
                    "acquire": producer.acquire, "try_acquire": producer.try_acquire,
                    "producer.close": producer.close, "producer.stats": lambda: producer.stats,
                    "wait": lambda: producer.wait_for_consumers(1, 0),
                    "publish": slot.publish, "cancel": slot.cancel, "slot.dlpack": slot.__dlpack__,
                    "frame.release": frame.release, "dlpack": frame.__dlpack__, "copy": frame.copy,
                    "memoryview": lambda: memoryview(frame), "view": lambda: memoryview(view), "torch": frame.torch,
                    "with": frame.__enter__,
                }
                for name, call in calls.items():
                    try:
                        call()
                    except bips.Error as error:
                        assert error.kind == "forked" and type(error) is bips.Forked, (name, error)
                        assert "spawn" in str(error), (name, error)
                    else:
                        raise AssertionError(name)
                repr((producer, consumer, frame, view, slot))
                # Dropping what belongs to the parent changes nothing there.
                del calls, call, frame, view, slot, consumer, producer
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        # The parent goes on as if nothing had happened.
        held = sum(one["held"] for one in producer.stats["consumers"])
        assert held == 1, held
        assert bytes(frame) == bytes(range(16))
        slot.publish()
        assert consumer.receive(timeout=10).sequence == 1
        print("whole")
    """
    assert finish(start(code)) == "whole\n"


def test_a_forked_child_that_ends_normally(start: Callable[..., Any]) -> None:
    code = """
        import bips, os, sys
        producer = bips.Producer("cam", shape=4, directory=sys.argv[1])
        consumer = bips.Consumer("cam", directory=sys.argv[1])
        with producer.acquire(): pass
        frame = consumer.receive(timeout=10)
        pid = os.fork()
        if pid == 0:
            sys.exit(0)  # runs atexit handlers, destroys objects
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert bips.streams(sys.argv[1]) == ["cam"]
        frame.release()
        with producer.acquire(): pass
        print(consumer.receive(timeout=10).sequence)
    """
    assert finish(start(code)) == "1\n"


def test_the_child_opens_streams_anew(start: Callable[..., Any]) -> None:
    code = """
        import bips, os, sys
        directory = sys.argv[1]
        producer = bips.Producer("cam", shape=4, directory=directory)
        old = bips.Consumer("cam", directory=directory, policy="latest")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with bips.Consumer("cam", directory=directory) as consumer:
                    frame = consumer.receive(timeout=20)
                    assert bytes(frame) == b"abcd", bytes(frame)
                    with bips.Producer("child", shape=4, directory=directory):
                        assert bips.streams(directory) == ["cam", "child"]
                status = 0
            finally:
                os._exit(status)
        producer.wait_for_consumers(2, timeout=20)
        with producer.acquire() as slot:
            memoryview(slot)[:] = b"abcd"
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        print(bips.streams(directory))
    """
    assert finish(start(code)) == "['cam']\n"


def test_spawned_children_open_by_name(start: Callable[..., Any]) -> None:
    code = """
        import os, subprocess, sys
        import bips
        producer = bips.Producer("cam", shape=4, directory=sys.argv[1])
        child = subprocess.Popen([sys.executable, "-P", "-c",
            "import bips, sys; print(next(bips.Consumer('cam', directory=sys.argv[1])).sequence)", sys.argv[1]])
        producer.wait_for_consumers(1, timeout=30)
        with producer.acquire(): pass
        assert child.wait(30) == 0
    """
    assert finish(start(code)) == "0\n"
