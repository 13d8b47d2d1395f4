"""Where an address really lies: the kernel's answer, not the library's."""

from __future__ import annotations


def of(address: int) -> str:
    """The memory file behind `address` and the offset in it, e.g. `memfd 1050 + 0x2a3000`.

    Two processes that get the same answer look at the same bytes of the same physical memory. Private
    memory (which a copy would lie in) has no file behind it, and gives `private memory`.
    """
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, offset, _, inode, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in addresses.split("-"))
            if start <= address < end:
                if permissions[3] != "s" or not path or not path[0].startswith("/memfd:"):
                    return "private memory"
                return f"memfd {inode} + {int(offset, 16) + address - start:#x}"
    return "no memory at all"


def dev_shm() -> list[str]:
    """What this process has mapped from /dev/shm (bips never puts anything there)."""
    with open("/proc/self/maps") as maps:
        return sorted({line.split(maxsplit=5)[5].strip() for line in maps if " /dev/shm/" in line})
