"""How often findings are right: ``python -m bench.campaign``, or ``make campaign``.

A training job of four gloo ranks runs in the network lab of the tests, each rank on a host of its own. Faults that a seed draws
are put in and taken out again one after the other, and what the job's own cluster view says meanwhile is scored. The campaign
only reads what is found: it hands netmon nothing but the job.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The lab is that of the tests.
TESTS = Path(__file__).resolve().parents[2] / "tests"
if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))
