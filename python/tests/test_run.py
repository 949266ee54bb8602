"""netmon run: the command is what it would be without, and what trains below it has a monitor."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from netmon import _imports, _run, _shared, _training
from netmon._options import VARIABLE, RunOptions
from netmon.integrations import ray

TESTS = Path(__file__).parent
SITE = TESTS.parent / "netmon" / "_site"
RUN = [sys.executable, "-m", "netmon", "run"]


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=180, check=False, **options)


def same(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command alone and below netmon run, which must make no difference, and return what it printed."""
    alone = run(*command, env=env)
    # netmon run itself is a Python process, in which a sitecustomize of the user's runs too: here it gets theirs only below.
    folders = [str(SITE), (env or os.environ)["PYTHONPATH"]]
    below = run(*RUN, "--", "env", f"PYTHONPATH={os.pathsep.join(folders)}", *command)
    assert (below.returncode, below.stdout, below.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    return alone.stdout


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


# The command


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(code):
    assert run(*RUN, "--", "sh", "-c", f"exit {code}").returncode == code


def test_signals_reach_the_command():
    command = python("import os, signal, sys; print(os.getpid(), flush=True); signal.pause()")
    for number, want in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -9)):
        process = subprocess.Popen([*RUN, "--", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid, "it is the same process"
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == want


def test_the_commands_signals_are_as_without():
    assert "SigIgn:" in same("grep", "SigIgn", "/proc/self/status")


def test_signals_that_are_ignored():
    """Python changes two of them before netmon can look; docs/run.md says so, and what to do."""
    ignored = {signal.SIGPIPE, signal.SIGHUP, signal.SIGXFSZ, signal.SIGTERM}

    def of(*command: str) -> set[int]:
        line = run("sh", "-c", "trap '' PIPE HUP XFSZ TERM; \"$@\"; :", "sh", *command).stdout
        return {number for number in ignored if int(line.split()[1], 16) & 1 << (number - 1)}

    look = ("grep", "SigIgn", "/proc/self/status")
    assert of(*look) == ignored
    assert of(*RUN, "--", *look) == {signal.SIGHUP, signal.SIGTERM}
    assert of(*RUN, "--", "sh", "-c", "trap '' PIPE; exec \"$@\"", "sh", *look) == {
        signal.SIGPIPE,
        signal.SIGHUP,
        signal.SIGTERM,
    }


def test_arguments_and_descriptors_are_as_without():
    assert same(
        *python("import os, sys; print(sys.argv, sorted(os.listdir('/proc/self/fd')))"), "--", "-x", "a b", "", "--", "é"
    )
    assert run(*RUN, "printf", "%s|", "a", "--", "b").stdout == "a|--|b|", "without a separator"
    assert run(*RUN, "--interval", "2", "--", "printf", "%s|", "--", "b").stdout == "--|b|"


@pytest.mark.parametrize(
    ("arguments", "interfaces"),
    [
        (["--interfaces", "lo"], ["lo"]),
        (["--interfaces", "eth*,!docker*", "--targets", "a,b"], ["eth*", "!docker*"]),
        (["--interfaces=lo,eth0", "--nodes"], ["lo", "eth0"]),
        (["--interfaces", "eth*", "!docker*", "--"], ["eth*", "!docker*"]),
        (["--interfaces", "eth*,lo", "!docker*", "--targets", "a", "b", "--"], ["eth*", "lo", "!docker*"]),
    ],
)
def test_a_list_ends_where_the_command_begins(arguments, interfaces):
    done = run(*RUN, *arguments, *python(f"import os; print(os.environ[{VARIABLE!r}])"))
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["interfaces"] == interfaces
    assert said.get("targets") == (["a", "b"] if "--targets" in arguments else None)


def test_the_environment_is_as_without_but_for_ours():
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    alone, below = (json.loads(run(*prefix, *python(code)).stdout) for prefix in ((), (*RUN, "--")))
    assert below.pop("PYTHONPATH") == os.pathsep.join([str(SITE), alone.pop("PYTHONPATH")])
    assert (below.pop(VARIABLE), below.pop("PYTHON_NETMON_RUN")) == ("{}", "e30=")
    assert below == alone


def test_what_is_set_already_is_kept():
    options = RunOptions(interval=0.5, nodes=True)
    before = {"PYTHONPATH": "/a::/b", "X": "1"}
    once = _run.environment(options, before)
    assert once == {
        "PYTHONPATH": f"{SITE}:/a::/b",
        VARIABLE: '{"interval": 0.5, "nodes": true}',
        "PYTHON_NETMON_RUN": once["PYTHON_NETMON_RUN"],
        "X": "1",
    }
    assert _run.environment(options, once) == once, "netmon run -- netmon run -- ..."
    assert RunOptions.from_environment(once) == options
    assert _run.environment(options, {})["PYTHONPATH"] == str(SITE), "no empty folder, which would be the current one"


def test_options_reach_the_other_nodes_of_deepspeed():
    """It hands on what begins with PYTHON, and does not quote it: ``export NAME=VALUE; ...`` is what their shells get."""
    options = RunOptions(interfaces=["eth*", "!docker*"], cluster=False, targets=["$(false) 'x'"])
    below = _run.environment(options, {"HOME": "/root"})
    exports = "".join(f"export {name}={value}; " for name, value in below.items() if name.startswith("PYTHON"))
    done = run("env", "-i", "sh", "-c", f"{exports} exec {sys.executable} -c 'import os; print(dict(os.environ))'")
    assert done.stderr == ""
    there = ast.literal_eval(done.stdout)
    assert VARIABLE not in there
    assert RunOptions.from_environment(there) == options
    assert RunOptions.from_environment({}) == RunOptions()


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["no-such-command", "x"], 127, "netmon run: no-such-command: command not found\n"),
        (["/no/such/command"], 127, "netmon run: /no/such/command: No such file or directory\n"),
        (["/etc/passwd"], 126, "netmon run: /etc/passwd: Permission denied\n"),
        (["/etc"], 126, "netmon run: /etc: Permission denied\n"),
    ],
)
def test_a_command_that_cannot_be_run(command, code, says):
    done = run(*RUN, "--", *command)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", says)
    assert run("sh", "-c", '"$0"', *command).returncode == code, "as of a shell"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no command is given"),
        (["--"], "no command is given"),
        (["--interval", "0", "--", "true"], "--interval is 0; it must be from 0.01 to 3600"),
        (["--cluster-interval", "nan", "--", "true"], "--cluster-interval is nan; it must be from 0.1 to 3600"),
        (["--no-such-option", "--", "true"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_bad_options(arguments, says):
    done = run(*RUN, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "usage: netmon run [options] -- COMMAND" in done.stderr


# Python processes that do not train


def test_a_process_that_imports_nothing():
    """It has the waiting, which is one file, and nothing else: no package, no library, no thread, no folder more."""
    code = (
        "import sys, os; print(*sorted(sys.modules)); print(*sys.path, sep='|'); print(len(os.listdir('/proc/self/task')));"
        "print('libnetmon' in open('/proc/self/maps').read(), type(__loader__), sys.flags)"
    )
    alone, below = (run(*prefix, *python(code)).stdout.splitlines() for prefix in ((), (*RUN, "--")))
    more = set(below[0].split()) - set(alone[0].split())
    assert more == {"__future__", "netmon._imports", "sitecustomize"}
    assert below[1:] == alone[1:]
    assert below[2] == "1"


def test_isolated_python_is_left_alone():
    assert "netmon" not in run(*RUN, "--", sys.executable, "-I", "-c", "import sys; print(*sys.modules)").stdout


@pytest.fixture
def theirs(tmp_path: Path) -> dict[str, str]:
    """An environment with a sitecustomize of the user's."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nname = 'theirs'\nsys.told = getattr(sys, 'told', 0) + 1\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}


def test_a_sitecustomize_of_the_users_works_on(theirs):
    code = "import sys, sitecustomize as s; print(s.name, s.__file__, s.__spec__.origin, sys.told, sys.path)"
    assert same(*python(code), env=theirs).startswith("theirs ")


def test_one_that_fails_is_told_as_without(theirs, tmp_path):
    for failure in ("raise ValueError('theirs')", "import no_such_module", "def"):
        (tmp_path / "sitecustomize.py").write_text(f"{failure}\n")
        same(*python("print('on')"), env=theirs)


def test_another_tracer_that_makes_way_too(theirs, tmp_path):
    """As ddtrace-run does it: each runs once, in whichever order they are wrapped."""
    tracer = tmp_path / "tracer"
    tracer.mkdir()
    (tracer / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.traced = getattr(sys, 'traced', 0) + 1\n"
        "here = os.path.dirname(os.path.abspath(__file__))\n"
        "place = sys.path.index(here)\n"
        "del sys.path[place]\n"
        "mine = sys.modules.pop('sitecustomize')\n"
        "try:\n    import sitecustomize\nexcept ImportError:\n    sys.modules['sitecustomize'] = mine\n"
        "finally:\n    sys.path.insert(place, here)\n"
    )
    code = "import sys; print(sys.traced, sys.told, 'netmon._imports' in sys.modules)"
    for order in ([SITE, tracer], [tracer, SITE]):
        environment = {**theirs, "PYTHONPATH": os.pathsep.join([*map(str, order), theirs["PYTHONPATH"]])}
        done = run(*python(code), env=environment)
        assert (done.stdout, done.stderr) == ("1 1 True\n", "")


def test_a_python_that_netmon_does_not_know_is_left_alone(monkeypatch):
    code = (SITE / "sitecustomize.py").read_text()
    function = code[code.index("def _wait_for_training") : code.index("def _make_way")]
    names: dict[str, Any] = {"os": os, "sys": type("sys", (), {"version_info": (3, 9)})}
    exec(function, names)
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "netmon.integrations.ray.runtime_env_hook")
    names["_wait_for_training"]()
    assert "RAY_RUNTIME_ENV_HOOK" not in os.environ
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "netmon.integrations.ray.runtime_env_hook")
    monkeypatch.setenv("NETMON_RAY_RUNTIME_ENV_HOOK", "theirs.hook")
    names["_wait_for_training"]()
    assert os.environ["RAY_RUNTIME_ENV_HOOK"] == "theirs.hook"


# Waiting for modules


@pytest.fixture
def finder(monkeypatch) -> Iterator[_imports._Finder]:
    """The waiting, installed as in a job; what it did to this process is undone."""
    before = list(sys.meta_path)
    monkeypatch.setattr(_imports, "_warned", set())
    yield _imports._finder
    sys.meta_path[:] = before


def module_of(tmp_path: Path, name: str, code: str) -> None:
    path = tmp_path.joinpath(*name.split("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in path.relative_to(tmp_path).parents:
        (tmp_path / parent / "__init__.py").touch()
    path.with_suffix(".py").write_text(code)


def test_a_module_is_seen_when_it_is_loaded(finder, tmp_path, monkeypatch):
    module_of(
        tmp_path,
        "netmon_test_trainer",
        "before = __loader__, __spec__.loader\nclass Trainer:\n    def train(self, x):\n        return x\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(_imports._BEFORE, "netmon_test_trainer", ("Trainer.train", "training_begins"))
    begun = []
    monkeypatch.setattr(_imports, "_train", lambda entry, *_: begun.append(entry))
    _imports.install()
    _imports.install()
    assert sys.meta_path.count(finder) == 1
    trainer = importlib.import_module("netmon_test_trainer")
    try:
        assert {type(loader).__name__ for loader in (*trainer.before, trainer.__loader__, trainer.__spec__.loader)} == {
            "SourceFileLoader"
        }
        assert begun == []
        assert trainer.Trainer().train(3) == 3
        assert begun == ["training_begins"]
        _imports._loaded(trainer)
        importlib.reload(trainer).Trainer().train(4)
        assert begun == ["training_begins"] * 2, "wrapped once, and again after a reload"
    finally:
        del sys.modules["netmon_test_trainer"]


def test_what_stands_in_for_a_loader_can_be_copied(finder, monkeypatch):
    """As by tools that look for modules and keep what they find."""
    monkeypatch.setitem(_imports._AFTER, "colorsys", ("rgb_to_hls", "process_group_made"))
    _imports.install()
    spec = finder.find_spec("colorsys")
    assert type(spec.loader) is _imports._Loader
    for copied in (copy.copy(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert copied.loader.path == spec.loader.path


def test_a_hook_never_raises(finder, monkeypatch, caplog):
    def fail(entry: str, *arguments: object) -> None:
        raise RuntimeError(f"{entry} does not work")

    monkeypatch.setattr(_imports, "_train", fail)
    monkeypatch.setitem(_imports._AFTER, "colorsys", ("rgb_to_hls", "process_group_made"))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    _imports.install()
    colorsys = importlib.import_module("colorsys")
    assert colorsys.rgb_to_hls(0, 0, 0) == (0.0, 0.0, 0.0)
    assert colorsys.rgb_to_hls(0, 0, 0) == (0.0, 0.0, 0.0)
    (record,) = caplog.records
    assert record.getMessage() == (
        "netmon is not attached: RuntimeError: process_group_made does not work; the training goes on without it"
    )
    monkeypatch.delitem(sys.modules, "colorsys")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "SLURM_LOCALID": "3"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_LOCALID": "1"}, False),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "2"}, False),
        ({"MPI_LOCALRANKID": "1", "SLURM_LOCALID": "0"}, False),
    ],
)
def test_a_warning_is_that_of_the_first_rank_of_a_node(finder, monkeypatch, caplog, variables, says):
    for name in _imports._LOCAL_RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _imports.warn("told")
    assert [record.getMessage() for record in caplog.records] == ["told"] * says


def test_what_is_to_be_wrapped_is_gone(finder, monkeypatch, caplog):
    monkeypatch.setitem(_imports._AFTER, "colorsys", ("no_such_function", "process_group_made"))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    _imports.install()
    importlib.import_module("colorsys")
    assert "no attribute 'no_such_function'" in caplog.text
    monkeypatch.delitem(sys.modules, "colorsys")


# Ray's hooks; the real one is in integrations/


def test_ray_hook_adds_itself(finder, monkeypatch):
    monkeypatch.setenv(VARIABLE, '{"interval": 2}')
    theirs = {"env_vars": {"NCCL_DEBUG": "WARN"}, "working_dir": "."}
    ours = ray.runtime_env_hook(theirs)
    assert callable(ours.pop("worker_process_setup_hook"))
    assert ours == {"env_vars": {"NCCL_DEBUG": "WARN", VARIABLE: '{"interval": 2}'}, "working_dir": "."}
    assert theirs == {"env_vars": {"NCCL_DEBUG": "WARN"}, "working_dir": "."}, "it is left as it was"
    monkeypatch.delenv(VARIABLE)
    assert list(ray.runtime_env_hook(None)) == ["worker_process_setup_hook"]


@pytest.mark.parametrize("name", ["image_uri", "container"])
def test_ray_hook_beside_a_container(finder, caplog, name):
    """Ray raises out of ray.init where there is anything else."""
    theirs = {name: {"image": "x"}, "env_vars": {"A": "1"}}
    assert ray.runtime_env_hook(theirs) is theirs
    assert ray.runtime_env_hook(theirs) is theirs
    (record,) = caplog.records
    assert record.getMessage() == (
        f"netmon is not attached to Ray's workers: Ray takes no worker_process_setup_hook beside {name}"
    )


def test_ray_hook_gives_back_what_ray_takes(finder, monkeypatch, caplog):
    class RuntimeEnv(dict):
        def __init__(self, **fields: Any) -> None:
            if "worker_process_setup_hook" in fields:
                raise ValueError("a later Ray has no such field")

    monkeypatch.setitem(sys.modules, "ray.runtime_env", type("m", (), {"RuntimeEnv": RuntimeEnv}))
    theirs = {"pip": ["x"]}
    assert ray.runtime_env_hook(theirs) is theirs
    assert "netmon is not attached to Ray's workers: ValueError: a later Ray has no such field" in caplog.text


@pytest.fixture
def fake_ray(tmp_path: Path) -> dict[str, str]:
    """An environment with a Ray whose init asks the hook, as Ray does it, and with a hook of the user's."""
    (tmp_path / "ray.py").write_text(
        "import importlib, os\n"
        "def init(runtime_env):\n"
        "    module, _, name = os.environ.get('RAY_RUNTIME_ENV_HOOK', 'theirs.none').rpartition('.')\n"
        "    return getattr(importlib.import_module(module), name)(runtime_env)\n"
    )
    (tmp_path / "theirs.py").write_text("def none(env): return env\ndef hook(env): return {**env, 'pip': ['x']}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}


INIT = "import ray; print(*ray.init({'conda': 'c'}))"


def test_ray_asks_the_hook_below_netmon_run(fake_ray):
    assert run(*RUN, "--", *python(INIT), env=fake_ray).stdout == "conda worker_process_setup_hook env_vars\n"
    theirs = {**fake_ray, "RAY_RUNTIME_ENV_HOOK": "theirs.hook"}
    below = [
        *RUN,
        "--",
        *RUN,
        "--",
        *python(f"import subprocess, sys; {INIT}; subprocess.run([sys.executable, '-c', sys.argv[1]])"),
    ]
    assert run(*below, INIT, env=theirs).stdout == "conda pip worker_process_setup_hook env_vars\n" * 2, "a child's too"


def test_a_driver_that_does_not_find_netmon_is_left_alone(fake_ray, theirs, tmp_path):
    """Ray ends a driver whose hook it cannot import."""
    isolated = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {INIT}"
    launcher = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)"
    for command in (
        [sys.executable, "-I", "-c", isolated],
        [sys.executable, "-c", launcher, "-I", "-c", isolated],
        ["env", f"PYTHONPATH={tmp_path}", sys.executable, "-c", INIT],  # with another sitecustomize
    ):
        done = run(*RUN, "--", *command, env=fake_ray)
        assert (done.returncode, done.stdout, done.stderr) == (0, "conda\n", "")


def test_below_uv_run_the_driver_says_so(finder, caplog):
    """There Ray calls its own hook, which has the workers run by uv too."""
    uv = ModuleType("ray._private.runtime_env.uv_runtime_env_hook")
    uv.hook = lambda env: dict(env or {})  # type: ignore[attr-defined]
    _imports._loaded(uv)
    hook = uv.hook
    _imports._loaded(uv)
    assert uv.hook is hook, "wrapped once"
    assert hook(None) == {}
    assert caplog.records == [], "it is not below uv run"
    below = ModuleType(uv.__name__)
    below.hook = lambda env: {**(env or {}), "py_executable": "uv run python"}  # type: ignore[attr-defined]
    _imports._loaded(below)
    assert below.hook({"worker_process_setup_hook": "netmon.integrations.ray.setup"})["py_executable"] == "uv run python"
    assert caplog.records == [], "the job has it from elsewhere"
    assert below.hook(None) == {"py_executable": "uv run python"}
    (record,) = caplog.records
    assert record.getMessage().startswith("netmon is not attached to Ray's workers: below uv run Ray calls its own hook")


def test_ray_hook_keeps_the_jobs_own(finder, monkeypatch):
    called = []
    hook = ray.runtime_env_hook({"worker_process_setup_hook": lambda: called.append("theirs")})
    hook["worker_process_setup_hook"]()
    assert called == ["theirs"]
    named = ray.runtime_env_hook({"worker_process_setup_hook": "netmon_test_hooks.theirs"})
    monkeypatch.setitem(sys.modules, "netmon_test_hooks", type("m", (), {"theirs": lambda: called.append("named")}))
    named["worker_process_setup_hook"]()
    assert called == ["theirs", "named"]


def test_ray_hook_in_a_job_that_was_submitted_with_one(finder, caplog):
    submitted = {"worker_process_setup_hook": "netmon.integrations.ray.setup"}
    assert ray.runtime_env_hook(submitted) == submitted
    foreign = {
        "worker_process_setup_hook": "theirs",
        "env_vars": {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "theirs"},
    }
    assert ray.runtime_env_hook(foreign) == foreign, "another one would end the driver"
    assert "have it call netmon.integrations.ray.setup()" in caplog.text


def test_ray_hook_after_another_one(finder, monkeypatch):
    monkeypatch.setenv("NETMON_RAY_RUNTIME_ENV_HOOK", "netmon_test_hooks.first")
    first = type("m", (), {"first": lambda env: {**env, "working_dir": "."}})
    monkeypatch.setitem(sys.modules, "netmon_test_hooks", first)
    assert list(ray.runtime_env_hook({"pip": ["x"]})) == ["pip", "working_dir", "worker_process_setup_hook"]


# The shared monitor


def test_options_of_the_command_hold(monkeypatch):
    """A program that configures the shared monitor itself is not told off for it."""
    monkeypatch.setenv(VARIABLE, '{"interval": 0.5, "interfaces": ["lo"], "cluster": false, "from": "a later version"}')
    try:
        monitor = _training.training_begins()
        assert monitor is _training.training_begins()
        _shared.configure_shared(interval=2.0)
        assert _shared.shared_monitor() is monitor
        assert _shared.shared_interval() == 0.5
    finally:
        _shared.close_shared_monitor()
    _shared.configure_shared(interval=3600)
    try:
        assert _training.training_begins() is _shared.existing_monitor(), "the program was first"
    finally:
        _shared.close_shared_monitor()


@pytest.mark.parametrize(("mode", "asked"), [(0, False), (1, True), (None, False)])
def test_a_driver_of_ray_is_not_asked_for_its_task(monkeypatch, mode, asked):
    """Ray logs a warning there."""
    names: list[str] = []

    def task_name() -> str:
        names.append("CriticModelActor.fit")
        return names[0]

    worker = SimpleNamespace(mode=mode)
    context = (
        SimpleNamespace(get_task_name=task_name) if mode is None else SimpleNamespace(get_task_name=task_name, worker=worker)
    )
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context, WORKER_MODE=1)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert bool(_training._identity()) is asked
    assert bool(names) is asked


# Training


# Only over loopback.
QUIET = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def torchrun(*, prefix: list[str] = RUN, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port()]
    return run(*prefix, "--", *command, TESTS / "run_rank.py", env={**os.environ, **QUIET, **variables})


def ranks(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(answer["rank"] for answer in answers) == [0, 1]
    return answers


def check_attached(done: subprocess.CompletedProcess[str]) -> None:
    for answer in ranks(done):
        assert answer["monitor"], done.stderr
        assert answer["job"] == answer["rank"]
        assert answer["traces"], "the library is loaded"
        assert answer["launcher"] == [], "not in the launcher"
        assert answer["collectives"]["all_reduce"] >= 5, "four steps and one more"
        assert answer["worker_threads"] == [0.0], "forked workers have none of netmon's threads"
        assert answer["loader"] == "SourceFileLoader"
        assert answer["path"] == []
    assert "netmon" not in done.stderr


@pytest.mark.torch
def test_ranks_of_torchrun_have_a_monitor_and_the_agent_has_none():
    pytest.importorskip("torch")
    check_attached(torchrun())


@pytest.mark.torch
def test_spawned_ranks_of_a_python_without_netmon():
    """Python finds netmon where ``netmon run`` is from, and in the interpreter's own processes too."""
    pytest.importorskip("torch")
    command = ["env", f"PYTHONPATH={SITE}", sys.executable, TESTS / "run_rank.py", "spawn"]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), **QUIET}
    check_attached(run(*RUN, "--interval", "0.1", "--", *command, env={**os.environ, **variables}))


@pytest.mark.torch
@pytest.mark.parametrize("quiet", ["0", "1"])
def test_nobody_waits_for_a_rank_that_takes_no_part(tmp_path, quiet):
    """Options differ where a launcher does not hand them on: the others have a view all the same, in which it is missing."""
    pytest.importorskip("torch")
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys, time\n"
        "import torch.distributed as dist\n"
        "os.environ['NETMON_RUN'] = os.environ['OPTIONS' + os.environ['RANK']]\n"
        "dist.init_process_group('gloo')\n"
        "view = sys.modules['netmon._shared'].existing_monitor().cluster()\n"
        "limit = time.monotonic() + 60\n"
        "while os.environ['RANK'] != sys.argv[1] and not view.sequence and time.monotonic() < limit:\n"
        "    time.sleep(0.05)\n"
        "    view = sys.modules['netmon._shared'].existing_monitor().cluster()\n"
        "states = {rank.rank: rank.state for rank in view.ranks}\n"
        "os.write(1, f'{states}\\n'.encode())\n"
        "dist.barrier()\n"
        "dist.destroy_process_group()\n"
    )
    options = {f"OPTIONS{rank}": '{"cluster_interval": 0.2}' for rank in "01"} | {f"OPTIONS{quiet}": '{"cluster": false}'}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port(), script, quiet]
    done = run(*RUN, "--", *command, env={**os.environ, **QUIET, **options})
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(["{}", str({0: "live", 1: "live"} | {int(quiet): "missing"})])


@pytest.mark.torch
def test_the_training_goes_on_without_the_library(tmp_path):
    pytest.importorskip("torch")
    broken = tmp_path / "libnetmon.so"
    broken.write_text("no library")
    done = torchrun(NETMON_LIBRARY=str(broken), PYTHONWARNINGS="error::RuntimeWarning")
    for answer in ranks(done):
        assert not answer["monitor"]
        assert answer["collectives"] == {}
    (line,) = [line for line in done.stderr.splitlines() if "netmon" in line]
    assert line.startswith("netmon is not attached: LibraryError: ")
    assert line.endswith("; the training goes on without it")
