"""Blocking calls answer Ctrl-C and let other threads run."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, publish, stream

import bips

WAITS = {
    "receive": "consumer.receive()",
    "receive with a time-out": "consumer.receive(timeout=60)",
    "iterate": "next(consumer)",
    "acquire": "producer.acquire()",
    "wait_for_consumers": "producer.wait_for_consumers(9)",
    "connect": "bips.Consumer('later', directory=sys.argv[1], timeout=60)",
    "connect without a time-out": "bips.Consumer('later', directory=sys.argv[1], timeout=math.inf)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c(wait: str, start: Callable[..., Any]) -> None:
    code = """
        import bips, math, sys, time
        producer = bips.Producer("cam", shape=4, slots=2, directory=sys.argv[1])
        consumer = bips.Consumer("cam", directory=sys.argv[1])
        slots = [producer.acquire(), producer.acquire()]
        print("waiting", flush=True)
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        slots.clear()
        with producer.acquire(timeout=10): pass
        print(consumer.receive(timeout=10).sequence)
    """.replace("{wait}", WAITS[wait])
    child = start(code)
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "interrupted\n"
    assert time.monotonic() - begin < 2
    assert child.stdout.readline() == "0\n"
    assert child.wait(PATIENCE) == 0


def test_ctrl_c_while_a_stopped_producer_is_asked(start: Callable[..., Any]) -> None:
    producer = start("""
        import bips, sys
        with bips.Producer("cam", shape=4, directory=sys.argv[1]):
            print("there", flush=True)
            sys.stdin.read()
    """)
    assert producer.stdout.readline() == "there\n"
    consumer = start("""
        import bips, sys
        print("waiting", flush=True)
        try:
            bips.Consumer("cam", directory=sys.argv[1], timeout=60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    producer.send_signal(signal.SIGSTOP)
    try:
        assert consumer.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        begin = time.monotonic()
        consumer.send_signal(signal.SIGINT)
        assert consumer.stdout.readline() == "interrupted\n"
        assert time.monotonic() - begin < 2
        assert consumer.wait(PATIENCE) == 0
    finally:
        producer.send_signal(signal.SIGCONT)


def test_what_a_handler_raises_comes_instead_of_the_time_out(directory: Path) -> None:
    def give_up(*_: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ZeroDivisionError):
            bips.Consumer("later", directory=directory, timeout=PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_does_not_raise_lets_the_wait_go_on(consumer: bips.Consumer) -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: calls.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin = time.monotonic()
        with pytest.raises(bips.Timeout):
            consumer.receive(timeout=0.4)
        assert 0.4 <= time.monotonic() - begin < 5
    finally:
        signal.signal(signal.SIGALRM, before)
    assert calls == [signal.SIGALRM]


def test_other_threads_run_during_a_wait(consumer: bips.Consumer) -> None:
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with pytest.raises(bips.Timeout):
            consumer.receive(timeout=0.3)
    finally:
        done.set()
        thread.join(PATIENCE)
    assert counted > 1000


def test_other_threads_run_during_a_look_for_the_next_producer(directory: Path) -> None:
    with bips.Producer("t", shape=4, directory=directory):
        consumer = bips.Consumer("t", reconnect=True, directory=directory)
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.wait(0.001):
            counted += 1

    thread = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    try:
        thread.start()
        sys.setswitchinterval(PATIENCE)  # nobody gets the GIL who isn't given it
        end = time.monotonic() + 10
        while counted < 5 and time.monotonic() < end:
            assert consumer.try_receive() is None
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join(PATIENCE)
        consumer.close()
    assert counted >= 5


def test_a_waiting_thread_is_woken_by_a_frame(producer: bips.Producer, consumer: bips.Consumer) -> None:
    received: list[int] = []
    thread = threading.Thread(target=lambda: received.append(consumer.receive(timeout=PATIENCE).sequence))
    thread.start()
    time.sleep(0.1)
    publish(producer)
    thread.join(PATIENCE)
    assert received == [0]


def test_threads_take_turns(directory: Path) -> None:
    frames = 400
    received: list[int] = []

    def receive(consumer: bips.Consumer) -> None:
        for frame in consumer:
            received.append(frame.sequence)
            frame.release()

    with stream(directory, shape=4, slots=8) as (producer, consumer):
        threads = [threading.Thread(target=receive, args=(consumer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(frames):
            publish(producer)
        producer.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert sorted(received) == list(range(frames))


def test_a_time_out_holds_while_another_thread_waits_too(consumer: bips.Consumer) -> None:
    def wait() -> None:
        with suppress(bips.Timeout):
            consumer.receive(timeout=1.5)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    begin = time.monotonic()
    with pytest.raises(bips.Timeout):
        consumer.receive(timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 1.2
    assert consumer.stats["received"] == 0
    thread.join(PATIENCE)


def test_close_ends_the_wait_of_another_thread(directory: Path) -> None:
    with bips.Producer("t", shape=4, directory=directory):
        consumer = bips.Consumer("t", directory=directory)
        ended: list[int] = []

        def receive() -> None:
            for _ in consumer:
                pass
            ended.append(1)

        thread = threading.Thread(target=receive)
        thread.start()
        time.sleep(0.1)
        consumer.close()
        thread.join(PATIENCE)
        assert ended == [1]


def test_close_of_a_producer_ends_its_acquires(directory: Path) -> None:
    producer = bips.Producer("t", shape=4, slots=1, directory=directory)
    slot = producer.acquire()
    kinds: list[str] = []

    def acquire() -> None:
        try:
            producer.acquire()
        except bips.Error as error:
            kinds.append(error.kind)

    thread = threading.Thread(target=acquire)
    thread.start()
    time.sleep(0.1)
    producer.close()
    thread.join(PATIENCE)
    assert kinds == ["closed"]
    del slot
