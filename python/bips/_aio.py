"""``async for frame in consumer``: waiting for frames in the running event loop, without threads.

Each consumer has at most one bell: a descriptor that the loop watches from the first wait until the consumer is
closed, since adding and removing a reader costs more than a frame. The bell has a descriptor of its own (a dup), so
that the loop can be told to stop watching it whenever and in whatever order things are torn down.
"""

import asyncio
import os
import weakref
from contextlib import suppress
from typing import Self

from bips._errors import Closed, InvalidArgument
from bips._native import Consumer, Frame

#: How often in a row a bell may ring with nobody listening before the loop stops watching it.
_PATIENCE = 4


class Frames:
    """Asynchronous iterator over the frames of a consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._bell: Bell | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            while (frame := self._consumer.try_receive()) is None:
                bell = self._bell
                if bell is not None and not bell.closed and bell.loop is asyncio.get_running_loop():
                    # The try that found nothing is what makes it ring for the next frame.
                    await bell.rung()
                else:
                    self._bell = _bell(self._consumer)
            return frame
        except Closed:
            forget(self._consumer)
            raise StopAsyncIteration from None


class Bell:
    """A descriptor watched by one event loop, and those who wait for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self.loop = loop
        self._fd: int | None = os.dup(fd)
        self._waiters: list[asyncio.Future[None]] = []
        self._watched = False
        self._unheard = 0

    async def rung(self) -> None:
        """Waits until the descriptor is readable or the bell is closed."""
        if self._fd is None:
            return
        if not self._watched:
            self._watched = True
            self._unheard = 0
            self.loop.add_reader(self._fd, self._ring)
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    @property
    def closed(self) -> bool:
        """Whether it doesn't ring any more."""
        return self._fd is None

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return all(waiter.done() for waiter in self._waiters)

    def close(self) -> None:
        """Stops watching, and wakes all who wait. From any thread."""
        if self.loop.is_closed() or _running_loop() is self.loop:
            self._close()
            return
        # The loop may end before it gets to it.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if self._watched and not self.loop.is_closed():
            self.loop.remove_reader(fd)
        os.close(fd)
        self._wake()

    def _ring(self) -> None:
        if self._waiters:
            self._unheard = 0
            self._wake()
            return
        # It rings until somebody receives. Mostly that is about to happen; if not, don't let the loop spin.
        self._unheard += 1
        if self._unheard == _PATIENCE and self._fd is not None:
            self.loop.remove_reader(self._fd)
            self._watched = False

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


_BELLS: weakref.WeakKeyDictionary[Consumer, Bell] = weakref.WeakKeyDictionary()


def forget(consumer: Consumer) -> None:
    """Takes the consumer out of its event loop; called when it is closed."""
    bell = _BELLS.pop(consumer, None)
    if bell is not None:
        bell.close()


def _bell(consumer: Consumer) -> Bell:
    loop = asyncio.get_running_loop()
    bell = _BELLS.get(consumer)
    if bell is not None and bell.loop is loop:
        return bell
    if bell is not None and not bell.loop.is_closed() and not bell.idle:
        raise InvalidArgument(
            f"another event loop is waiting for the frames of {consumer.name!r}; iterate in one loop, or make a "
            "second bips.Consumer"
        )
    forget(consumer)
    bell = Bell(loop, consumer.fileno())
    _BELLS[consumer] = bell
    # A consumer may die without being closed.
    weakref.finalize(consumer, bell.close).atexit = False
    return bell


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
