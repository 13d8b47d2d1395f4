"""What a consumer calls itself unless it is told."""

import socket
import sys
from pathlib import PurePath

#: Bytes of either half; a label has at most 64.
_HALF = 31


def usual() -> str:
    """The name of the script, module or interpreter, and the host's; in containers that is mostly their id."""
    # An embedding program may have set none.
    script = PurePath((getattr(sys, "argv", None) or [""])[0])
    name = script.parent.name if script.name == "__main__.py" else script.name
    if name in {"", "-c", "-m"}:
        name = PurePath(sys.executable or "python").name
    host = socket.gethostname()
    return f"{_printable(name)}@{_printable(host)}" if host else _printable(name)


def _printable(text: str) -> str:
    """The beginning of it, in whole characters, without what a producer would refuse."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text.encode("utf-8", "replace")[:_HALF].decode("utf-8", "ignore")
