"""Each test has a runtime directory of its own, and helper processes that can't outlive it."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bips

# Few threads: a test machine is small, and a forked child must not find OpenMP's.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

SHAPE = (48, 64, 3)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
#: Seconds a helper process or a thread may take.
PATIENCE = 60.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A runtime directory."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def producer(directory: Path) -> Iterator[bips.Producer]:
    with bips.Producer("cam", shape=SHAPE, slots=4, directory=directory) as producer:
        yield producer


@pytest.fixture
def consumer(producer: bips.Producer, directory: Path) -> Iterator[bips.Consumer]:
    with bips.Consumer("cam", directory=directory) as consumer:
        yield consumer


@contextmanager
def stream(directory: Path, **arguments: Any) -> Iterator[tuple[bips.Producer, bips.Consumer]]:
    """A producer made with these arguments, and a consumer of it."""
    with bips.Producer("t", directory=directory, **arguments) as producer:
        with bips.Consumer("t", directory=directory) as consumer:
            yield producer, consumer


def publish(producer: bips.Producer, value: int = 7) -> int:
    """Publishes one frame of this byte, without any framework."""
    slot = producer.acquire(timeout=PATIENCE)
    with memoryview(slot) as view:
        view.cast("B")[:] = bytes([value]) * view.nbytes
    return slot.publish()


@pytest.fixture
def frame(producer: bips.Producer, consumer: bips.Consumer) -> bips.Frame:
    """A received frame of sevens."""
    publish(producer)
    return consumer.receive(timeout=PATIENCE)


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts Python on some code, with the runtime directory in `sys.argv[1]`."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code), str(directory), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": ""},
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=PATIENCE)


def finish(child: "subprocess.Popen[str]") -> str:
    """What the child printed; it must end well."""
    out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, f"status {child.returncode}\n{out}\n{err}"
    return out


def held(producer: bips.Producer) -> int:
    """Slots that consumers hold."""
    return sum(consumer["held"] for consumer in producer.stats["consumers"])
