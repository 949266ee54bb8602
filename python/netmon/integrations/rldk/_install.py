"""Putting netmon's classes into an installed rldk, and taking them out again."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..._errors import UnsupportedError
from ._trouble import process

_PACKAGE = "rldk.integrations.openrlhf"
_COMMAND = "pip install git+https://github.com/adityachallapally/rldk"

_NETWORK_MONITOR = (
    "NetworkMetrics", "NetworkDiagnostics", "NetworkInterfaceMonitor", "NetworkLatencyMonitor", "NetworkBandwidthMonitor",
    "DistributedNetworkMonitor", "RealNetworkMonitor",
)  # fmt: skip
_DISTRIBUTED = (
    "NodeMetrics", "DistributedMetrics", "DistributedMetricsCollector", "MultiNodeMonitor", "GPUMemoryMonitor",
    "NetworkMonitor",
)  # fmt: skip
_DASHBOARD = "OpenRLHFDashboard"
_CALLBACKS = ("OpenRLHFMetrics", "OpenRLHFCallback", "OpenRLHFMonitor", "MultiGPUMonitor", "DistributedTrainingMonitor")

# Where rldk binds which of its names at import. Its other modules look them up in these when they need them, or take them from
# these when they are imported.
PLACES: dict[str, tuple[str, ...]] = {
    f"{_PACKAGE}.network_monitor": _NETWORK_MONITOR,
    f"{_PACKAGE}.distributed": (*_DISTRIBUTED, "NetworkMetrics", "RealNetworkMonitor"),
    f"{_PACKAGE}.callbacks": _CALLBACKS,
    f"{_PACKAGE}.dashboard": (_DASHBOARD,),
    _PACKAGE: (
        "RealNetworkMonitor", "NetworkMetrics", "NetworkInterfaceMonitor", "NetworkLatencyMonitor", "NetworkBandwidthMonitor",
        "DistributedNetworkMonitor", "DistributedMetricsCollector", "MultiNodeMonitor", "GPUMemoryMonitor", "NetworkMonitor",
        *_CALLBACKS, _DASHBOARD,
    ),
}  # fmt: skip

# Nothing is imported while it is held: who imports a module of rldk holds that module's lock, and waits for this one.
_lock = threading.RLock()
_finder: _Finder | None = None
# What stood in (module, name) before it was replaced, and rldk's own classes by name.
_originals: dict[tuple[str, str], Any] = {}
_classes: dict[str, Any] = {}


def install() -> None:
    """Put netmon's classes in the place of rldk's, whether rldk was imported before or is imported later. Twice is fine.

    What a program took out of rldk before, as by ``from rldk... import RealNetworkMonitor``, it keeps. Where rldk is imported
    later and turns out to lack a name, nothing of it is replaced, and a warning says so.

    Raises:
        UnsupportedError: rldk is not installed, or it is a version that lacks names; the text says which.
    """
    global _finder
    if "rldk" not in sys.modules and importlib.util.find_spec("rldk") is None:
        raise UnsupportedError(f"rldk is not installed in this Python ({sys.prefix}); install it with: {_COMMAND}")
    absent = [name for name in PLACES if not _is_there(name)]
    if f"{_PACKAGE}.dashboard" in absent:
        absent.remove(f"{_PACKAGE}.dashboard")
        _no_dashboard(f"{_PACKAGE}.dashboard")
    if absent:
        raise UnsupportedError(_sentence({name: [] for name in absent}))
    with _lock:
        if _finder is None:
            _finder = _Finder()
            sys.meta_path.insert(0, _finder)
    for name in PLACES:
        _wait_for_import(name)
    with _lock:
        loaded = [name for name in PLACES if name in sys.modules]
        lacking = {name: _lacking(sys.modules[name], name) for name in loaded}
        if any(lacking.values()):
            uninstall()
            raise UnsupportedError(_sentence({name: names for name, names in lacking.items() if names}))
        for name in loaded:
            _replace(sys.modules[name], name)
        for module in _modules_of_rldk():
            _exchange(module, _classes, {name: _ours(name) for name in _classes})


def uninstall() -> None:
    """Give rldk its own classes back. Without ``install`` before, nothing happens. What others replaced since stays."""
    global _finder
    with _lock:
        if _finder is not None:
            if _finder in sys.meta_path:
                sys.meta_path.remove(_finder)
            _finder = None
        for (module_name, name), original in _originals.items():
            module = sys.modules.get(module_name)
            if module is not None and getattr(module, name, None) is _ours(name):
                setattr(module, name, original)
        for module in _modules_of_rldk():
            _exchange(module, {name: _ours(name) for name in _classes}, _classes)
        _originals.clear()


def in_use(module: str, name: str) -> Any:
    """Return the class that a name stands for: netmon's, or what a program put in its place.

    Programs, and rldk's own tests, replace names of rldk's modules; while netmon's classes are installed there, that counts for
    them as it does for rldk's.

    Args:
        module: the module of rldk that a replacement is looked for in, as "network_monitor".
        name: of the class.
    """
    place = f"{_PACKAGE}.{module}"
    there = getattr(sys.modules.get(place), name, None) if (place, name) in _originals else None
    return _ours(name) if there is None or getattr(there, "__module__", None) == __package__ else there


def _ours(name: str) -> Any:
    original = _classes.get(name) if name == _DASHBOARD else None
    if original is None:
        return getattr(sys.modules[__package__], name)
    from ._dashboard import over

    # rldk's page and plots are not netmon's, so its dashboard stays behind netmon's.
    return over(original)


def _is_there(name: str) -> bool:
    """Return whether a module of rldk is there, without importing it or the packages that it is in."""
    if name in sys.modules:
        return True
    path: Sequence[str] | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = sys.modules.get(".".join(parts[:depth]))
        if package is not None:
            path = getattr(package, "__path__", None)
        else:
            spec = _spec(".".join(parts[:depth]), path)
            if spec is None:
                return False
            path = spec.submodule_search_locations
        if path is None and depth < len(parts):
            return False
    return True


def _spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, path, target) if find is not None else None
        if spec is not None:
            return spec
    return None


def _modules_of_rldk() -> list[ModuleType]:
    """Return all modules of rldk that are there, also those that only use its network part, as its dashboard."""
    loaded = list(sys.modules.items())
    return [module for name, module in loaded if name.partition(".")[0] == "rldk" and isinstance(module, ModuleType)]


def _exchange(module: ModuleType, present: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Where a module holds one of some classes by its own name, put another one there."""
    for name, current in present.items():
        if vars(module).get(name) is current:
            setattr(module, name, wanted[name])


