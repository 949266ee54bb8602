"""What went wrong without stopping anybody: told once through ``logging``, and kept for ``health``."""

from __future__ import annotations

import logging

_log = logging.getLogger("netmon.integrations.rldk")
_MOST = 64


class Troubles:
    """Sentences about what went wrong, each under a key."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, key: str, sentence: str) -> None:
        """Log a sentence as a warning, unless one was told under this key before."""
        if key in self._told or len(self._told) >= _MOST:
            return
        if self._told.setdefault(key, sentence) is sentence:
            _log.warning("%s", sentence)

    def problems(self) -> list[str]:
        """Return the sentences, oldest first."""
        return list(self._told.values())


# Of the process: the library, the ranks, the measuring thread.
process = Troubles()
