"""Types of the plain dictionaries that ``layout``, ``stats``, ``bips.info`` and ``bips.doctor`` return."""

from typing import Literal, TypedDict


class Plane(TypedDict):
    """One plane of an image inside its slot."""

    #: Where it begins in the slot, in bytes.
    offset: int
    #: From the start of one row to the next, in bytes.
    stride: int
    #: Bytes of a row that hold pixels.
    width: int
    rows: int


class Layout(TypedDict):
    """How frames lie in their slots."""

    #: Type of an element, such as "uint8".
    dtype: str
    #: Lengths of the dimensions, in elements.
    shape: tuple[int, ...]
    #: From one element to the next along each dimension, in bytes.
    strides: tuple[int, ...]
    #: V4L2 code of the pixel format; None for plain tensors.
    format: str | None
    #: Bytes a frame uses of its slot.
    nbytes: int
    #: Bytes of a slot.
    slot_bytes: int
    planes: list[Plane]


class ConsumerInfo(TypedDict):
    """One consumer, as its producer sees it."""

    #: 0 where the producer can't see it (another container).
    pid: int
    #: What it calls itself; anybody may claim any name.
    label: str
    uid: int
    #: "reliable", "latest" or "keep-last:N".
    policy: str
    #: Frames it holds now.
    held: int
    #: Seconds since the oldest of them was published; it has held none for longer.
    held_for: float
    #: Frames published that it hasn't received yet.
    unread: int
    #: Seconds since the oldest of them was published.
    unread_for: float
    #: Frames it received so far.
    received: int
    #: Frames it never saw because newer ones took their place.
    missed: int
    #: Whether the producer put it out because it held the stream up. Listed as long as it may read what it holds.
    expelled: bool
    #: Whether the producer has no slot now, and waits for this consumer to read or release frames.
    in_the_way: bool


class ProducerStats(TypedDict):
    """Counts of a producer since it was made."""

    #: Frames published.
    published: int
    #: Bytes of all slots.
    pool_bytes: int
    #: Unread frames taken from consumers that keep only the last ones.
    evicted: int
    #: Consumers put out because they held the stream up (on_stall).
    expelled: int
    #: Seconds that it has had no slot to write to, though it asked for one; None while there is one.
    stalled_for: float | None
    consumers: list[ConsumerInfo]
    #: Bytes copied because the caller asked for a copy; bips copies none by itself.
    bytes_copied: int


class ConsumerStats(TypedDict):
    """Counts of a consumer since it was made."""

    #: Frames received.
    received: int
    #: Frames never seen because newer ones took their place ("latest", "keep-last:N").
    missed: int
    #: Frames held now.
    held: int
    #: Producers it went on with after the first.
    reconnects: int
    #: Bytes of control memory, the frames aside.
    control_bytes: int
    #: Bytes copied because the caller asked for a copy; bips copies none by itself.
    bytes_copied: int


class StreamInfo(TypedDict):
    """Public facts of a stream."""

    name: str
    #: Process of the producer, as it sees itself.
    pid: int
    #: Kind of memory, such as "memfd".
    memory: str
    slots: int
    layout: Layout
    #: Frames published so far.
    published: int
    #: Unread frames taken from consumers that keep only the last ones.
    evicted: int
    #: Consumers put out because they held the stream up.
    expelled: int
    #: What the producer does about those: "wait" or "expel:SECONDS".
    on_stall: str
    #: Seconds that it has had no slot to write to, though it asked for one; None while there is one.
    stalled_for: float | None
    #: Whether consumers may write into frames.
    writable: bool
    #: Whether consumers that may hold the producer back are admitted.
    reliable: bool
    #: "owner", "group:NAME" or "directory".
    access: str
    #: Frames a consumer may hold at a time.
    max_held: int
    #: Frames a new consumer still gets.
    history: int
    consumers: list[ConsumerInfo]


class Check(TypedDict):
    """One thing that ``bips.doctor`` looked at."""

    name: str
    status: Literal["ok", "warn", "fail", "skip"]
    detail: str
    #: What to do about it, where there is something.
    next_step: str | None


class Report(TypedDict):
    """What ``bips.doctor`` found."""

    #: Whether no check failed.
    ok: bool
    checks: list[Check]
