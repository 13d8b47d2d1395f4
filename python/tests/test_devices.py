"""A device still writes when a frame is to be published: others run meanwhile, and closing or Ctrl-C ends the wait."""

import _thread
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE

import bips

# Numbers of the kernel's headers drm.h, vgem_drm.h and dma-buf.h.
CREATE_DUMB = 0xC02064B2
HANDLE_TO_FD = 0xC00C642D
VGEM_ATTACH = 0xC0106441
VGEM_SIGNAL = 0x40086442
EXPORT_SYNC_FILE = 0xC0086202
IMPORT_SYNC_FILE = 0x40086203
READ, WRITE = 1, 2


def vgem() -> Path | None:
    for card in Path("/sys/class/drm").glob("card?"):
        if "/vgem/" in str(card.resolve()):
            return Path("/dev/dri") / card.name
    return None


CARD = vgem()
pytestmark = [
    pytest.mark.skipif(CARD is None, reason="[vgem] there is no such device here (modprobe vgem)"),
    pytest.mark.skipif(not Path("/dev/udmabuf").exists(), reason="[vgem] there is no /dev/udmabuf beside it"),
]


def call(fd: int, number: int, layout: str, *values: int) -> tuple[Any, ...]:
    return struct.unpack(layout, fcntl.ioctl(fd, number, struct.pack(layout, *values)))


@contextmanager
def device_writing(slot: bips.WritableFrame) -> Iterator[Callable[[], None]]:
    """Work of a device on the slot; the result ends it."""
    assert CARD is not None
    card = os.open(CARD, os.O_RDWR | os.O_CLOEXEC)
    handle = call(card, CREATE_DUMB, "=6IQ", 64, 64, 32, 0, 0, 0, 0)[4]
    fence = call(card, VGEM_ATTACH, "=4I", handle, 1, 0, 0)[2]
    own = call(card, HANDLE_TO_FD, "=2Ii", handle, os.O_CLOEXEC, -1)[2]
    work = call(own, EXPORT_SYNC_FILE, "=Ii", READ, -1)[1]
    target, _ = slot.fd()
    call(target, IMPORT_SYNC_FILE, "=Ii", WRITE, work)
    try:
        yield lambda: fcntl.ioctl(card, VGEM_SIGNAL, struct.pack("=2I", fence, 0)) and None
    finally:
        for fd in (work, own, target, card):
            os.close(fd)


@pytest.fixture
def producer(directory: Path) -> Iterator[bips.Producer]:
    with bips.Producer("cam", size=4096, slots=2, memory="udmabuf", directory=directory) as producer:
        yield producer


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except bips.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def block(slot: bips.WritableFrame) -> str:
    with slot:
        pass
    return "published"


@pytest.mark.parametrize("publish", [lambda slot: slot.publish(), block])
def test_others_run_until_it_is_done(
    producer: bips.Producer, directory: Path, publish: Callable[[bips.WritableFrame], object]
) -> None:
    with bips.Consumer("cam", directory=directory) as consumer:
        slot = producer.acquire(timeout=PATIENCE)
        with device_writing(slot) as finish:
            thread, outcome = in_thread(lambda: publish(slot))
            # That this goes on is the test: the other thread waits all the while.
            for _ in range(10):
                time.sleep(0.01)
                assert thread.is_alive()
            with pytest.raises(bips.Timeout):
                consumer.receive(timeout=0)
            finish()
            thread.join(PATIENCE)
        assert outcome in ([0], ["published"])
        assert consumer.receive(timeout=PATIENCE).sequence == 0


def test_closing_ends_the_wait(producer: bips.Producer) -> None:
    slot = producer.acquire(timeout=PATIENCE)
    with device_writing(slot):
        thread, outcome = in_thread(slot.publish)
        time.sleep(0.1)
        producer.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert isinstance(outcome[0], bips.Closed)


def test_ctrl_c_loses_nothing(producer: bips.Producer) -> None:
    slot = producer.acquire(timeout=PATIENCE)
    with device_writing(slot) as finish:
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            slot.publish()
        finish()
        assert slot.publish() == 0


def test_ctrl_c_cancels_a_block(directory: Path) -> None:
    with bips.Producer("one", size=4096, slots=1, memory="udmabuf", directory=directory) as producer:
        slot = producer.acquire(timeout=PATIENCE)
        with device_writing(slot) as finish:
            threading.Timer(0.2, _thread.interrupt_main).start()
            with pytest.raises(KeyboardInterrupt), slot:
                pass
            finish()
            assert producer.acquire(timeout=PATIENCE).publish() == 0
