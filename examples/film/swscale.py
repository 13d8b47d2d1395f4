"""FFmpeg's colour conversion with a destination of our choosing.

PyAV's own `reformat` always writes into a picture it allocates, so getting that into a slot would cost one
copy. libswscale itself takes any destination. It lies in PyAV's wheel, so this calls it directly: the
conversion from the decoder's YUV picture to RGB is then the one and only write into the shared slot.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import pathlib
from typing import Any

import av
import numpy as np

_BILINEAR = 2  # SWS_BILINEAR
# SIMD converters write whole registers: a row that isn't a multiple of this could be written past its end.
_ROW_PIXELS = 16


def _library(name: str) -> ctypes.CDLL:
    wheel = pathlib.Path(av.__file__).parent.parent / "av.libs"
    found = next((str(path) for path in wheel.glob(f"lib{name}-*.so*")), None) or ctypes.util.find_library(name)
    if found is None:
        raise RuntimeError(f"FFmpeg's lib{name} isn't beside PyAV ({wheel}); reinstall it: pip install --force av")
    return ctypes.CDLL(found)


class Converter:
    """Turns decoded pictures of one size into RGB, row by row without padding."""

    def __init__(self, width: int, height: int, pixel_format: str) -> None:
        if width % _ROW_PIXELS:
            raise ValueError(f"the film's width must be a multiple of {_ROW_PIXELS}, not {width}")
        self._sws, util = _library("swscale"), _library("avutil")
        util.av_get_pix_fmt.argtypes = [ctypes.c_char_p]
        self._sws.sws_getContext.restype = ctypes.c_void_p
        self._sws.sws_getContext.argtypes = [ctypes.c_int] * 7 + [ctypes.c_void_p] * 3
        self._sws.sws_freeContext.argtypes = [ctypes.c_void_p]
        planes, lines = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
        self._sws.sws_scale.argtypes = [ctypes.c_void_p, planes, lines, ctypes.c_int, ctypes.c_int, planes, lines]
        source, rgb = (util.av_get_pix_fmt(name.encode()) for name in (pixel_format, "rgb24"))
        self._context = self._sws.sws_getContext(width, height, source, width, height, rgb, _BILINEAR, 0, 0, 0)
        if not self._context:
            raise RuntimeError(f"FFmpeg can't convert {pixel_format} to rgb24")
        self._size = (height, width)

    def into(self, picture: av.VideoFrame, target: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        height, width = self._size
        if target.shape != (height, width, 3) or not target.flags.c_contiguous or not target.flags.writeable:
            raise ValueError(f"the target must be a writable, contiguous array of {height}x{width}x3 bytes")
        if (picture.height, picture.width) != self._size:
            raise ValueError(f"the film changed its size to {picture.width}x{picture.height} on the way")
        sources = (ctypes.c_void_p * 4)(*(plane.buffer_ptr for plane in picture.planes))
        strides = (ctypes.c_int * 4)(*(plane.line_size for plane in picture.planes))
        targets = (ctypes.c_void_p * 4)(target.ctypes.data)
        target_strides = (ctypes.c_int * 4)(width * 3)
        rows = self._sws.sws_scale(self._context, sources, strides, 0, height, targets, target_strides)
        if rows != height:
            raise RuntimeError(f"FFmpeg converted {rows} of {height} rows")

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._sws.sws_freeContext(self._context)
