"""A Vulkan driver's memory that the CPU sees too: tensors in it lie in the slot, in either process.

Each side is a process of its own: what a driver loads stays there, and other tests' frameworks are no company for it.
"""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import finish

PRODUCER = """
    import bips, numpy as np, os, sys
    try:
        producer = bips.Producer("gpu", shape=(480, 640, 3), slots=6, memory="vulkan", directory=sys.argv[1])
    except bips.Unsupported as error:
        print(error, flush=True)
        os._exit(0)
    with producer:
        print("there", flush=True)
        producer.wait_for_consumers(1, timeout=60)
        for value in range(20):
            with producer.acquire(timeout=60) as slot:
                array = np.from_dlpack(slot)
                assert array.ctypes.data == slot.address
                array[:] = value
    print("done", flush=True)
"""
CONSUMER = """
    import bips, sys
    with bips.Consumer("gpu", directory=sys.argv[1], timeout=60) as consumer:
        for frame in consumer:
            FRAME
        print(consumer.stats["received"], consumer.stats["bytes_copied"], frame.memory)
"""
READERS = {
    "numpy": """
            array = np.from_dlpack(frame)
            assert array.ctypes.data == frame.address and not array.flags.writeable
            assert (array == frame.sequence).all(), frame.sequence
    """,
    "torch": """
            tensor = torch.from_dlpack(frame)
            assert tensor.data_ptr() == frame.address
            assert bool((tensor == frame.sequence).all()), frame.sequence
    """,
}


@pytest.mark.parametrize("framework", READERS)
def test_tensors_lie_in_the_drivers_memory(framework: str, start: Callable[..., Any]) -> None:
    pytest.importorskip(framework)
    producer = start(PRODUCER)
    said = producer.stdout.readline().strip()
    if said != "there":
        pytest.skip(f"[vulkan] {said}")
    head = "import numpy as np" if framework == "numpy" else "import torch"
    consumer = start(f"    {head}\n" + CONSUMER.replace("FRAME", READERS[framework].strip()))
    assert finish(consumer) == "20 0 vulkan\n"
    assert finish(producer) == "done\n"
