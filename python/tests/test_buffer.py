"""The buffer protocol, without any framework."""

import ctypes
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import SHAPE, publish, stream

import bips

# Flags of Python's C interface.
SIMPLE, WRITABLE, FORMAT, ND, STRIDES = 0, 1, 4, 8, 0x18
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS = 0x38, 0x58, 0x98

NBYTES = SHAPE[0] * SHAPE[1] * SHAPE[2]


def ask(thing: Any, flags: int) -> None:
    """Asks for a buffer as C code does, and gives it back."""
    view = (ctypes.c_void_p * 16)()
    if ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(thing), view, flags) == 0:
        ctypes.pythonapi.PyBuffer_Release(view)


def test_memoryview(frame: bips.Frame) -> None:
    view = memoryview(frame)
    assert (view.shape, view.format, view.itemsize, view.nbytes) == (SHAPE, "B", 1, NBYTES)
    assert view.strides == frame.strides
    assert view.readonly
    assert view.c_contiguous
    assert view.tobytes() == bytes(frame) == bytes([7]) * NBYTES
    with pytest.raises(TypeError, match="read-only"):
        view[0, 0, 0] = 1


def test_without_a_copy_into_files_and_hashes(frame: bips.Frame, tmp_path: Path, consumer: bips.Consumer) -> None:
    path = tmp_path / "frame"
    with path.open("wb", buffering=0) as file:
        file.write(frame)
    assert path.read_bytes() == bytes([7]) * NBYTES
    assert hashlib.sha256(memoryview(frame).cast("B")).digest() == hashlib.sha256(bytes(frame)).digest()
    assert consumer.stats["bytes_copied"] == 0


def test_slot_is_writable(producer: bips.Producer, consumer: bips.Consumer) -> None:
    with producer.acquire() as slot:
        view = memoryview(slot)
        assert not view.readonly
        view.cast("B")[:] = bytes(range(256)) * (NBYTES // 256)
    assert bytes(consumer.receive(timeout=10)) == bytes(range(256)) * (NBYTES // 256)


def test_files_read_into_slots(producer: bips.Producer, consumer: bips.Consumer, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(bytes([3]) * NBYTES)
    with producer.acquire() as slot, path.open("rb", buffering=0) as file:
        assert file.readinto(slot) == NBYTES
    assert bytes(consumer.receive(timeout=10)) == bytes([3]) * NBYTES


def test_writable_buffers_of_read_only_frames_are_refused(frame: bips.Frame, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"1")
    with path.open("rb", buffering=0) as file, pytest.raises(TypeError, match="read-write"):
        file.readinto(frame)
    with pytest.raises(BufferError, match=r"\.private\(\)"):
        ask(frame, WRITABLE)


def test_each_kind_of_request(frame: bips.Frame) -> None:
    for flags in (SIMPLE, FORMAT, ND, STRIDES, C_CONTIGUOUS, ANY_CONTIGUOUS):
        ask(frame, flags)
    with pytest.raises(BufferError, match=r"\.copy\(\)"):
        ask(frame, F_CONTIGUOUS)


def test_planes(directory: Path) -> None:
    with stream(directory, size=(10, 6), format="YU12") as (producer, consumer):
        with producer.acquire() as slot:
            memoryview(slot).cast("B")[:] = bytes(range(90))
        frame = consumer.receive(timeout=10)
        assert bytes(frame.plane(1)) == bytes(range(60, 75))
        assert bytes(frame.plane(2)) == bytes(range(75, 90))


def test_fd(frame: bips.Frame) -> None:
    fd, offset = frame.fd()
    try:
        assert os.pread(fd, frame.nbytes, offset) == bytes(frame)
        with pytest.raises(OSError, match="."):
            os.pwrite(fd, b"x", offset)
    finally:
        os.close(fd)


def test_fd_of_a_slot(producer: bips.Producer, consumer: bips.Consumer) -> None:
    slot = producer.acquire()
    assert slot.modifier == 0
    slot.for_device()
    fd, offset = slot.fd()
    try:
        memoryview(slot).cast("B")[:5] = b"found"
        assert os.pread(fd, 5, offset) == b"found"
        slot.publish()
        assert bytes(consumer.receive(timeout=10))[:5] == b"found"
    finally:
        os.close(fd)
    with pytest.raises(bips.InvalidArgument, match="published"):
        slot.fd()
    with pytest.raises(bips.InvalidArgument, match="published"):
        slot.for_device()


def test_facts(producer: bips.Producer, consumer: bips.Consumer) -> None:
    first = publish(producer)
    frame = consumer.receive(timeout=10)
    assert (frame.sequence, first) == (0, 0)
    assert (frame.shape, frame.strides, frame.dtype, frame.format) == (SHAPE, (192, 3, 1), "uint8", None)
    assert (frame.nbytes, frame.memory, frame.stream) == (NBYTES, "memfd", "cam")
    assert frame.modifier == 0
    assert frame.metadata == b""
    assert frame.timestamp == frame.published
    assert "uint8" in repr(frame)
    slot = producer.acquire()
    assert slot.publish(timestamp=123, metadata=b"lens 2") == 1
    frame = consumer.receive(timeout=10)
    assert (frame.sequence, frame.timestamp, frame.metadata) == (1, 123, b"lens 2")
    assert frame.published > 123
