"""The hooks that Ray itself offers: one that may change a job's runtime environment, one that runs in each of its workers.

Neither imports Ray, and neither raises: what a hook raises ends the driver, or the worker.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from ... import _imports
from ..._options import VARIABLE

_KEY = "worker_process_setup_hook"
_SETUP = "netmon.integrations.ray.setup"
# Ray's own: where it stands, the hook has been handed out already, and another one in its place ends the driver.
_HANDED_OUT = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
# Beside these Ray takes no setup hook: workers then run in a container.
_ALONE = ("image_uri", "container")


def setup() -> None:
    """Have netmon attached to this worker of Ray when it trains; until then nothing is loaded or started.

    It is for Ray to call (``worker_process_setup_hook``). Calling it twice is fine.
    """
    _imports.guarded(_imports.install)


def runtime_env_hook(runtime_env: Mapping[str, Any] | None) -> Any:
    """Return a job's runtime environment with ``setup`` added, beside a setup hook that the job has itself.

    It is for Ray to call in the driver (``RAY_RUNTIME_ENV_HOOK``).
    """
    before = os.environ.get(_imports.RAY_HOOK_BEFORE_VARIABLE)
    if before:
        runtime_env = _named(before)(runtime_env)  # it raises what it would raise without netmon
    setup()
    try:
        alone = [name for name in _ALONE if (runtime_env or {}).get(name)]
        if alone:
            _imports.warn(f"netmon is not attached to Ray's workers: Ray takes no {_KEY} beside {alone[0]}")
            return runtime_env
        return _taken_by_ray(_with_setup(dict(runtime_env or {})))
    except Exception as error:  # noqa: BLE001 - the job starts without netmon
        _imports.warn(f"netmon is not attached to Ray's workers: {type(error).__name__}: {error}")
        return runtime_env


def imported(module: ModuleType) -> None:
    """Tell in the driver where Ray calls a hook of its own in place of this one: the one of this module of Ray's."""
    function = module.hook
    if hasattr(function, "__netmon__"):
        return

    @functools.wraps(function)
    def hook(runtime_env: Mapping[str, Any] | None) -> Any:
        before = dict(runtime_env or {})
        after = function(runtime_env)
        # It does something below `uv run` only.
        if before.get(_KEY) != _SETUP and (after or {}).get("py_executable") != before.get("py_executable"):
            _imports.warn(
                "netmon is not attached to Ray's workers: below uv run Ray calls its own hook and no other; "
                f"set RAY_ENABLE_UV_RUN_RUNTIME_ENV=0, or give the job {_SETUP} as its {_KEY}"
            )
        return after

    hook.__netmon__ = function  # type: ignore[attr-defined]
    module.hook = hook  # type: ignore[attr-defined]


def _with_setup(runtime_env: dict[str, Any]) -> dict[str, Any]:
    variables = dict(runtime_env.get("env_vars") or {})
    theirs = runtime_env.get(_KEY)
    if _HANDED_OUT in variables and theirs != _SETUP:
        _imports.warn(
            f"netmon is not attached to Ray's workers: the job that was submitted has a {_KEY} of its own, {theirs!r}; "
            f"have it call {_SETUP}()"
        )
        return runtime_env
    if theirs != _SETUP:
        runtime_env[_KEY] = _worker_hook(theirs)
    if VARIABLE in os.environ:
        runtime_env["env_vars"] = {VARIABLE: os.environ[VARIABLE], **variables}
    return runtime_env


def _taken_by_ray(runtime_env: dict[str, Any]) -> dict[str, Any]:
    """Return a runtime environment that Ray takes; what it has against it is raised here, not out of ``ray.init``."""
    ray: Any = sys.modules.get("ray.runtime_env")
    if ray is not None:
        ray.RuntimeEnv(**runtime_env)
    return runtime_env


def _named(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _worker_hook(theirs: str | Callable[[], None] | None) -> Callable[[], None]:
    """Return a hook that travels with its code: a name that a node cannot import would end each of its workers."""

    def netmon_setup() -> None:
        from importlib import import_module

        try:
            import_module("netmon.integrations.ray").setup()
        except Exception as error:  # noqa: BLE001 - the job goes on without netmon
            import logging

            logging.getLogger("netmon").warning("netmon is not attached on this node: %s: %s", type(error).__name__, error)
        if isinstance(theirs, str):
            module, _, name = theirs.rpartition(".")
            getattr(import_module(module), name)()
        elif theirs is not None:
            theirs()

    return netmon_setup
