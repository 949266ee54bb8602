"""OpenRLHF 0.11: its phases, loggers and trainers, without an edit to it.

    >>> from netmon.integrations import openrlhf       # does not import openrlhf

``netmon run -- python -m openrlhf.cli.train_ppo_ray ...`` is all that is needed: OpenRLHF's own TensorBoard and W&B loggers
then have ``network/...`` beside ``train/...``. docs/openrlhf.md has the keys, and what is measured where.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._hooks import imported, install

__all__: Sequence[str] = ["imported", "install"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.openrlhf"
