"""TensorFlow: the same memory, by capsules of before DLPack 1.0."""

import pytest
from conftest import PATIENCE, SHAPE, held, publish

import bips

tf = pytest.importorskip("tensorflow")


def address(tensor: object) -> int:
    np = pytest.importorskip("numpy")
    array = np.asarray(memoryview(tensor))  # type: ignore[arg-type]
    return int(array.ctypes.data)


def test_same_memory(frame: bips.Frame, producer: bips.Producer) -> None:
    tensor = tf.experimental.dlpack.from_dlpack(frame.__dlpack__())
    assert address(tensor) == frame.address
    assert tuple(tensor.shape) == SHAPE
    assert tensor.dtype == tf.uint8
    assert bool(tf.reduce_all(tensor == 7))
    frame.release()
    assert held(producer) == 1
    del tensor
    assert held(producer) == 0


def test_work_on_read_only_memory(producer: bips.Producer, consumer: bips.Consumer) -> None:
    mean = tf.function(lambda x: tf.reduce_mean(tf.cast(x, tf.float32)))
    for value in range(10):
        publish(producer, value)
        with consumer.receive(timeout=PATIENCE) as frame:
            tensor = tf.experimental.dlpack.from_dlpack(frame.__dlpack__())
            assert float(mean(tensor)) == value
            assert int(tf.reduce_max(tensor + 1)) == value + 1
            del tensor
    assert held(producer) == 0


def test_copies_for_strict_consumers(producer: bips.Producer, directory: object) -> None:
    with bips.Consumer("cam", strict=True, directory=str(directory)) as consumer:
        publish(producer, 5)
        frame = consumer.receive(timeout=PATIENCE)
        with pytest.raises(BufferError, match="strict"):
            tf.experimental.dlpack.from_dlpack(frame.__dlpack__())
        tensor = tf.experimental.dlpack.from_dlpack(frame.copy().__dlpack__())
        assert bool(tf.reduce_all(tensor == 5))
