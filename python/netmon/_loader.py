"""Finding and loading libnetmon.so, once a process, on first use."""

from __future__ import annotations

import _thread
import ctypes
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

from . import _abi
from ._errors import LibraryError, ResourceError

_NATIVE = Path(__file__).resolve().parent / "_native"

# What the Go runtime needs to start. It ends the process where it does not get it, so that is tried first.
_NEEDED_ADDRESS_SPACE_BYTES = 2048 << 20
_NEEDED_THREADS = 8


class Library:
    """The functions of the library.

    Those that never block keep the interpreter lock (PyDLL): giving it up would cost up to a switch interval to get it back.
    All others release it (CDLL).
    """

    def __init__(self, path: str) -> None:
        try:
            releasing = ctypes.CDLL(path)
            holding = ctypes.PyDLL(path)
        except OSError as error:
            raise LibraryError(f"{path} cannot be loaded: {error}") from error
        self.path = path
        try:
            version = _prototype(holding, "netmon_abi_version")()
        except AttributeError as error:
            raise LibraryError(f"{path} is not netmon's library: {error}") from error
        if version != _abi.ABI_VERSION:
            raise LibraryError(
                f"{path} has ABI version {version}, but this package needs {_abi.ABI_VERSION}; "
                "install package and library from the same release"
            )
        try:
            self.version = _prototype(holding, "netmon_version")
            self.latest = _prototype(holding, "netmon_latest")
            self.free = _prototype(holding, "netmon_free")
            self.init = _prototype(releasing, "netmon_init")
            self.close = _prototype(releasing, "netmon_close")
            self.set_job = _prototype(releasing, "netmon_set_job")
            self.sample = _prototype(releasing, "netmon_sample")
            self.query = _prototype(releasing, "netmon_query")
            self.probe = _prototype(releasing, "netmon_probe")
            self.bandwidth = _prototype(releasing, "netmon_bandwidth")
            self.collective_group = _prototype(releasing, "netmon_collective_group")
            self.collectives_record = _prototype(holding, "netmon_collectives_record")
            self.digest = _prototype(releasing, "netmon_digest")
            self.aggregate = _prototype(releasing, "netmon_aggregate")
            self.collective_pending = _prototype(holding, "netmon_collective_pending")
        except AttributeError as error:
            raise LibraryError(
                f"{path} is older than this package: {error}; install package and library from the same release"
            ) from error


def _prototype(library: ctypes.CDLL, name: str) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = _abi.PROTOTYPES[name]
    return function


def get_library() -> str:
    """Return the path of libnetmon.so, for programs that link with it or load it themselves.

    ``NETMON_LIBRARY`` in the environment names another one.

    Raises:
        LibraryError: there is none.
    """
    path = os.environ.get("NETMON_LIBRARY") or str(_NATIVE / "lib" / "libnetmon.so")
    if not os.path.isfile(path):
        raise LibraryError(f"there is no library at {path}; build it with ./build.sh, or install the wheel of libnetmon")
    return path


def package_version() -> str:
    """Return the version of this package, which is that of the header it brings, or was made from."""
    for folder in (_NATIVE / "include", _NATIVE.parents[2] / "include"):
        try:
            text = (folder / "netmon.h").read_text(encoding="utf-8")
        except OSError:
            continue
        found = re.search(r'^#define NETMON_VERSION "(.*)"$', text, re.MULTILINE)
        if found:
            return found[1]
    return "0+unknown"


def get_include() -> str:
    """Return the folder of netmon.h and netmon.hpp."""
    return str(_NATIVE / "include")


def get_cmake_dir() -> str:
    """Return the folder to append to CMAKE_PREFIX_PATH so that find_package(netmon) works."""
    return str(_NATIVE / "lib" / "cmake" / "netmon")


def get_pkgconfig_dir() -> str:
    """Return the folder to append to PKG_CONFIG_PATH so that ``pkg-config netmon`` works."""
    return str(_NATIVE / "lib" / "pkgconfig")


_library: Library | None = None


def load() -> Library:
    """Load the library, or return it where that happened before.

    Two threads may both load it the first time; they get the same library then, and no lock can be left behind by a fork.

    Raises:
        LibraryError: it cannot be found, loaded or used here.
        ResourceError: limits of this process leave too little for it.
    """
    global _library
    if _library is None:
        _check_system()
        path = get_library()
        _check_address_space()
        _check_threads()
        _library = Library(path)
    return _library


def _check_system() -> None:
    if sys.platform != "linux":
        raise LibraryError(f"the library measures Linux; on {sys.platform} it is not built")
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        glibc = None
    if not glibc:
        raise LibraryError("the library needs glibc 2.28 or newer; this system has another C library (musl?)")


def _check_address_space() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        used = 0
    if limit - used < _NEEDED_ADDRESS_SPACE_BYTES:
        raise ResourceError(
            f"the address space limit (ulimit -v {limit // 1024}) leaves {max(0, limit - used) >> 20} MiB; "
            f"the library needs {_NEEDED_ADDRESS_SPACE_BYTES >> 20}"
        )


def _check_threads() -> None:
    gate = _thread.allocate_lock()
    done = [_thread.allocate_lock() for _ in range(_NEEDED_THREADS)]

    def pass_gate(mine: _thread.LockType) -> None:
        with gate:
            pass
        mine.release()

    started = 0
    with gate:
        for lock in done:
            lock.acquire()
            try:
                _thread.start_new_thread(pass_gate, (lock,))
            except RuntimeError:
                break
            started += 1
    for lock in done[:started]:
        lock.acquire()
    if started < _NEEDED_THREADS:
        raise ResourceError(
            f"only {started} threads can be started (ulimit -u, or the container's limit of processes); "
            f"the library needs {_NEEDED_THREADS}"
        )
