"""The C half of the bench, compiled on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent
_ROOT = _SOURCES.parents[1]
BUILD = _ROOT / "build" / "bench"

# The files that netmon samples, and the one that holds the interfaces.
FILES = ("dev", "snmp", "netstat", "sockstat", "snmp6")
INTERFACES_FILE = "dev"


def build() -> None:
    """Compile the reader and the library of functions where they are older than their sources.

    Raises:
        RuntimeError: there is no C compiler.
        subprocess.CalledProcessError: it fails.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("no C compiler found: install gcc")
    BUILD.mkdir(parents=True, exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{_ROOT / 'include'}"]
    for source, output, kind in (
        ("reader.c", reader(), []),
        ("calls.c", calls_library(), ["-shared", "-fPIC"]),
    ):
        if not output.exists() or output.stat().st_mtime < (_SOURCES / source).stat().st_mtime:
            subprocess.run([*compiler.split(), *flags, *kind, "-o", str(output), str(_SOURCES / source)], check=True)


def reader() -> Path:
    """Return the path of the program that only reads."""
    return BUILD / "reader"


def calls_library() -> Path:
    """Return the path of the library of functions that time from C."""
    return BUILD / "libcalls.so"
