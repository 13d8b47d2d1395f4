"""Every mistake is told apart, and its message names the next step."""

import copy
import math
import os
import pickle
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, SHAPE, finish, publish

import bips


def check(error: pytest.ExceptionInfo[bips.Error], kind: str) -> None:
    assert isinstance(error.value, bips.Error)
    assert error.value.kind == kind
    assert type(error.value).__module__ == "bips"


def test_kinds_are_usual_exceptions_too() -> None:
    assert issubclass(bips.Timeout, TimeoutError)
    assert issubclass(bips.InvalidArgument, ValueError)
    assert issubclass(bips.NotFound, FileNotFoundError)
    assert issubclass(bips.NameTaken, FileExistsError)
    assert issubclass(bips.AccessDenied, PermissionError)
    assert issubclass(bips.OutOfMemory, MemoryError)
    assert issubclass(bips.Closed, EOFError)
    kinds = [kind.kind for kind in bips.Error.__subclasses__()]
    assert len(kinds) == len(set(kinds)) == 12
    for kind in bips.Error.__subclasses__():
        again = pickle.loads(pickle.dumps(kind("words")))
        assert (type(again), str(again)) == (kind, "words")


def test_name_taken(producer: bips.Producer, directory: Path) -> None:
    with pytest.raises(bips.NameTaken, match=str(os.getpid())) as error:
        bips.Producer("cam", shape=4, directory=directory)
    check(error, "name-taken")


def test_name_not_found(directory: Path, producer: bips.Producer) -> None:
    with pytest.raises(bips.NotFound, match="(?s)no_such.*timeout=") as error:
        bips.Consumer("no_such", directory=directory)
    check(error, "not-found")
    begin = time.monotonic()
    with pytest.raises(bips.NotFound, match="no_such") as error:
        bips.Consumer("no_such", directory=directory, timeout=0.2)
    check(error, "not-found")
    assert 0.2 <= time.monotonic() - begin < 5
    with pytest.raises(bips.NotFound, match="no_such"):
        bips.info("no_such", directory=directory)


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "a//b", ".hidden", "a/../b", "ä", "x" * 101])
def test_name_invalid(name: str, directory: Path) -> None:
    for call in (
        lambda: bips.Producer(name, shape=4, directory=directory),
        lambda: bips.Consumer(name, directory=directory),
        lambda: bips.info(name, directory=directory),
    ):
        with pytest.raises(bips.InvalidArgument, match="1 to 100|letters|component|A-Z") as error:
            call()
        check(error, "invalid-argument")


