"""Waits for training code to be imported, and has netmon attached when it trains.

Every Python process below ``netmon run`` loads this at its start (``_site/sitecustomize.py``), without the rest of the package,
and so do Ray's workers by Ray's own hooks. Until something trains it is all there is of netmon: no thread, no library, one more
look at the names of modules that are imported. So it imports nothing that Python has not loaded anyway.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# Where training begins, and what of netmon._training is called there. Wrapping them loads nothing: launchers import them too.
_AFTER = {
    "torch.distributed.distributed_c10d": ("init_process_group", "process_group_made"),
    "deepspeed.runtime.engine": ("DeepSpeedEngine.__init__", "engine_made"),
}
_BEFORE = {
    "transformers.trainer": ("Trainer.train", "trainer_begins"),
    "accelerate.accelerator": ("Accelerator.init_trackers", "trackers_begin"),
    "lightning.pytorch.trainer.trainer": ("Trainer.fit", "fit_begins"),
    "pytorch_lightning.trainer.trainer": ("Trainer.fit", "fit_begins"),
}
# Packages of which only those who train import anything, and who is shown their modules.
_PACKAGES = {"openrlhf": "netmon.integrations.openrlhf", "verl": "netmon.integrations.verl"}
_PREFIXES = tuple(f"{package}." for package in _PACKAGES)

# Whom Ray asks in a driver; and what the environment named before netmon took its place.
_RAY_HOOK_VARIABLE, _RAY_HOOK = "RAY_RUNTIME_ENV_HOOK", "netmon.integrations.ray.runtime_env_hook"
RAY_HOOK_BEFORE_VARIABLE = "NETMON_RAY_RUNTIME_ENV_HOOK"
# Ray's own hook, which it prefers below `uv run`.
_RAY_UV = "ray._private.runtime_env.uv_runtime_env_hook"

# Where names of those modules have been bound by the time that it is too late to wrap them first.
_REEXPORTED = {"torch.distributed.distributed_c10d": "torch.distributed"}


class _Finder:
    """Finds nothing itself: it has the other finders find a module that is waited for, and sees when it is loaded."""

    def __init__(self) -> None:
        self._finding: set[tuple[int, str]] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not _is_waited_for(name):
            return None
        me = (get_ident(), name)
        if me in self._finding:  # another finder of this kind asks back
            return None
        self._finding.add(me)
        try:
            for finder in list(sys.meta_path):
                find = getattr(finder, "find_spec", None)
                spec: ModuleSpec | None = None if find is None or finder is self else find(name, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        finally:
            self._finding.discard(me)
        return None


class _Loader:
    """Stands in for a module's loader until the module is loaded."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # of one that is being copied, and has nothing yet
            raise AttributeError(name)
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        # The module itself only ever sees the loader that it would have without netmon.
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _loaded(module)


class _Package:
    """Finds this package, where the Python of the job does not have it. It is asked last."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "netmon":
            return None
        from importlib.util import spec_from_file_location

        here = os.path.dirname(os.path.abspath(__file__))
        return spec_from_file_location(name, os.path.join(here, "__init__.py"), submodule_search_locations=[here])


_finder = _Finder()
_package = _Package()
_waits_for_ray = False
_warned: set[str] = set()
_MOST_WARNINGS = 4
_LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def _is_waited_for(name: str) -> bool:
    if name == "ray" or name == _RAY_UV:
        return _waits_for_ray
    return name in _AFTER or name in _BEFORE or name.startswith(_PREFIXES)


def install(ray: bool = False) -> None:
    """Begin to wait. Doing it again is fine, and so is doing it when training code has been imported already.

    Args:
        ray: have Ray call its hook of netmon's in this process, where it is imported.
    """
    global _waits_for_ray
    _waits_for_ray = _waits_for_ray or ray
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if _package not in sys.meta_path:
        sys.meta_path.append(_package)
    for name, module in list(sys.modules.items()):
        if _is_waited_for(name):
            spec = getattr(module, "__spec__", None)
            if not getattr(spec, "_initializing", False):
                _loaded(module)


def guarded(call: Callable[..., object], *arguments: object, what: str = "netmon is not attached") -> None:
    """Call something of netmon's that must not raise into the job: what it raises is a warning, once.

    Args:
        call: what is called.
        arguments: what it is called with.
        what: what the job then goes without.
    """
    try:
        call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
        warn(f"{what}: {type(error).__name__}: {error}; the training goes on without it")


def warn(sentence: str) -> None:
    """Log a warning, once in a process; of the ranks of a node only in the first, of a job of Ray only in one process."""
    if sentence in _warned or len(_warned) >= _MOST_WARNINGS or not _is_first_of_node():
        return
    _warned.add(sentence)
    if _is_known_to_ray(sentence):
        return
    import logging

    logging.getLogger("netmon").warning("%s", sentence)


def _is_first_of_node() -> bool:
    # The launcher that is nearest says it: below srun, torchrun numbers its ranks anew.
    return next((os.environ[name] for name in _LOCAL_RANKS if name in os.environ), "0") == "0"


def _is_known_to_ray(sentence: str) -> bool:
    """Tell whether another process of the same job of Ray has logged it."""
    ray: Any = sys.modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return False
        from importlib import import_module

        job = ray.get_runtime_context().get_job_id()
        put = import_module("ray.experimental.internal_kv")._internal_kv_put
        return bool(put(f"{job}: {sentence}", b"", overwrite=False, namespace="netmon"))
    except Exception:  # noqa: BLE001 - another version of Ray: rather twice than never
        return False


def _loaded(module: ModuleType) -> None:
    name = module.__name__
    if name in _AFTER:
        guarded(_wrap, module, *_AFTER[name], True)
    elif name in _BEFORE:
        guarded(_wrap, module, *_BEFORE[name], False)
    elif name == "ray":
        _hook_ray()
    elif name == _RAY_UV:
        guarded(_show, "netmon.integrations.ray._hooks", module)
    else:
        guarded(_show, _PACKAGES[name.partition(".")[0]], module)


def _hook_ray() -> None:
    """Name Ray's hook in the environment: not before, for processes that get it handed down may be out of netmon's reach."""
    before = os.environ.get(_RAY_HOOK_VARIABLE)
    if before != _RAY_HOOK:
        os.environ[_RAY_HOOK_VARIABLE] = _RAY_HOOK
        if before:
            os.environ[RAY_HOOK_BEFORE_VARIABLE] = before


def _show(integration: str, module: ModuleType) -> None:
    from importlib import import_module

    import_module(integration).imported(module)


def _train(entry: str, *arguments: object) -> None:
    from importlib import import_module

    getattr(import_module("netmon._training"), entry)(*arguments)


def _wrap(module: ModuleType, place: str, entry: str, after: bool) -> None:
    from functools import wraps

    *way, name = place.split(".")
    owner: Any = module
    for part in way:
        owner = getattr(owner, part)
    function = getattr(owner, name)
    if hasattr(function, "__netmon__"):
        return

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        whose = arguments[:1] if way else ()  # a method is somebody's
        if not after:
            guarded(_train, entry, *whose)
        result = function(*arguments, **options)
        if after:
            guarded(_train, entry, *whose)
        return result

    wrapper.__netmon__ = function  # type: ignore[attr-defined]
    setattr(owner, name, wrapper)
    elsewhere = sys.modules.get(_REEXPORTED.get(module.__name__, ""))
    if elsewhere is not None and getattr(elsewhere, name, None) is function:
        setattr(elsewhere, name, wrapper)
