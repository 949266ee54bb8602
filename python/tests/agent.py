"""A process with a monitor, run inside a namespace by tests that drive it through its standard input.

Each line read is a Python expression over ``monitor``; its value is printed as one line of JSON.
"""

from __future__ import annotations

import json
import sys

import netmon

arguments = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
with netmon.Monitor(**arguments) as monitor:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        value = eval(line, {"monitor": monitor})
        print(json.dumps(value), flush=True)
