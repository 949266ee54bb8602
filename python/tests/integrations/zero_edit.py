"""zero_edit.py EXAMPLE [ARGUMENT ...]: an example that trains without its NetmonCallback."""

from __future__ import annotations

import runpy
import sys

runpy.run_path(sys.argv[1])["main"](*sys.argv[2:], callbacks=False)
