"""A Ray cluster on two hosts of the lab, on which OpenRLHF's PPO runs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import openrlhf_jobs as jobs
from lab import Lab
from lab.network import Host

# Without any of root's rights, as root: none to open raw sockets, to look into other users' processes, to change interfaces.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
_PORT = 6399


class Cluster:
    """Ray on both hosts, two invented GPUs each: a policy of two ranks on one, the engine on the other.

    A context manager.

    Args:
        lab: with two hosts.
        work: the home folder of all processes.
        prefix: what the second host's Ray is started with.
        variables: more of the environment.
    """

    def __init__(self, lab: Lab, work: Path, *, prefix: Sequence[str] = (), variables: dict[str, str] | None = None) -> None:
        self.one, self.two = lab.hosts
        self.folder = Path(tempfile.mkdtemp(prefix="netmon-ray"))  # its sockets' names have to be short
        self._environment = {**jobs.environment(work), "GLOO_SOCKET_IFNAME": "eth0", **(variables or {})}
        try:
            self._start(self.one, jobs.ray_start(self.one.address, _PORT, 2, self.folder))
            self._start(self.two, [*prefix, *jobs.ray_start(self.one.address, _PORT, 2, None)])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _start(self, host: Host, command: list[str]) -> None:
        host.run(*command, "--node-ip-address", host.address, env=self._environment, timeout=180)

    def run(self, log: Path, *command: str) -> str:
        """Run a driver on the first host to its end, and return what it printed.

        Raises:
            AssertionError: its exit code is not 0.
        """
        address = f"{self.one.address}:{_PORT}"
        with log.open("w") as file:
            process = self.one.start(
                *command, env={**self._environment, "RAY_ADDRESS": address}, cwd=log.parent, stdout=file, stderr=file
            )
            code = process.wait(600)
        assert code == 0, log.read_text()[-6000:]
        return log.read_text()

    def submit(self, log: Path, runtime_environment: str, *command: str) -> str:
        """The same by ``ray job submit``; the driver runs in the log's folder."""
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", f"http://{self.one.address}:8299"]
        driver = f"cd {log.parent} && exec {' '.join(command)}"
        return self.run(log, *submit, "--runtime-env-json", runtime_environment, "--", "bash", "-c", driver)

    def close(self) -> None:
        """End it."""
        # `ray stop` ends every Ray on the machine; these are the processes of this lab.
        for host in (self.one, self.two):
            for pid in host.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