def test_directory_missing(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for call in (
        lambda: bips.Producer("cam", shape=4, directory=missing),
        lambda: bips.Consumer("cam", directory=missing),
        lambda: bips.streams(missing),
    ):
        with pytest.raises(bips.NotFound, match=str(missing)) as error:
            call()
        check(error, "not-found")


def test_directory_not_writable(directory: Path, start: Callable[..., Any]) -> None:
    directory.chmod(0o555)
    code = """
        import bips, os, sys
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            bips.Producer("cam", shape=4, directory=".")
        except bips.AccessDenied as error:
            print(error.kind, error)
    """
    out = finish(start(code))
    assert out.startswith("access-denied")
    assert re.search("permission|writable|chmod", out, re.IGNORECASE)


def test_directory_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(bips.Error, match=str(file)):
        bips.Producer("cam", shape=4, directory=file)


@pytest.mark.parametrize("slots", [0, 65, -1, 2**40])
def test_slots_out_of_range(slots: int, directory: Path) -> None:
    with pytest.raises(bips.InvalidArgument, match="1 to 64|from 0 upwards") as error:
        bips.Producer("cam", shape=4, slots=slots, directory=directory)
    check(error, "invalid-argument")


def test_shape_larger_than_the_slot(producer: bips.Producer, consumer: bips.Consumer) -> None:
    slot = producer.acquire()
    with pytest.raises(bips.InvalidArgument, match="larger slots") as error:
        slot.publish(shape=(*SHAPE[:2], 300))
    check(error, "invalid-argument")
    # Nothing is lost by the mistake.
    assert slot.publish(shape=SHAPE) == 0
    assert consumer.receive(timeout=10).shape == SHAPE


@pytest.mark.parametrize("shape", [(-1,), (2**63, 2**63), "abc", (1.5,), (1,) * 9, object()])
def test_shapes_that_are_none(shape: Any, producer: bips.Producer) -> None:
    slot = producer.acquire()
    with pytest.raises(bips.InvalidArgument, match="give|merge|larger"):
        slot.publish(shape=shape)
    slot.cancel()


def test_what_a_slot_holds_must_be_said(directory: Path) -> None:
    too_little: list[dict[str, Any]] = [{}, {"format": "RGB3"}]
    for arguments in too_little:
        with pytest.raises(bips.InvalidArgument, match=r"shape=\(…\).*size="):
            bips.Producer("cam", directory=directory, **arguments)
    sizes: list[Any] = [(1, 2, 3), "large", 7, (-1, 2)]
    for size in sizes:
        with pytest.raises(bips.InvalidArgument, match=r"\(1920, 1080\)"):
            bips.Producer("cam", size=size, format="RGB3", directory=directory)
    with pytest.raises(bips.InvalidArgument, match="format="):
        bips.Producer("cam", size=(64, 48), directory=directory)
    with pytest.raises(bips.InvalidArgument, match="float32"):
        bips.Producer("cam", shape=4, dtype="float33", directory=directory)
    with pytest.raises(bips.InvalidArgument, match="NV12"):
        bips.Producer("cam", size=(64, 48), format="MP3", directory=directory)
    with pytest.raises(bips.InvalidArgument, match="multiple of 2"):
        bips.Producer("cam", size=(63, 48), format="NV12", directory=directory)


@pytest.mark.parametrize("other", [{"format": "RGB3"}, {"size": 4}, {"size": (64, 48), "format": "RGB3"}])
def test_what_a_slot_holds_is_said_once(other: dict[str, Any], directory: Path) -> None:
    with pytest.raises(bips.InvalidArgument, match=f"drop {min(other, key=len)} .*drop shape") as error:
        bips.Producer("cam", shape=(48, 64, 3), directory=directory, **other)
    check(error, "invalid-argument")


@pytest.mark.parametrize("size", [{"size": (64, 48), "format": "RGB3"}, {"size": 4096}])
def test_a_dtype_beside_size(size: dict[str, Any], directory: Path) -> None:
    with pytest.raises(bips.InvalidArgument, match="uint8, not float32; drop dtype.*shape=") as error:
        bips.Producer("cam", dtype="float32", directory=directory, **size)
    check(error, "invalid-argument")
    with bips.Producer("cam", dtype="uint8", directory=directory, **size) as producer:
        assert producer.layout["dtype"] == "uint8"


@pytest.mark.parametrize(("format", "named"), [("RGB33", "one of RGB3, "), ("rgb3", "did you mean RGB3")])
def test_a_format_misspelt(format: str, named: str, directory: Path) -> None:
    # Named even where there is more to say.
    rests: list[dict[str, Any]] = [{"size": (64, 48)}, {"shape": (48, 64, 3)}, {}]
    for rest in rests:
        with pytest.raises(bips.InvalidArgument, match=f'"{format}".*{named}') as error:
            bips.Producer("cam", format=format, directory=directory, **rest)
        check(error, "invalid-argument")


def test_memory_that_is_not_there(directory: Path) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(bips.OutOfMemory) as error:
        bips.Producer("cam", size=total, slots=4, directory=directory)
    check(error, "out-of-memory")
    assert bips.streams(directory) == []
    with bips.Producer("cam", shape=4, directory=directory):
        pass


def test_memory_kind_and_usage_unknown(directory: Path) -> None:
    with pytest.raises(bips.Error, match="memfd"):
        bips.Producer("cam", shape=4, memory="floppy", directory=directory)
    with pytest.raises(bips.InvalidArgument, match="cuda"):
        bips.Producer("cam", shape=4, usage=("cooking",), directory=directory)
    with pytest.raises(bips.Unsupported):
        bips.Producer("cam", shape=4, usage=("cuda",), directory=directory)
    with pytest.raises(bips.Unsupported, match="/dev/nothing"):
        bips.Producer("cam", shape=4, usage=("cpu", "camera:/dev/nothing"), directory=directory)
    with pytest.raises(bips.InvalidArgument, match="owner"):
        bips.Producer("cam", shape=4, access="everybody", directory=directory)


def test_policies(producer: bips.Producer, directory: Path) -> None:
    for policy in ("newest", "keep-last:0", "keep-last:x", ""):
        with pytest.raises(bips.InvalidArgument, match="reliable|1 to"):
            bips.Consumer("cam", policy=policy, directory=directory)
    with bips.Producer("live", shape=4, reliable=False, directory=directory):
        with pytest.raises(bips.Error, match="latest"):
            bips.Consumer("live", policy="reliable", directory=directory)
        bips.Consumer("live", policy="latest", directory=directory).close()


def test_devices_that_frames_cannot_be_on(producer: bips.Producer, directory: Path) -> None:
    with pytest.raises(bips.Unsupported, match=r"frame\.torch\(\)\.to") as error:
        bips.Consumer("cam", device="cuda:0", directory=directory)
    check(error, "unsupported")
    with pytest.raises(bips.Unsupported, match="does not serve cuda:0"):
        bips.Consumer("cam", wanted=("cpu", "cuda:0"), directory=directory)
    with pytest.raises(bips.InvalidArgument, match="names no device"):
        bips.Consumer("cam", wanted="vulkan:", directory=directory)
    bips.Consumer("cam", device="cpu", wanted=("cpu",), directory=directory).close()
    assert producer.announced == ["cpu", "cuda:0"]


def test_all_slots_taken_names_who_holds_them(producer: bips.Producer, consumer: bips.Consumer) -> None:
    frames = []
    for _ in range(consumer.max_held):
        publish(producer)
        frames.append(consumer.receive(timeout=10))
    while (slot := producer.try_acquire()) is not None:
        slot.publish()
    with pytest.raises(bips.Timeout, match=f"{os.getpid()}.*holds {consumer.max_held}") as error:
        producer.acquire(timeout=0.05)
    check(error, "timeout")
    frames.pop().release()
    producer.acquire(timeout=10).cancel()


def test_holding_too_many(producer: bips.Producer, consumer: bips.Consumer) -> None:
    frames = []
    for _ in range(consumer.max_held):
        publish(producer)
        frames.append(consumer.receive(timeout=10))
    publish(producer)
    with pytest.raises(bips.TooManyHeld, match="release one") as error:
        consumer.receive(timeout=10)
    check(error, "too-many-held")
    frames.pop().release()
    assert consumer.receive(timeout=10).sequence == consumer.max_held


def test_nothing_published_in_time(consumer: bips.Consumer) -> None:
    begin = time.monotonic()
    with pytest.raises(bips.Timeout, match="wait longer") as error:
        consumer.receive(timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 5
    check(error, "timeout")
    with pytest.raises(bips.Timeout):
        consumer.receive(timeout=0)
    assert consumer.try_receive() is None


def test_time_outs_that_are_none(producer: bips.Producer, consumer: bips.Consumer, directory: Path) -> None:
    for timeout in (-1, math.nan, -math.inf):
        for call in (
            lambda t=timeout: consumer.receive(t),
            lambda t=timeout: producer.acquire(t),
            lambda t=timeout: producer.wait_for_consumers(1, t),
            lambda t=timeout: bips.Consumer("cam", timeout=t, directory=directory),
        ):
            with pytest.raises(bips.InvalidArgument, match="seconds from 0 upwards, None"):
                call()
    # Here None does not wait.
    with pytest.raises(bips.InvalidArgument, match=r"None not to wait, or math\.inf to wait for ever"):
        bips.Consumer("cam", timeout=-1, directory=directory)
    producer.wait_for_consumers(1, math.inf)
    producer.acquire(math.inf).cancel()
    bips.Consumer("cam", timeout=math.inf, directory=directory).close()


def test_types_that_cannot_be_meant(producer: bips.Producer, consumer: bips.Consumer, directory: Path) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: consumer.receive(timeout="1"), "timeout.*'1'.*str.*number of seconds.*None to wait"),  # type: ignore[arg-type]
        (lambda: producer.acquire(timeout=[]), "timeout.*number of seconds"),  # type: ignore[arg-type]
        (lambda: producer.wait_for_consumers(1, "x"), "timeout.*number of seconds"),  # type: ignore[arg-type]
        (lambda: bips.Consumer("cam", timeout="1", directory=directory), r"timeout.*math\.inf"),  # type: ignore[arg-type]
        (lambda: bips.Consumer("cam", policy=1, directory=directory), 'policy.*"latest"'),  # type: ignore[arg-type]
        (lambda: bips.Producer("x", size=4, on_stall=2.5, directory=directory), '"wait".*here "expel:2.5"'),  # type: ignore[arg-type]
        (lambda: bips.Producer("x", size=4, on_stall=b"", directory=directory), '"wait".*"expel:SECONDS"'),  # type: ignore[arg-type]
        (lambda: bips.Producer("x", size=4, access=5000, directory=directory), 'access.*"group:NAME"'),  # type: ignore[arg-type]
    ]
    for call, forms in calls:
        with pytest.raises(TypeError, match=forms):
            call()


