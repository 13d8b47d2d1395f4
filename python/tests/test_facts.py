"""What streams say about themselves, as plain dictionaries."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, is_typeddict

import pytest
from conftest import publish

import bips
from bips import types
from bips._label import usual


def matches(value: Any, kind: Any) -> None:
    """Checks a dictionary against its TypedDict: the same keys, values of the named types."""
    assert is_typeddict(kind)
    hints = kind.__annotations__
    assert value.keys() == hints.keys()
    for key, hint in hints.items():
        if is_typeddict(hint):
            matches(value[key], hint)
        elif getattr(hint, "__origin__", None) is list:
            for one in value[key]:
                matches(one, hint.__args__[0])
        elif isinstance(hint, type):
            assert type(value[key]) is hint, key
    json.dumps(value)


def test_stats_and_layout(producer: bips.Producer, consumer: bips.Consumer) -> None:
    publish(producer)
    frame = consumer.receive(timeout=10)
    matches(producer.stats, types.ProducerStats)
    matches(consumer.stats, types.ConsumerStats)
    matches(producer.layout, types.Layout)
    assert producer.layout == consumer.layout
    assert producer.stats["published"] == consumer.stats["received"] == 1
    assert producer.stats["bytes_copied"] == consumer.stats["bytes_copied"] == 0
    assert producer.stats["pool_bytes"] >= 4 * 48 * 64 * 3
    (info,) = producer.stats["consumers"]
    assert (info["pid"], info["policy"], info["held"]) == (os.getpid(), "reliable", 1)
    assert frame.slot < producer.slots == consumer.slots == 4
    assert (producer.memory, consumer.memory) == ("memfd", "memfd")
    assert consumer.max_held == 2
    assert consumer.producer_pid == os.getpid()


def test_info_and_streams(producer: bips.Producer, consumer: bips.Consumer, directory: Path) -> None:
    publish(producer)
    info = bips.info("cam", directory=directory)
    matches(info, types.StreamInfo)
    assert (info["name"], info["pid"], info["memory"], info["slots"]) == ("cam", os.getpid(), "memfd", 4)
    assert (info["published"], info["writable"], info["access"]) == (1, False, "owner")
    assert info["layout"] == producer.layout
    assert len(info["consumers"]) == 1
    assert bips.streams(directory) == ["cam"]


def test_images(directory: Path) -> None:
    with bips.Producer("a/b", size=(64, 48), format="RGB3", slots=2, directory=directory) as producer:
        layout = producer.layout
        assert (layout["shape"], layout["format"], layout["dtype"]) == ((48, 64, 3), "RGB3", "uint8")
        assert layout["planes"] == [{"offset": 0, "stride": 192, "width": 192, "rows": 48}]
        with bips.Consumer("a/b", directory=directory) as consumer:
            with producer.acquire() as slot:
                assert slot.format == "RGB3"
            assert consumer.receive(timeout=10).format == "RGB3"
    with bips.Producer("c", size="64x48", format="GREY", directory=directory) as producer:
        assert producer.layout["shape"] == (48, 64)
    with bips.Producer("d", size=1000, directory=directory) as producer:
        assert producer.layout["shape"] == (1000,)


def test_directory_from_the_environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIPS_DIR", str(directory))
    with bips.Producer("cam", shape=4):
        assert bips.streams() == ["cam"]
        assert bips.info("cam")["name"] == "cam"
        bips.Consumer("cam").close()


def test_doctor(directory: Path) -> None:
    report = bips.doctor(directory)
    matches(report, types.Report)
    assert report["checks"]
    assert report["ok"] == all(check["status"] != "fail" for check in report["checks"])
    vulkan = next(check for check in report["checks"] if check["name"] == "vulkan")
    assert (vulkan["status"], vulkan["detail"][:14]) == ("skip", "not tried here")
    loaded = Path("/proc/self/maps").read_text()
    assert "libvulkan" not in loaded


def test_late_consumers_get_history(directory: Path) -> None:
    with bips.Producer("t", shape=4, slots=4, history=1, directory=directory) as producer:
        publish(producer, 1)
        publish(producer, 2)
        with bips.Consumer("t", directory=directory) as consumer:
            frame = consumer.try_receive()
            assert frame is not None
            assert bytes(frame)[:1] == b"\x02"


def test_latest_skips(producer: bips.Producer, directory: Path) -> None:
    with bips.Consumer("cam", policy="latest", directory=directory) as consumer:
        assert consumer.policy == "latest"
        for value in range(20):
            publish(producer, value)
        assert bytes(consumer.receive(timeout=10))[:1] == bytes([19])
        assert consumer.try_receive() is None


def test_classic_names() -> None:
    assert bips.Producer.pull is bips.Producer.acquire
    assert bips.WritableFrame.push is bips.WritableFrame.publish
    assert bips.Consumer.pull is bips.Consumer.receive
    assert bips.Frame.push is bips.Frame.release


def test_every_public_thing_is_documented() -> None:
    for name in bips.__all__:
        thing = getattr(bips, name)
        if name == "__version__":
            continue
        assert thing.__doc__, name
        if isinstance(thing, type):
            for member, value in vars(thing).items():
                if not member.startswith("_") and member != "kind":
                    assert value.__doc__, f"{name}.{member}"


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    import subprocess

    code = "import bips, sys; print(sorted(set(sys.modules) & {'numpy', 'torch', 'jax', 'tensorflow', 'asyncio'}))"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout == "[]\n"


def test_labels(producer: bips.Producer, directory: Path) -> None:
    def labels() -> list[str]:
        return [consumer["label"] for consumer in producer.stats["consumers"]]

    with bips.Consumer("cam", label="front döör", directory=directory) as consumer:
        assert labels() == [consumer.label] == ["front döör"]
    with bips.Consumer("cam", directory=directory) as consumer:
        (label,) = labels()
        assert label == consumer.label == usual()
        assert label.endswith("@" + socket.gethostname()[:31])
    for bad in ("x" * 65, "two\nlines", "\x1b[2J"):
        with pytest.raises(bips.InvalidArgument, match="at most 64 bytes"):
            bips.Consumer("cam", label=bad, directory=directory)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/app/detector.py", "--x"], "detector.py"),
        (["/app/detector/__main__.py"], "detector"),
        (["-c"], Path(sys.executable).name),
        ([], Path(sys.executable).name),
        (["/app/" + "ä" * 40], "ä" * 15),
        (["a\x1b\udcff"], "a??"),
    ],
)
def test_the_usual_label(monkeypatch: pytest.MonkeyPatch, argv: list[str], name: str) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert usual().split("@")[0] == name
    assert len(usual().encode()) <= 64
