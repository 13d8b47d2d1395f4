"""DLPack capsules read field by field, through definitions written down a second time."""

import ctypes
from ctypes import POINTER, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p, py_object
from typing import Any

import pytest
from conftest import SHAPE

import bips


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", c_void_p), ("deleter", c_void_p)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", Tensor),
    ]


_NAME = ctypes.pythonapi.PyCapsule_GetName
_NAME.restype, _NAME.argtypes = ctypes.c_char_p, [py_object]
_POINTER = ctypes.pythonapi.PyCapsule_GetPointer
_POINTER.restype, _POINTER.argtypes = c_void_p, [py_object, ctypes.c_char_p]

READ_ONLY, IS_COPIED = 1, 2


def versioned(capsule: Any) -> Versioned:
    assert _NAME(capsule) == b"dltensor_versioned"
    return Versioned.from_address(_POINTER(capsule, b"dltensor_versioned"))


def legacy(capsule: Any) -> Managed:
    assert _NAME(capsule) == b"dltensor"
    return Managed.from_address(_POINTER(capsule, b"dltensor"))


def check_tensor(tensor: Tensor, address: int | None) -> None:
    assert address is None or tensor.data == address
    assert (tensor.device_type, tensor.device_id) == (1, 0)
    assert (tensor.code, tensor.bits, tensor.lanes) == (1, 8, 1)
    assert tensor.ndim == 3
    assert tuple(tensor.shape[:3]) == SHAPE
    assert tuple(tensor.strides[:3]) == (SHAPE[1] * SHAPE[2], SHAPE[2], 1)
    assert tensor.byte_offset == 0


def test_versioned_says_read_only(frame: bips.Frame) -> None:
    capsule = frame.__dlpack__(max_version=(1, 0))
    managed = versioned(capsule)
    assert (managed.major, managed.minor, managed.flags) == (1, 0, READ_ONLY)
    check_tensor(managed.tensor, frame.address)


def test_version_is_the_lower_of_both(frame: bips.Frame) -> None:
    for asked, given in {(1, 1): (1, 1), (1, 99): (1, 3), (2, 0): (1, 3)}.items():
        capsule = frame.__dlpack__(max_version=asked)
        managed = versioned(capsule)
        assert (managed.major, managed.minor) == given


def test_legacy_without_a_version(frame: bips.Frame) -> None:
    for capsule in (frame.__dlpack__(), frame.__dlpack__(stream=None), frame.__dlpack__(max_version=(0, 8))):
        check_tensor(legacy(capsule).tensor, frame.address)


def test_copy_is_one_and_says_so(frame: bips.Frame, consumer: bips.Consumer) -> None:
    assert consumer.stats["bytes_copied"] == 0
    capsule = frame.__dlpack__(max_version=(1, 0), copy=True)
    managed = versioned(capsule)
    assert managed.flags == IS_COPIED
    check_tensor(managed.tensor, None)
    assert managed.tensor.data != frame.address
    assert managed.tensor.data % 64 == 0
    assert ctypes.string_at(managed.tensor.data, frame.nbytes) == bytes([7]) * frame.nbytes
    assert consumer.stats["bytes_copied"] == frame.nbytes


def test_copy_false_never_copies(frame: bips.Frame, consumer: bips.Consumer) -> None:
    capsule = frame.__dlpack__(max_version=(1, 0), copy=False)
    check_tensor(versioned(capsule).tensor, frame.address)
    assert consumer.stats["bytes_copied"] == 0


def test_writable_frame_has_no_flags(producer: bips.Producer) -> None:
    with producer.acquire() as slot:
        capsule = slot.__dlpack__(max_version=(1, 0))
        managed = versioned(capsule)
        assert managed.flags == 0
        check_tensor(managed.tensor, slot.address)


def test_device(frame: bips.Frame) -> None:
    assert frame.__dlpack_device__() == (1, 0)
    check_tensor(versioned(frame.__dlpack__(max_version=(1, 0), dl_device=(1, 0))).tensor, frame.address)
    for device in ((2, 0), (1, 1), (13, 0)):
        with pytest.raises(BufferError, match=r"\.to\("):
            frame.__dlpack__(max_version=(1, 0), dl_device=device)


def test_stream(frame: bips.Frame) -> None:
    for stream in (0, 1, -1):
        with pytest.raises(BufferError, match="leave stream=None"):
            frame.__dlpack__(stream=stream)  # type: ignore[arg-type]


def test_strict_refuses_callers_who_cannot_be_told(producer: bips.Producer, directory: Any) -> None:
    with bips.Consumer("cam", strict=True, directory=directory) as consumer:
        with producer.acquire():
            pass
        frame = consumer.receive(timeout=10)
        with pytest.raises(BufferError, match=r"max_version=\(1, 0\)"):
            frame.__dlpack__()
        assert versioned(frame.__dlpack__(max_version=(1, 0))).flags == READ_ONLY
        # A copy is the caller's own to write to.
        assert legacy(frame.__dlpack__(copy=True)).tensor.data != frame.address


def test_exchange_table() -> None:
    pointers = set()
    for kind in (bips.Frame, bips.View, bips.WritableFrame):
        capsule = kind.__dlpack_c_exchange_api__
        assert _NAME(capsule) == b"dlpack_exchange_api"
        pointers.add(_POINTER(capsule, b"dlpack_exchange_api"))
    (table,) = pointers
    major, minor = (c_uint32 * 2).from_address(table)
    assert (major, minor) == (1, 3)
    previous, allocate, from_object, to_object, borrow, stream = (c_void_p * 6).from_address(table + 8)
    assert previous is None
    assert borrow is None
    assert all((allocate, from_object, to_object, stream))


def test_exchange_table_makes_tensors(frame: bips.Frame) -> None:
    table = _POINTER(bips.Frame.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    entry = (c_uint64 * 2).from_address(table + 16)[1]
    from_object = ctypes.PYFUNCTYPE(ctypes.c_int, py_object, POINTER(c_void_p))(entry)
    out = c_void_p()
    assert from_object(frame, ctypes.byref(out)) == 0
    assert out.value is not None
    managed = Versioned.from_address(out.value)
    assert managed.flags == READ_ONLY
    check_tensor(managed.tensor, frame.address)
    deleter = ctypes.CFUNCTYPE(None, c_void_p)(managed.deleter)
    deleter(out.value)

    with pytest.raises(TypeError, match=r"bips\.Frame"):
        from_object("no frame", ctypes.byref(out))
    frame.release()
    with pytest.raises(bips.InvalidArgument, match="is released"):
        from_object(frame, ctypes.byref(out))
