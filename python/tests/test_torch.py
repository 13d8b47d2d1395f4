"""PyTorch: the same memory by both ways, and what an in-place write costs."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import INTEGERS, PATIENCE, SHAPE, finish, held, publish, stream

import bips

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("take", [lambda frame: frame.torch(), torch.from_dlpack], ids=["torch()", "from_dlpack"])
def test_same_memory(take: Callable[[Any], Any], frame: bips.Frame, producer: bips.Producer) -> None:
    tensor = take(frame)
    assert tensor.data_ptr() == frame.address
    assert tensor.shape == SHAPE
    assert tensor.stride() == (192, 3, 1)
    assert tensor.dtype == torch.uint8
    assert tensor.device.type == "cpu"
    assert (tensor == 7).all()
    view = tensor[2:5, ::2].permute(2, 0, 1)
    frame.release()
    del tensor
    assert held(producer) == 1
    assert (view == 7).all()
    del view
    assert held(producer) == 0


def test_slot_is_written_in_place(producer: bips.Producer, consumer: bips.Consumer) -> None:
    expected = torch.arange(48 * 64 * 3).to(torch.uint8).reshape(SHAPE)
    for take in (lambda slot: slot.torch(), torch.from_dlpack):
        with producer.acquire(timeout=10) as slot:
            tensor = take(slot)
            assert tensor.data_ptr() == slot.address
            tensor.copy_(expected)
            del tensor
        assert torch.equal(consumer.receive(timeout=10).torch(), expected)


@pytest.mark.parametrize(
    "dtype",
    [*INTEGERS, "float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool"],
)
def test_types(dtype: str, directory: Path) -> None:
    kind = getattr(torch, dtype)
    values = torch.arange(12).reshape(3, 4).to(kind)
    with stream(directory, shape=(3, 4), dtype=kind) as (producer, consumer):
        with producer.acquire() as slot:
            slot.torch().copy_(values)
        frame = consumer.receive(timeout=10)
        for tensor in (frame.torch(), torch.from_dlpack(frame)):
            assert tensor.dtype == kind
            assert tensor.data_ptr() == frame.address
            assert torch.equal(tensor.to(torch.complex128), values.to(torch.complex128))


def test_copies(frame: bips.Frame, consumer: bips.Consumer) -> None:
    copy = torch.from_dlpack(frame, copy=True)
    assert copy.data_ptr() != frame.address
    copy.add_(1)
    assert consumer.stats["bytes_copied"] == frame.nbytes
    clone = frame.torch().clone()
    clone.add_(1)
    own = frame.copy().torch()
    own.add_(1)
    assert torch.equal(clone, copy)
    assert torch.equal(own, copy)
    assert (frame.torch() == 7).all()


def test_private_is_for_in_place_users(frame: bips.Frame, producer: bips.Producer) -> None:
    tensor = frame.private().torch()
    tensor.add_(1)
    assert (tensor == 8).all()
    assert (frame.torch() == 7).all()
    frame.release()
    assert held(producer) == 1
    del tensor
    assert held(producer) == 0


def test_planes_and_gradients(frame: bips.Frame) -> None:
    weight = torch.ones(3, requires_grad=True)
    (frame.plane(0).torch().float() @ weight).mean().backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.full((3,), 7.0), atol=0.01)


def test_in_place_write_ends_that_process_only(
    producer: bips.Producer, consumer: bips.Consumer, directory: Path, start: Callable[..., Any]
) -> None:
    careless = """
        import bips, sys, torch
        consumer = bips.Consumer("cam", directory=sys.argv[1], timeout=60)
        frame = consumer.receive(timeout=60)
        tensor = frame.torch() if sys.argv[2] == "torch" else torch.from_dlpack(frame)
        print("writing", flush=True)
        tensor.add_(1)
        print("survived", flush=True)
    """
    for way in ("torch", "dlpack"):
        child = start(careless, way)
        producer.wait_for_consumers(2, timeout=PATIENCE)
        publish(producer, 7)
        frame = consumer.receive(timeout=PATIENCE)
        out, _ = child.communicate(timeout=PATIENCE)
        assert (child.returncode, out) == (-signal.SIGSEGV, "writing\n")
        # The picture, the other consumer and the producer are whole, and the dead one's lease comes back.
        assert (frame.torch() == 7).all()
        frame.release()
        for value in range(12):
            publish(producer, value)
            with consumer.receive(timeout=PATIENCE) as frame:
                assert (frame.torch() == value).all()


def test_the_docs_name_the_ways_out() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for text in (bips.Frame.torch.__doc__, bips.Frame.__doc__, readme):
        assert text is not None
        assert ".clone()" in text
        assert "private()" in text
        assert "SIGSEGV" in text


def test_without_torch_the_message_says_what_to_do(directory: Path, start: Callable[..., Any]) -> None:
    code = """
        import sys
        sys.modules["torch"] = None
        import bips
        producer = bips.Producer("cam", shape=4, directory=sys.argv[1])
        consumer = bips.Consumer("cam", directory=sys.argv[1])
        with producer.acquire(): pass
        try:
            consumer.receive(timeout=10).torch()
        except ImportError as error:
            print(error)
    """
    out = finish(start(code))
    assert "pip install 'bips[torch]'" in out
    assert "np.from_dlpack(frame)" in out


def test_torch_without_the_exchange_table(directory: Path, start: Callable[..., Any]) -> None:
    code = """
        import sys, types
        class Tensor: pass
        class Old(types.ModuleType): pass
        old = Old("torch")
        old.Tensor = Tensor
        old.from_dlpack = lambda frame: ("from_dlpack", frame.sequence)
        sys.modules["torch"] = old
        import bips
        producer = bips.Producer("cam", shape=4, directory=sys.argv[1])
        consumer = bips.Consumer("cam", directory=sys.argv[1])
        with producer.acquire(): pass
        print(consumer.receive(timeout=10).torch())
    """
    assert finish(start(code)) == "('from_dlpack', 0)\n"
