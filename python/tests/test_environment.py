"""environment.sh: made once, shared by runs at the same time, never taken for finished when it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("environment.sh")


class Setup:
    """The script with requirements of its own: none, so that nothing is downloaded."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "environment.sh"
        shutil.copy(SCRIPT, self.script)
        (folder / "requirements.txt").write_text("# none\n")
        self.place = folder / "test environment"
        self.variables = {**os.environ, "PYTHON": sys.executable, "NETMON_TEST_ENV": str(self.place)}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.script), *arguments],
            env={**self.variables, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_made_once_by_two_runs_at_a_time(setup: Setup) -> None:
    assert setup.run("--find") == (1, "", "")
    both = [setup.start(), setup.start()]
    answers = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [out for out, _ in answers] == [f"{setup.place}\n"] * 2
    assert "".join(err for _, err in answers).count("environment.sh: making ") == 1
    assert setup.run("--find") == (0, f"{setup.place}\n", "")
    assert setup.run() == (0, f"{setup.place}\n", "")
    # Other requirements make another environment.
    setup.script.with_name("requirements.txt").write_text("# still none\n")
    assert setup.run("--find")[0] == 1


def test_cut_short_is_made_anew(setup: Setup) -> None:
    (setup.place / "bin").mkdir(parents=True)
    (setup.place / "netmon-test-environment").touch()
    (setup.place / "half").touch()
    assert setup.run("--find")[0] == 1
    assert setup.run()[0] == 0
    assert not (setup.place / "half").exists()
    assert subprocess.run([setup.place / "bin/python", "-c", ""], check=False).returncode == 0


def test_a_folder_of_others_is_left_alone(setup: Setup) -> None:
    setup.place.mkdir()
    (setup.place / "thesis.txt").touch()
    status, out, err = setup.run()
    assert (status, out) == (1, "")
    assert "in the way" in err
    assert (setup.place / "thesis.txt").exists()


def test_too_little_room(setup: Setup, tmp_path: Path) -> None:
    df = tmp_path / "bin" / "df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted\necho none 9 9 1048576 9% /\n")
    df.chmod(0o755)
    status, out, err = setup.run(PATH=f"{df.parent}:{os.environ['PATH']}")
    assert (status, out) == (1, "")
    assert "has 1024 MiB free" in err
    assert not setup.place.exists()


def test_too_old_a_python(setup: Setup, tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\necho\n")
    old.chmod(0o755)
    status, _, err = setup.run(PYTHON=str(old))
    assert status == 1
    assert "older than Python 3.10" in err
