"""Runs a module with its allocations counted: `python -m benchmarks.counted LIBRARY FILE python -m MODULE …`.

The library is made from `allocations.c` by the C compiler of this machine.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("allocations.c")


def compiled(folder: Path) -> Path:
    """Compile the counter; answer the library."""
    library = folder / "allocations.so"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


def allocations_in(file: Path) -> int:
    """Answer how many there were so far."""
    return int.from_bytes(file.read_bytes(), sys.byteorder)


def main(library: str, file: str, *command: str) -> None:
    """Count, and be what the command says."""
    _, _, module, *words = command
    assert ctypes.PyDLL(library).count_into(os.fsencode(file)) == 0
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
