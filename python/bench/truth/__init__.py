"""Whether what netmon's probes say is true: ``python -m bench.truth``, or ``make bench-truth``.

Everything is measured in the network lab of the tests (python/tests/lab), where loss and delay are set and counted by something
else than netmon, and beside other programs on the same link at the same time. docs/accuracy.md says what the figures mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The lab and the process with a monitor are those of the tests.
TESTS = Path(__file__).resolve().parents[2] / "tests"
if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))
