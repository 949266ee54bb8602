"""What Python loads at its start in every process below ``netmon run``: it waits for training code, and does nothing else.

It then makes way for the sitecustomize that Python would have loaded without it.
"""

import os
import sys


def _wait_for_training() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 - whichever Python the job has
        # netmon cannot be imported here, and Ray would end a driver over a hook that cannot be: it may be a parent's.
        if os.environ.get("RAY_RUNTIME_ENV_HOOK", "").startswith("netmon."):
            del os.environ["RAY_RUNTIME_ENV_HOOK"]
            if "NETMON_RAY_RUNTIME_ENV_HOOK" in os.environ:
                os.environ["RAY_RUNTIME_ENV_HOOK"] = os.environ["NETMON_RAY_RUNTIME_ENV_HOOK"]
        return
    name = "netmon._imports"
    if name not in sys.modules:
        # One file of the package, without the package: importing that takes longer than starting Python.
        from _frozen_importlib_external import SourceFileLoader

        path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_imports.py")
        loader = SourceFileLoader(name, path)
        module = type(sys)(name)
        module.__file__, module.__loader__, module.__package__ = path, loader, "netmon"
        loader.exec_module(module)
        sys.modules[name] = module
    sys.modules[name].install(ray=True)


def _make_way() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    mine = sys.modules.pop(__name__)
    try:
        __import__(__name__)
    except ImportError as error:
        if error.name != __name__:
            raise
        sys.modules[__name__] = mine


try:  # noqa: SIM105 - contextlib is not loaded at the start of Python
    _wait_for_training()
except Exception:  # noqa: BLE001, S110 - whatever is wrong with netmon, it is not the process's affair
    pass
# What goes wrong in the other one is treated as it would be without this one.
_make_way()
