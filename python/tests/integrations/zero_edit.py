"""zero_edit.py EXAMPLE [ARGUMENT ...]: an example as it would be without netmon."""

from __future__ import annotations

import sys
from pathlib import Path

WITHOUT = {
    "callbacks=[NetmonCallback()]": "callbacks=[]",
    "callbacks=[NetmonCallback(), Shown()]": "callbacks=[Shown()]",
    '"callbacks": [NetmonCallback(), Shown()]': '"callbacks": [Shown()]',
    '["tensorboard", NetmonTracker()]': '["tensorboard"]',
    "with watch(engine):": "if True:",
}

lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
code = "\n".join("" if line.startswith("from netmon.") else line for line in lines)
for ours, theirs in WITHOUT.items():
    code = code.replace(ours, theirs)
assert "Netmon" not in code.partition('"""\n\n')[2]
del sys.argv[0]
exec(compile(code, sys.argv[0], "exec"), {"__name__": "__main__"})
