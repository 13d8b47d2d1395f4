"""NumPy, by DLPack and by the buffer protocol."""

from pathlib import Path

import pytest
from conftest import INTEGERS, SHAPE, stream

import bips

np = pytest.importorskip("numpy")


def test_same_memory(frame: bips.Frame) -> None:
    array = np.from_dlpack(frame)
    assert array.ctypes.data == frame.address
    assert array.shape == SHAPE
    assert array.dtype == np.uint8
    assert (array == 7).all()


def test_read_only_and_stays_so(frame: bips.Frame) -> None:
    array = np.from_dlpack(frame)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        array.flags.writeable = True


def test_copy(frame: bips.Frame, consumer: bips.Consumer) -> None:
    array = np.from_dlpack(frame, copy=True)
    assert array.ctypes.data != frame.address
    array[:] = 9
    assert (np.from_dlpack(frame) == 7).all()
    assert consumer.stats["bytes_copied"] == frame.nbytes


def test_device(frame: bips.Frame) -> None:
    assert np.from_dlpack(frame, device="cpu").ctypes.data == frame.address


def test_slot_is_written_in_place(producer: bips.Producer, consumer: bips.Consumer) -> None:
    expected = np.arange(np.prod(SHAPE), dtype=np.uint32).astype(np.uint8).reshape(SHAPE)
    with producer.acquire() as slot:
        array = np.from_dlpack(slot)
        assert array.flags.writeable
        assert array.ctypes.data == slot.address
        array[:] = expected
    assert (np.from_dlpack(consumer.receive(timeout=10)) == expected).all()


@pytest.mark.parametrize(
    "dtype",
    [*INTEGERS, "float16", "float32", "float64", "complex64", "complex128", "bool"],
)
def test_types(dtype: str, directory: Path) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    with stream(directory, shape=(3, 4), dtype=dtype) as (producer, consumer):
        with producer.acquire() as slot:
            np.from_dlpack(slot)[:] = values
        frame = consumer.receive(timeout=10)
        for array in (np.from_dlpack(frame), np.asarray(frame)):
            assert array.dtype == np.dtype(dtype)
            assert array.ctypes.data == frame.address
            assert (array == values).all()


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), "float32"])
def test_type_objects(dtype: object, directory: Path) -> None:
    with bips.Producer("t", shape=5, dtype=dtype, directory=directory) as producer:
        assert producer.layout["dtype"] == "float32"
        assert producer.layout["shape"] == (5,)


def test_bfloat16_by_the_buffer_protocol(directory: Path) -> None:
    with stream(directory, shape=4, dtype="bfloat16") as (producer, consumer):
        with producer.acquire() as slot:
            np.asarray(slot)[:] = 0x3F80  # 1.0
        frame = consumer.receive(timeout=10)
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(frame)
        bits = np.asarray(frame)
        assert bits.dtype == np.uint16
        assert (bits == 0x3F80).all()


def test_smaller_frames(producer: bips.Producer, consumer: bips.Consumer) -> None:
    slot = producer.acquire()
    slot.publish(shape=(8, 16, 3))
    frame = consumer.receive(timeout=10)
    assert frame.shape == np.from_dlpack(frame).shape == (8, 16, 3)
    assert frame.nbytes == 8 * 16 * 3
    assert frame.slot_bytes >= 48 * 64 * 3


def test_scalar_and_empty(directory: Path) -> None:
    with stream(directory, shape=(4, 4), dtype="float32") as (producer, consumer):
        slot = producer.acquire()
        np.asarray(slot)[0, 0] = 2.5
        slot.publish(shape=())
        assert np.from_dlpack(consumer.receive(timeout=10)) == 2.5
        producer.acquire().publish(shape=(0, 4))
        frame = consumer.receive(timeout=10)
        assert np.from_dlpack(frame).shape == np.asarray(frame).shape == (0, 4)
        assert memoryview(frame.copy()).nbytes == 0


def test_planes(directory: Path) -> None:
    with stream(directory, size=(64, 48), format="NV12") as (producer, consumer):
        with producer.acquire() as slot:
            np.from_dlpack(slot.plane(0))[:] = 1
            np.from_dlpack(slot.plane(1))[:] = 2
        frame = consumer.receive(timeout=10)
        assert frame.shape == (72, 64)
        luma, chroma = np.from_dlpack(frame.plane(0)), np.from_dlpack(frame.plane(1))
        assert luma.shape == (48, 64)
        assert chroma.shape == (24, 64)
        assert luma.ctypes.data == frame.address
        assert chroma.ctypes.data == frame.address + 48 * 64
        assert (luma == 1).all()
        assert (chroma == 2).all()
        assert not chroma.flags.writeable
        with pytest.raises(bips.InvalidArgument, match="this frame has 2"):
            frame.plane(2)
        with pytest.raises(bips.InvalidArgument, match="this frame has 2"):
            frame.plane(-1)


def test_unaligned_planes_are_not_given_to_old_callers(directory: Path) -> None:
    # 10 x 6 luma bytes: the chroma begins at 60.
    with stream(directory, size=(10, 6), format="NV12") as (producer, consumer):
        with producer.acquire() as slot:
            np.from_dlpack(slot)[:] = 3
        chroma = consumer.receive(timeout=10).plane(1)
        assert chroma.address % 64 == 60
        with pytest.raises(BufferError, match=r"TensorFlow.*\.copy\(\)"):
            chroma.__dlpack__()
        assert (np.from_dlpack(chroma) == 3).all()
        copy = chroma.copy()
        assert copy.address % 64 == 0
        copy.__dlpack__()


def test_copy_outlives_everything(directory: Path) -> None:
    with stream(directory, shape=(3, 5)) as (producer, consumer):
        with producer.acquire() as slot:
            np.from_dlpack(slot)[:] = 5
        with consumer.receive(timeout=10) as frame:
            copy = frame.copy()
    array = np.from_dlpack(copy)
    assert array.flags.writeable
    array += 1
    assert (np.asarray(copy) == 6).all()


def test_private_view(frame: bips.Frame, consumer: bips.Consumer, producer: bips.Producer) -> None:
    private = frame.private()
    assert not private.readonly
    assert private.address != frame.address
    array = np.from_dlpack(private)
    assert (array == 7).all()
    array += 1
    assert (array == 8).all()
    assert (np.from_dlpack(frame) == 7).all()
    assert consumer.stats["bytes_copied"] == frame.nbytes
    with pytest.raises(bips.InvalidArgument):
        frame.private()


def test_private_views_start_from_the_frame_each_time(producer: bips.Producer, consumer: bips.Consumer) -> None:
    for value in range(1, 20):
        with producer.acquire() as slot:
            np.from_dlpack(slot)[:] = value
        frame = consumer.receive(timeout=10)
        array = np.from_dlpack(frame.private())
        frame.release()
        assert (array == value).all()
        array[:] = 255


def test_writable_streams_let_consumers_write(directory: Path) -> None:
    with bips.Producer("t", shape=4, writable=True, directory=directory) as producer:
        assert producer.writable
        assert bips.info("t", directory=directory)["writable"]
        with bips.Consumer("t", directory=directory) as consumer:
            slot = producer.acquire()
            view = np.from_dlpack(slot)
            view[:] = 1
            slot.publish()
            frame = consumer.receive(timeout=10)
            assert consumer.writable
            assert not frame.readonly
            np.from_dlpack(frame)[:] = 2
            assert (view == 2).all()
