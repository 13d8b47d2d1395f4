"""The stubs say what the module has, and type checkers accept what the README writes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
pytest.importorskip("numpy")

PROGRAM = """
import asyncio
from pathlib import Path
from typing import assert_type

import numpy as np

import bips


def produce(directory: Path) -> None:
    with bips.Producer("cam", shape=(4, 4), dtype=np.uint8, slots=8, directory=directory) as producer:
        with producer.acquire(timeout=1.0) as slot:
            np.from_dlpack(slot)[:] = 1
            memoryview(slot)[0, 0] = 2
            assert_type(slot.publish(metadata=b"x", timestamp=3), int)
        assert_type(producer.try_acquire(), bips.WritableFrame | None)
        assert_type(producer.stats["consumers"][0]["pid"], int)


def consume() -> None:
    for frame in bips.Consumer("cam", policy="latest", timeout=2):
        with frame:
            array = np.from_dlpack(frame)
            assert_type(array.ndim, int)
            assert_type(frame.shape, tuple[int, ...])
            assert_type(bytes(frame), bytes)


async def consume_async(consumer: bips.Consumer) -> int:
    async for frame in consumer:
        return frame.sequence
    return -1


def errors() -> None:
    try:
        bips.info("cam")
    except bips.NotFound as error:
        assert_type(error.kind, str)


asyncio.run(consume_async(bips.Consumer("cam")))
"""


def run(*command: str, cwd: Path) -> None:
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, cwd=cwd, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_program_checks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run("-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program), cwd=tmp_path)


def test_stubs_agree_with_the_module(tmp_path: Path) -> None:
    run("-m", "mypy.stubtest", "bips", cwd=tmp_path)