def test_too_few_consumers(producer: bips.Producer) -> None:
    with pytest.raises(bips.Timeout, match="2") as error:
        producer.wait_for_consumers(2, timeout=0.05)
    check(error, "timeout")


def test_after_the_producer_ended(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer, 1)
    publish(producer, 2)
    producer.close()
    producer.close()
    assert producer.closed
    assert consumer.ending == "closed"
    assert [frame.sequence for frame in consumer] == [0, 1]
    for call in (lambda: consumer.receive(timeout=PATIENCE), consumer.try_receive):
        with pytest.raises(bips.Closed, match="connect again") as error:
            call()
        check(error, "closed")
    assert list(consumer) == []
    with pytest.raises(bips.Closed, match="make a new one"):
        producer.acquire()
    with pytest.raises(bips.Closed, match="make a new one"):
        producer.try_acquire()


def test_after_close(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer, 1)
    consumer.receive(timeout=10).release()
    consumer.close()
    consumer.close()
    assert consumer.closed
    assert consumer.name == "cam"
    calls: list[Callable[[], object]] = [
        consumer.receive,
        consumer.try_receive,
        consumer.fileno,
        lambda: consumer.layout,
    ]
    for call in calls:
        with pytest.raises(bips.Closed, match=r"bips\.Consumer") as error:
            call()
        check(error, "closed")
    assert consumer.stats["received"] == 1, "what it saw can be asked for still"


