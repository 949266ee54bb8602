"""What a lab leaves in the system outside its process, and how it goes away whatever happens.

Everything is named by a tag, ``netmon-PID-START-NUMBER``, of the process that made it and when that one started: namespaces
(/run/netns/TAG-ROLE), the DNS views of hosts (/etc/netns/TAG-ROLE) and claims on a setting of the initial namespace. So no
list has to be kept, and what belongs to a dead process can be told from what belongs to a living one.

Run as a program (``leftovers.py TAG``) it is the guardian of one lab: it removes everything of the tag as soon as its standard
input says so or ends, or the process that the tag names is dead, by SIGKILL too. That is the only way in which a lab is taken
down, so each use tests it. It needs nothing but the standard library and imports no other module of the lab.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NAMESPACES = Path("/run/netns")
VIEWS = Path("/etc/netns")
_TAG = re.compile(r"netmon-(\d+)-(\d+)-\d+")
_numbers = itertools.count()


class LabError(Exception):
    """The kernel, or the rights of this user, do not allow what a lab needs; the text is what the system said."""


def run(*command: str, given: str | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        LabError: it is not installed, failed or took 30 s.
    """
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        package = {"ip": "iproute2", "tc": "iproute2", "bridge": "iproute2", "nft": "nftables"}.get(command[0], command[0])
        raise LabError(f"there is no {command[0]} command: install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: no end after 30 s") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did; None if it is no more (a zombie is no more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def new_tag() -> str:
    """Return a tag that names this process."""
    return f"netmon-{os.getpid()}-{_started(os.getpid())}-{next(_numbers)}"


def tag_of(name: str) -> str | None:
    """Return the tag in the name of a namespace, None if it is no lab's."""
    match = _TAG.match(name)
    return match[0] if match else None


def owner(tag: str) -> tuple[int, int]:
    """Return the process that a tag names, and when it started."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag!r} is no tag of a lab")
    return int(match[1]), int(match[2])


def owner_lives(tag: str) -> bool:
    """Return whether the process that a tag names still runs."""
    pid, started = owner(tag)
    return _started(pid) == started


def tags() -> set[str]:
    """Return the tags of all that is there, of living and of dead processes."""
    found = {tag_of(name) for folder in (NAMESPACES, VIEWS) if folder.is_dir() for name in os.listdir(folder)}
    with _claims(make=False) as claims:
        found.update(claims)
    return {tag for tag in found if tag and _TAG.fullmatch(tag)}


def namespaces_of(tag: str) -> list[str]:
    """Return the names of the namespaces of a lab."""
    return sorted(name for name in os.listdir(NAMESPACES) if tag_of(name) == tag) if NAMESPACES.is_dir() else []


def processes_in(*namespaces: str) -> dict[int, str]:
    """Return the processes that are in one of the namespaces or about to enter it, each with its name; never this one.

    A process with several threads is where its first one is.
    """
    identities = {}
    for name in namespaces:
        with contextlib.suppress(OSError):
            identities[(NAMESPACES / name).stat().st_ino] = name
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                inode = os.stat(f"/proc/{entry}/ns/net").st_ino
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                entering = words[3].decode() if words[:3] == [b"ip", b"netns", b"exec"] else ""
                if inode in identities:
                    found[int(entry)] = identities[inode]
                elif entering in namespaces:
                    found[int(entry)] = entering
    return found


def make_view(namespace: str) -> Path:
    """Make the folder of a namespace's DNS view, if it is not there, and return it."""
    folder = VIEWS / namespace
    while True:
        with contextlib.suppress(FileNotFoundError):  # another lab may just take the empty folder above it away
            folder.mkdir(parents=True, exist_ok=True)
            return folder


def remove(tag: str) -> None:
    """Remove all that has a tag: processes, namespaces, DNS views, claims.

    Raises:
        LabError: something would not go.
    """
    names = namespaces_of(tag)
    deadline = time.monotonic() + 10
    while running := processes_in(*names):
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes that cannot be killed: {running}")
        time.sleep(0.001)
    for name in names:
        try:
            run("ip", "netns", "del", name)
        except LabError:
            if (NAMESPACES / name).exists():  # else another one, as `lab clean`, was faster
                raise
    if VIEWS.is_dir():
        for name in os.listdir(VIEWS):
            if tag_of(name) == tag:
                shutil.rmtree(VIEWS / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            VIEWS.rmdir()  # while another needs it, it is not empty
    release_congestion_control(tag)


# Which congestion control a namespace may use without privileges is one setting of the whole system, read-only but in the
# initial namespace. Labs that need one more of them add it together, and the last one to go takes it away again.

_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_CLAIMS = Path("/run/netmon-lab-congestion-control")


@contextlib.contextmanager
def _claims(*, make: bool = True) -> Iterator[dict[str, list[str]]]:
    """Give, locked, which tag claims what, and what was added to the system's setting under "added"; keep what is changed."""
    while True:
        try:
            file = _CLAIMS.open("a+" if make else "r+", encoding="ascii")
        except (FileNotFoundError, PermissionError):
            if make:
                raise
            yield {}
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # the one before took it away
            file.seek(0)
            claims: dict[str, list[str]] = json.loads(file.read() or "{}")
            before = json.dumps(claims)
            try:
                yield claims
            finally:
                if not claims:
                    _CLAIMS.unlink()
                elif json.dumps(claims) != before:
                    file.seek(0)
                    file.truncate()
                    file.write(json.dumps(claims))
                    file.flush()
            return


def claim_congestion_control(tag: str, name: str) -> None:
    """Have the system allow a congestion control in namespaces until the tag's claim is released.

    Raises:
        LabError: the kernel has it not, or this process is not privileged or not in the initial network namespace.
    """
    if not os.access(_CLAIMS.parent, os.W_OK):
        raise LabError(f"{name} cannot be allowed in namespaces: no right to write in {_CLAIMS.parent}")
    with _claims() as claims:
        allowed = _ALLOWED.read_text().split()
        if name not in allowed:
            try:
                _ALLOWED.write_text(" ".join([*allowed, name]))
            except OSError as error:
                raise LabError(f"{name} cannot be allowed in namespaces: {_ALLOWED}: {error.strerror}") from error
            claims["added"] = [*claims.get("added", []), name]
        if name in claims.get("added", []):
            claims[tag] = [*claims.get(tag, []), name]


def release_congestion_control(tag: str) -> None:
    """Give up the claims of a tag, and take back what nobody alive claims any more."""
    with _claims(make=False) as claims:
        claims.pop(tag, None)
        for other in list(claims):
            if other != "added" and not owner_lives(other):
                del claims[other]
        wanted = {name for other, names in claims.items() if other != "added" for name in names}
        unwanted = set(claims.get("added", [])) - wanted
        if unwanted:
            _ALLOWED.write_text(" ".join(name for name in _ALLOWED.read_text().split() if name not in unwanted))
        kept = [name for name in claims.pop("added", []) if name in wanted]
        if kept:
            claims["added"] = kept


class Guardian:
    """The process that takes a lab down when it is told to, or when this process is no more."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, tag],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # out of reach of Ctrl-C
            cwd="/",
        )

    def dismiss(self) -> None:
        """Have everything removed, and wait for it; a second call does nothing.

        Raises:
            LabError: something would not go.
        """
        if self._process.returncode is not None or owner(self.tag)[0] != os.getpid():
            return  # done, or this is a forked child
        # A word and not the end of the pipe: a forked child may hold it open.
        said = self._process.communicate(b"end\n")[1]
        if self._process.returncode:
            remove(self.tag)  # says what is wrong, if it still is
            raise LabError(f"the guardian of {self.tag} failed: {said.decode(errors='replace').strip()}")


def _guard(tag: str) -> None:
    watched = select.poll()
    watched.register(sys.stdin, select.POLLIN)  # a word, or the end
    try:
        alive = os.pidfd_open(owner(tag)[0])
    except ProcessLookupError:
        pass
    else:
        watched.register(alive, select.POLLIN)
        if owner_lives(tag):
            watched.poll()
    remove(tag)
    if not owner_lives(tag):
        time.sleep(0.5)  # a command that it had started may have been about to make something
        remove(tag)


if __name__ == "__main__":
    _guard(sys.argv[1])
