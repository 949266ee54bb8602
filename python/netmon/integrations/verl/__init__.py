"""verl: the network's values in what its trackers log, without an edit to it.

    >>> from netmon.integrations import verl           # does not import verl

``netmon run -- python -m verl.trainer.main_ppo ...`` is all that is needed: every tracker of ``trainer.logger`` then has
``network/...``. docs/trainers.md has the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._hooks import imported, install

__all__: Sequence[str] = ["imported", "install"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.verl"
