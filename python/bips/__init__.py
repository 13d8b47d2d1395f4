"""bips: frames shared between processes without copying them, as DLPack tensors.

One process makes a ``Producer`` under a name and publishes frames:

    with bips.Producer("cam", size=(1920, 1080), format="RGB3") as producer:
        with producer.acquire() as slot:                # publishes at the end of the block
            np.from_dlpack(slot)[:] = picture

Others make a ``Consumer`` of that name. What they receive is the producer's own memory, mapped read-only:

    for frame in bips.Consumer("cam", timeout=10):      # ends when the producer does
        with frame:                                     # gives the slot back at the end of the block
            print(frame.sequence, frame.torch().float().mean())

Time-outs are seconds as float, times are nanoseconds of ``time.monotonic_ns()`` as int. Every exception is a
``bips.Error`` with a ``kind``, and its message names the next step.
"""

import atexit as _atexit
import os as _os

from bips import _native, types
from bips._errors import (
    AccessDenied,
    Closed,
    Error,
    Forked,
    InvalidArgument,
    Lost,
    NameTaken,
    NotFound,
    OutOfMemory,
    ProtocolError,
    Timeout,
    TooManyHeld,
    Unsupported,
)
from bips._native import (
    Consumer,
    Frame,
    Producer,
    View,
    WritableFrame,
    __version__,
    doctor,
    info,
    streams,
)

__all__ = [
    "AccessDenied",
    "Closed",
    "Consumer",
    "Error",
    "Forked",
    "Frame",
    "InvalidArgument",
    "Lost",
    "NameTaken",
    "NotFound",
    "OutOfMemory",
    "Producer",
    "ProtocolError",
    "Timeout",
    "TooManyHeld",
    "Unsupported",
    "View",
    "WritableFrame",
    "__version__",
    "doctor",
    "info",
    "streams",
    "types",
]

# Handles of the parent answer bips.Forked in a child, instead of leasing and releasing in its name.
_os.register_at_fork(after_in_child=_native._after_fork)
# A producer that nobody closed ends its stream all the same, and leaves no socket behind.
_atexit.register(_native._close_producers)
