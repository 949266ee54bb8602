"""rldk's ``sampling_frequency``: every Nth call measures, the others return what the last one found."""

from __future__ import annotations

import operator
import os
from itertools import count

VARIABLE = "RLDK_NETWORK_SAMPLING_FREQUENCY"
_DEFAULT = 10


def positive(name: str, value: object) -> int:
    """Return a frequency given as an argument.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {number}: every Nth call measures")
    return number


def from_environment() -> int:
    """Return the frequency that the environment asks for, 10 where it asks for none.

    Raises:
        ValueError: the variable holds something else than a whole number of at least 1.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return _DEFAULT
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"{VARIABLE} in the environment must be a whole number of at least 1, not {text!r}")
    return number


class Sampled:
    """An object whose calls measure every Nth time."""

    sampling_frequency: int
    _invocation_count: int

    def _sample_every(self, frequency: int) -> None:
        self.sampling_frequency = frequency
        self._invocation_count = 0
        self._next_call = count(1).__next__

    def _measures(self, found: bool) -> bool:
        """Count a call, without a lock, and say whether it measures.

        Args:
            found: whether there is something to return otherwise. Without, every call measures.
        """
        self._invocation_count = number = self._next_call()
        return not found or number % max(1, self.sampling_frequency) == 0
