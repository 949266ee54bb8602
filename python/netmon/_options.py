"""What ``netmon run`` was told, as it travels to the processes below it: in one variable of the environment."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

VARIABLE = "NETMON_RUN"
# The same, in letters that no shell on the way minds, for nodes to which a launcher hands on some variables only, as deepspeed
# does those that begin with PYTHON.
CARRIED_VARIABLE = "PYTHON_NETMON_RUN"


@dataclass(frozen=True)
class RunOptions:
    """The options of ``netmon run``; None: the monitor's default.

    Raises:
        ValueError: one is out of its range; the text names it.
    """

    interval: float | None = None
    interfaces: list[str] | None = None
    targets: list[str] | None = None
    cluster: bool = True
    cluster_interval: float | None = None
    collectives: bool = True
    nodes: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("interval", 0.01), ("cluster_interval", 0.1)):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= 3600:
                raise ValueError(f"--{name.replace('_', '-')} is {value:g}; it must be from {lowest:g} to 3600")

    def to_json(self) -> str:
        """Return what the variable holds: what differs from the defaults."""
        return json.dumps({name: value for name, value in asdict(self).items() if value != getattr(_DEFAULTS, name)})

    def variables(self) -> dict[str, str]:
        """Return what the processes below have of them in their environment."""
        text = self.to_json()
        return {VARIABLE: text, CARRIED_VARIABLE: urlsafe_b64encode(text.encode()).decode()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> RunOptions:
        """Return what the variable says. What another version of netmon wrote into it is passed over.

        Raises:
            ValueError: it is no JSON object, or a value is out of its range.
        """
        text = environment.get(VARIABLE)
        if text is None:
            text = urlsafe_b64decode(environment.get(CARRIED_VARIABLE, "")).decode()
        said = json.loads(text or "{}")
        if not isinstance(said, dict):
            raise ValueError(f"{VARIABLE} is no JSON object")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in said.items() if name in known})

    def monitor(self) -> dict[str, Any]:
        """Return the arguments of ``Monitor``."""
        given: dict[str, Any] = {"interval": self.interval, "interfaces": self.interfaces, "targets": self.targets}
        given["cluster_interval"] = self.cluster_interval
        return {name: value for name, value in given.items() if value is not None}


_DEFAULTS = RunOptions()
