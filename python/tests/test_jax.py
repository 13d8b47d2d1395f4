"""JAX: the same memory, released whenever XLA is done with it."""

import gc
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, SHAPE, held, publish, stream

import bips

jax = pytest.importorskip("jax")


def test_same_memory(frame: bips.Frame) -> None:
    array = jax.dlpack.from_dlpack(frame)
    assert array.unsafe_buffer_pointer() == frame.address
    assert array.shape == SHAPE
    assert array.dtype == jax.numpy.uint8
    assert bool((array == 7).all())


def test_keeps_the_slot_and_gives_it_back(frame: bips.Frame, producer: bips.Producer) -> None:
    array = jax.dlpack.from_dlpack(frame)
    frame.release()
    total = int(jax.jit(lambda x: x.astype("int32").sum())(array))
    assert total == 7 * frame_bytes()
    assert held(producer) == 1
    del array
    wait_until_free(producer)


def frame_bytes() -> int:
    return SHAPE[0] * SHAPE[1] * SHAPE[2]


def wait_until_free(producer: bips.Producer) -> None:
    """XLA may let go later, on a thread of its own."""
    end = time.monotonic() + PATIENCE
    while held(producer) > 0:
        gc.collect()
        assert time.monotonic() < end
        time.sleep(0.001)


def test_many_frames_through_a_compiled_step(directory: Path) -> None:
    step = jax.jit(lambda state, x: 0.9 * state + x.astype("float32").mean())
    state, expected = jax.numpy.float32(0), 0.0
    # JAX computes later than it is told to, and holds the frames until then.
    with stream(directory, shape=SHAPE, slots=64) as (producer, consumer):
        for value in range(40):
            publish(producer, value)
            with consumer.receive(timeout=PATIENCE) as frame:
                state = step(state, jax.dlpack.from_dlpack(frame))
            expected = 0.9 * expected + value
        assert float(state) == pytest.approx(expected, rel=1e-3)
        wait_until_free(producer)


def test_planes_that_are_not_aligned_are_refused_or_copied(directory: Path) -> None:
    with stream(directory, size=(10, 6), format="NV12") as (producer, consumer):
        with producer.acquire() as slot:
            memoryview(slot).cast("B")[:] = bytes(range(90))
        plane = consumer.receive(timeout=PATIENCE).plane(1)
        try:
            array = jax.dlpack.from_dlpack(plane)
        except BufferError:  # JAX before 0.12 speaks the DLPack of before 1.0
            array = jax.dlpack.from_dlpack(plane.copy())
        assert array.tolist() == [list(range(60, 70)), list(range(70, 80)), list(range(80, 90))]