def _wait_for_import(name: str) -> None:
    """Where another thread is importing a module of rldk at this moment, let it finish."""
    module = sys.modules.get(name)
    if module is not None and getattr(module.__spec__, "_initializing", False):
        # What is wrong with it is told to who imports it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _lacking(module: ModuleType, name: str) -> list[str]:
    """Return which names a module lacks. The dashboard is only told of: all else can be replaced without it."""
    missing = [entry for entry in PLACES[name] if not hasattr(module, entry)]
    if _DASHBOARD in missing:
        _no_dashboard(name)
        missing.remove(_DASHBOARD)
    return missing


def _no_dashboard(where: str) -> None:
    process.tell("rldk dashboard", f"this rldk {_version()} has no {where}.{_DASHBOARD}, so its dashboard is not replaced")


def _version() -> str:
    return f"(version {getattr(sys.modules.get('rldk'), '__version__', 'unknown')})"


def _sentence(lacking: dict[str, list[str]]) -> str:
    missing = "; ".join(
        f"{module} has no {', '.join(names)}" if names else f"there is no {module}" for module, names in lacking.items()
    )
    return f"this rldk {_version()} is not the one netmon knows, so nothing of it is replaced: {missing}"


def _replace(module: ModuleType, module_name: str) -> None:
    for name in PLACES[module_name]:
        current = getattr(module, name, None)
        if current is None:
            continue
        if current is not _ours(name):
            _originals[module_name, name] = _classes[name] = current
            setattr(module, name, _ours(name))
        else:
            # Imported from a module that was replaced before.
            _originals.setdefault((module_name, name), _classes[name])


def _put_back(module: ModuleType, module_name: str) -> None:
    """Put rldk's own classes into a module that took ours from another one, and that is not to have them after all."""
    for name in PLACES[module_name]:
        if getattr(module, name, None) is _ours(name) and name in _classes:
            setattr(module, name, _classes[name])


class _Finder(MetaPathFinder):
    """Lets rldk's modules be imported as they are, and replaces names in them right after."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in PLACES:
            return None
        spec = _spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loading(spec.loader, self)
        return spec


class _Loading(Loader):
    """Loads a module with its own loader, and replaces names in it."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module is to look as if nobody had been here.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        name = module.__name__
        with _lock:
            lacking = _lacking(module, name)
            if _finder is self._finder and not lacking:
                _replace(module, name)
                return
            # Uninstalled in the meantime, or a version that is not known.
            wanted = _finder is self._finder
            _put_back(module, name)
            if wanted:
                uninstall()
        if wanted:
            process.tell(f"rldk {name}", _sentence({name: lacking}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
