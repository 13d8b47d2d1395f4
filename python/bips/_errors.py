"""The exceptions: one class per kind of error, all of them ``bips.Error``.

Where Python has a usual class for the same trouble, the exception is one of that class too.
"""

from typing import ClassVar


class Error(Exception):
    """Anything that went wrong in bips. The message names the next step."""

    __module__ = "bips"
    #: What went wrong, as a stable word; the same in Rust, C and the command line.
    kind: ClassVar[str] = "system"


class Timeout(Error, TimeoutError):  # noqa: N818 - the name is the protocol's, as in queue.Empty
    """The time allowed ran out."""

    __module__ = "bips"
    kind = "timeout"


class Closed(Error, EOFError):  # noqa: N818
    """The stream ended, or this handle was closed."""

    __module__ = "bips"
    kind = "closed"


class NameTaken(Error, FileExistsError):  # noqa: N818
    """Another live producer publishes under this name."""

    __module__ = "bips"
    kind = "name-taken"


class NotFound(Error, FileNotFoundError):  # noqa: N818
    """No producer of this name lives, or the runtime directory is missing."""

    __module__ = "bips"
    kind = "not-found"


class Unsupported(Error):  # noqa: N818
    """This machine, kernel, memory kind or peer can't do what was asked."""

    __module__ = "bips"
    kind = "unsupported"


class AccessDenied(Error, PermissionError):  # noqa: N818
    """Permissions of files, or the stream's access rule, forbid it."""

    __module__ = "bips"
    kind = "access-denied"


class ProtocolError(Error):
    """A peer broke the protocol, or speaks another major version of it."""

    __module__ = "bips"
    kind = "protocol"


class OutOfMemory(Error, MemoryError):  # noqa: N818
    """The machine, or the memory control group, has not that much memory."""

    __module__ = "bips"
    kind = "out-of-memory"


class InvalidArgument(Error, ValueError):  # noqa: N818
    """An argument is outside what the call allows, or the call doesn't fit the object's state."""

    __module__ = "bips"
    kind = "invalid-argument"


class Forked(Error):  # noqa: N818
    """The object was made before a fork and is used in the child."""

    __module__ = "bips"
    kind = "forked"


class Lost(Error):  # noqa: N818
    """The frame was never completed: its producer died before its device work was done."""

    __module__ = "bips"
    kind = "lost"


class TooManyHeld(Error):  # noqa: N818
    """This consumer already holds as many frames as the producer allows."""

    __module__ = "bips"
    kind = "too-many-held"


#: The class for each kind; kinds that aren't here are plain errors.
BY_KIND: dict[str, type[Error]] = {
    error.kind: error
    for error in (
        Error,
        Timeout,
        Closed,
        NameTaken,
        NotFound,
        Unsupported,
        AccessDenied,
        ProtocolError,
        OutOfMemory,
        InvalidArgument,
        Forked,
        Lost,
        TooManyHeld,
    )
}
