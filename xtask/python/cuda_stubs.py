"""Lets the CUDA build of PyTorch run on a machine that has no GPU, without 2 GB of CUDA libraries.

On x86-64 Linux PyPI carries only the CUDA build of torch. `import torch` needs every library that build
was linked to, yet a CPU program calls none of them. For each library that isn't installed this writes a
small stand-in with the right name, the right symbol versions, and functions that only return 1 (an error
in every one of those interfaces). Run it with the interpreter of the environment that has torch:

    python cuda_stubs.py [--check]

--check only says which libraries are missing. Exit status 0: nothing is missing (any more).
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import importlib.util
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

# Sections of an ELF file, by type.
SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
DT_NEEDED = 1
# What torch's build takes from NVIDIA's packages. Anything else that is missing is a real fault and left
# alone, and so is libcuda: the driver's own, asked for only when a GPU is used.
CUDA_LIBRARY = re.compile(r"lib(?!cuda\.so)(cu|nv|nccl)\w*\.so(\.\d+)*$")


@dataclasses.dataclass
class Library:
    """What the dynamic linker would ask of one shared object."""

    needed: list[str]
    defined: set[str]
    # Library name -> version -> symbols it must define.
    versioned: dict[str, dict[str, set[str]]]
    # Asked for without a version: any library that is loaded may answer.
    unversioned: set[str]


def text(data: mmap.mmap, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode()


def read(path: pathlib.Path) -> Library:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        table, size, count = *struct.unpack_from("<Q", data, 0x28), *struct.unpack_from("<HH", data, 0x3A)
        headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * i) for i in range(count)]
        by_type = {header[1]: header for header in headers}

        def section(kind: int) -> tuple[int, int, int]:
            """Offset, length and the offset of the string table of the one section of this type."""
            header = by_type.get(kind)
            return (0, 0, 0) if header is None else (header[4], header[5], headers[header[6]][4])

        at, length, strings = section(SHT_DYNAMIC)
        entries = struct.iter_unpack("<QQ", data[at : at + length])
        needed = [text(data, strings + value) for tag, value in entries if tag == DT_NEEDED]

        versions: dict[int, tuple[str, str]] = {}
        at, length, strings = section(SHT_VERNEED)
        while length:
            _, auxes, file_name, aux, following = struct.unpack_from("<HHIII", data, at)
            aux += at
            for _ in range(auxes):
                _, _, index, name, next_aux = struct.unpack_from("<IHHII", data, aux)
                versions[index] = (text(data, strings + file_name), text(data, strings + name))
                aux += next_aux
            if not following:
                break
            at += following

        at, length, _ = section(SHT_VERSYM)
        indices = [index for (index,) in struct.iter_unpack("<H", data[at : at + length])]
        at, length, strings = section(SHT_DYNSYM)
        found = Library(needed, set(), {}, set())
        for i, symbol in enumerate(struct.iter_unpack("<IBBHQQ", data[at : at + length])):
            name, info, _, where, _, _ = symbol
            if not name:
                continue
            version = versions.get(indices[i] & 0x7FFF) if indices else None
            if where != 0:
                found.defined.add(text(data, strings + name))
            elif version is not None:
                library, tag = version
                found.versioned.setdefault(library, {}).setdefault(tag, set()).add(text(data, strings + name))
            elif info >> 4 == 1:  # global; a weak one may stay undefined
                found.unversioned.add(text(data, strings + name))
        return found


def site_packages() -> pathlib.Path:
    # find_spec looks without importing: the import is what fails at this point.
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit(f"torch isn't installed in {sys.prefix}")
    return pathlib.Path(spec.origin).parent.parent


def survey(packages: pathlib.Path) -> dict[str, dict[str, set[str]]]:
    """The missing libraries and the symbols each owes, by version ("" for those without one)."""
    torch = packages / "torch"
    own = [*torch.glob("lib/*.so*"), *torch.glob("_C*.so")]
    theirs = [*packages.glob("nvidia/*/lib/*.so*")]
    asking, answering = [read(path) for path in own], [read(path) for path in theirs]
    present = {path.name for path in [*own, *theirs]}
    # Who answers for a symbol without a version isn't written down. The interpreter and the C library
    # answer for their own (dlsym finds those), and so do the libraries that are there; what is left can
    # only have been meant for one of the missing ones.
    defined = set().union(*(library.defined for library in [*asking, *answering]))
    process = ctypes.CDLL(None)
    missing: dict[str, dict[str, set[str]]] = {}
    for library in asking:
        lacks = [name for name in library.needed if name not in present and CUDA_LIBRARY.match(name)]
        for name in lacks:
            versions = missing.setdefault(name, {})
            for tag, symbols in library.versioned.get(name, {}).items():
                versions.setdefault(tag, set()).update(symbols)
        if lacks:
            # Which of them has it is all one to the linker, as long as this library has it loaded.
            left = {name for name in library.unversioned - defined if not hasattr(process, name)}
            missing[lacks[0]].setdefault("", set()).update(left)
    return missing


def compiler() -> str:
    for candidate in [os.environ.get("CC", ""), "cc", "gcc", "clang"]:
        if candidate and shutil.which(candidate):
            return candidate
    sys.exit("no C compiler found (Rust needs one to link, too): apt-get install gcc")


def write(into: pathlib.Path, name: str, versions: dict[str, set[str]], cc: str) -> None:
    lines = ["static int stand_in(void) { return 1; }", "int bips_stand_in(void) { return stand_in(); }"]
    for symbol in sorted(set().union(*versions.values())):
        lines.append(f'extern int {symbol}(void) __attribute__((alias("stand_in")));')
    script = [
        f"{tag} {{ global: {' '.join(f'{symbol};' for symbol in sorted(owed))} }};"
        for tag, owed in sorted(versions.items())
        if tag
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, versions_file = pathlib.Path(folder, "stub.c"), pathlib.Path(folder, "stub.map")
        source.write_text("\n".join(lines) + "\n")
        versions_file.write_text("\n".join(script) + "\n")
        # Written beside the goal and renamed: an interrupted run must not leave half a library.
        part = into / f".{name}.part"
        command = [cc, "-shared", "-fPIC", "-nostdlib", "-w", "-fno-builtin", f"-Wl,-soname,{name}"]
        command += [f"-Wl,--version-script={versions_file}"] if script else []
        command += ["-o", str(part), str(source)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            sys.exit(f"{cc} could not build a stand-in for {name}:\n{built.stderr[-2000:]}")
        part.rename(into / name)


def main() -> None:
    arguments = argparse.ArgumentParser(description="stand-ins for the CUDA libraries of torch")
    arguments.add_argument("--check", action="store_true", help="only say what is missing")
    options = arguments.parse_args()
    packages = site_packages()
    missing = survey(packages)
    if options.check or not missing:
        print("missing: " + (", ".join(sorted(missing)) or "none"))
        sys.exit(1 if missing else 0)
    # torch looks in this folder (its RPATH), and nvidia-cuda-runtime has made it.
    folders = sorted({path.parent for path in packages.glob("nvidia/*/lib/libcudart.so*")})
    if not folders:
        sys.exit("libcudart.so isn't there: pip install nvidia-cuda-runtime (the version torch was built with)")
    cc = compiler()
    for name, versions in sorted(missing.items()):
        write(folders[0], name, versions, cc)
    total = sum(len(owed) for versions in missing.values() for owed in versions.values())
    print(f"wrote {len(missing)} libraries with {total} symbols into {folders[0]}")


if __name__ == "__main__":
    main()