def test_releasing_twice(frame: bips.Frame, producer: bips.Producer, consumer: bips.Consumer) -> None:
    frame.release()
    with pytest.raises(bips.InvalidArgument, match="already released.*`with") as error:
        frame.release()
    check(error, "invalid-argument")
    publish(producer, 9)
    assert bytes(consumer.receive(timeout=10))[:1] == b"\x09"


def test_using_a_released_frame(frame: bips.Frame) -> None:
    frame.release()
    calls: list[Callable[[], object]] = [
        lambda: memoryview(frame),
        frame.__dlpack__,
        frame.copy,
        frame.private,
        frame.fd,
        frame.torch,
        frame.__enter__,
        lambda: frame.plane(0),
        lambda: frame.shape,
        lambda: frame.metadata,
        lambda: frame.address,
    ]
    for call in calls:
        with pytest.raises(bips.InvalidArgument, match=r"frame 0 is released.*copy\(\)"):
            call()
    # What it said about itself stays.
    assert (frame.sequence, frame.stream) == (0, "cam")
    assert frame.timestamp == frame.published


def test_publishing_twice(producer: bips.Producer) -> None:
    slot = producer.acquire()
    slot.publish()
    calls: list[Callable[[], object]] = [
        slot.publish,
        slot.cancel,
        slot.__dlpack__,
        lambda: memoryview(slot),
        lambda: slot.shape,
        slot.__enter__,
    ]
    for call in calls:
        with pytest.raises(bips.InvalidArgument, match=r"acquire\(\) for the next"):
            call()


def test_descriptions_that_do_not_fit(producer: bips.Producer) -> None:
    slot = producer.acquire()
    with pytest.raises(bips.InvalidArgument, match="256"):
        slot.publish(metadata=bytes(257))
    for timestamp in (-1, 2**64):
        with pytest.raises(bips.InvalidArgument, match="monotonic_ns"):
            slot.publish(timestamp=timestamp)
    with pytest.raises(bips.Unsupported, match="stream=None"):
        slot.publish(stream=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        slot.publish(metadata="text")  # type: ignore[arg-type]
    assert slot.publish(metadata=bytes(256), timestamp=2**64 - 1) == 0


def test_release_on_a_stream(frame: bips.Frame) -> None:
    with pytest.raises(bips.Unsupported, match="stream=None"):
        frame.release(stream=1)  # type: ignore[arg-type]
    frame.release(stream=None)


def test_pickling_names_the_way(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer)
    frame = consumer.receive(timeout=10)
    for thing, way in (
        (frame, r"frame\.copy\(\)"),
        (frame.plane(0), r"bytes\(view\)"),
        (producer.acquire(), r"publish\(\)"),
        (producer, r'bips\.Consumer\("cam"\)'),
        (consumer, r'bips\.Consumer\("cam"\)'),
    ):
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=way):
                call(thing)


def test_classes_are_made_by_streams_only() -> None:
    for kind in (bips.Frame, bips.WritableFrame, bips.View):
        with pytest.raises(TypeError):
            kind()


def test_descriptors_run_out(producer: bips.Producer, directory: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    try:
        with pytest.raises((bips.Error, OSError)):
            for _ in range(64):
                bips.Consumer("cam", directory=directory).receive(timeout=0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with bips.Consumer("cam", policy="latest", directory=directory) as consumer:
        publish(producer, 4)
        assert bytes(consumer.receive(timeout=10))[:1] == b"\x04"
