"""C code takes frames through the exchange table: TVM FFI does."""

import pytest
from conftest import SHAPE, held

import bips

tvm_ffi = pytest.importorskip("tvm_ffi")


def test_tvm_ffi_takes_frames(frame: bips.Frame, producer: bips.Producer) -> None:
    tensor = tvm_ffi.from_dlpack(frame)
    assert tuple(tensor.shape) == SHAPE
    assert tensor.data_ptr() == frame.address
    frame.release()
    assert held(producer) == 1
    del tensor
    assert held(producer) == 0


def test_as_an_argument(frame: bips.Frame, producer: bips.Producer) -> None:
    shapes = []
    function = tvm_ffi.convert(lambda tensor: shapes.append(tuple(tensor.shape)))
    function(frame)
    function(frame.plane(0))
    assert shapes == [SHAPE, SHAPE]
    frame.release()
    assert held(producer) == 0
