"""What went wrong without stopping anybody: told once through ``logging``, and kept for ``health``."""

from __future__ import annotations

import logging

_log = logging.getLogger("netmon.integrations.rldk")
_MOST = 64


class Troubles:
    """Sentences about what went wrong, each under a key."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._logged: set[str] = set()

    def tell(self, key: str, sentence: str) -> None:
        """Keep a sentence, unless one is kept under this key, and log the first one of a key as a warning."""
        if key in self._told or len(self._told) >= _MOST:
            return
        if self._told.setdefault(key, sentence) is sentence and key not in self._logged:
            self._logged.add(key)
            _log.warning("%s", sentence)

    def settle(self, key: str) -> None:
        """Forget what was told under a key: it holds no longer."""
        self._told.pop(key, None)

    def problems(self) -> list[str]:
        """Return the sentences, oldest first."""
        return list(self._told.values())


# Of the process: the library, the ranks, the measuring thread.
process = Troubles()
