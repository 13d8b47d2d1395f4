"""A Vulkan driver's memory that the CPU sees too: tensors in it lie in the slot, in either process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, finish

import bips

np = pytest.importorskip("numpy")

SHAPE = (480, 640, 3)


@pytest.fixture
def producer(directory: Path) -> Iterator[bips.Producer]:
    try:
        producer = bips.Producer("gpu", shape=SHAPE, slots=3, memory="vulkan", directory=directory)
    except bips.Unsupported as error:
        pytest.skip(f"[vulkan] {error}")
    with producer:
        yield producer


def test_the_same_memory_in_two_processes(producer: bips.Producer, start: Callable[..., Any]) -> None:
    child = start(f"""
        import bips, numpy as np, sys
        with bips.Consumer("gpu", directory=sys.argv[1], timeout={PATIENCE}) as consumer:
            for frame in consumer:
                array = np.from_dlpack(frame)
                assert array.ctypes.data == frame.address and array.shape == {SHAPE} and not array.flags.writeable
                assert (array == frame.sequence).all(), frame.sequence
            print(consumer.stats["received"], consumer.stats["bytes_copied"], frame.memory)
    """)
    producer.wait_for_consumers(1, timeout=PATIENCE)
    for value in range(20):
        with producer.acquire(timeout=PATIENCE) as slot:
            array = np.from_dlpack(slot)
            assert array.ctypes.data == slot.address
            array[:] = value
    producer.close()
    assert finish(child) == "20 0 vulkan\n"


def test_torch_has_it_without_a_copy(producer: bips.Producer, directory: Path) -> None:
    torch = pytest.importorskip("torch")
    with bips.Consumer("gpu", directory=directory) as consumer:
        with producer.acquire(timeout=PATIENCE) as slot:
            slot.torch().fill_(42)
        frame = consumer.receive(timeout=PATIENCE)
        tensor = torch.from_dlpack(frame)
        assert tensor.data_ptr() == frame.address
        assert int(tensor.sum()) == 42 * tensor.numel()
        assert consumer.stats["bytes_copied"] == 0
