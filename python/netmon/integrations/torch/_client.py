"""Short talks with the job's store: by netmon's own client of a TCPStore (``_store``), else by torch's.

What they have is named as torch's stores name it. torch's own client is for stores of another kind, and for versions of torch
whose TCPStore does not speak as is known here: when the store's host is gone it writes a stack to stderr, and when it is frozen
no timeout holds.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ._store import Connection, OtherProtocolError, is_too_old

_CONNECT = timedelta(seconds=5)  # of torch's client


class Client:
    """A TCPStore under a prefix, by a connection of its own.

    Args:
        connection: open.
        prefix: of all keys.
    """

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self.abandon = connection.abandon
        self.close = connection.close

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}"

    def set(self, key: str, value: str) -> None:
        """Set a value."""
        self._connection.set(self._key(key), value.encode())

    def get(self, key: str) -> bytes:
        """Return a value, which must be there."""
        return self._connection.get(self._key(key))

    def check(self, keys: Sequence[str]) -> bool:
        """Tell whether all of some keys are there."""
        return len(self._connection.check(list(map(self._key, keys)))) == len(keys)

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return values, which must all be there."""
        return self._connection.multi_get(list(map(self._key, keys)))

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        """Set a value if it is as expected (empty: if there is none), and return what it is then."""
        return self._connection.compare_set(self._key(key), expected.encode(), value.encode())

    def delete_key(self, key: str) -> bool:
        """Take a value out, and tell whether there was one."""
        return self._connection.delete(self._key(key))


def connect(host: str, port: int, prefix: str, seconds: float) -> Any:
    """Return a client of the TCPStore of a host, under a prefix.

    Args:
        host: of the store.
        port: of the store.
        prefix: of all keys.
        seconds: after which the store is not waited for any more; torch's client does not know them.

    Raises:
        BoardError: netmon's own client cannot reach it.
        Exception: nor can torch's.
    """
    if not is_too_old(str(getattr(sys.modules.get("torch"), "__version__", ""))):
        connection = Connection(host, port, time.monotonic() + seconds)
        try:
            connection.open()
            return Client(connection, prefix)
        except OtherProtocolError:
            pass
        except BaseException:
            connection.close()
            raise
    distributed: Any = importlib.import_module("torch.distributed")
    own = distributed.TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=_CONNECT)
    return distributed.PrefixStore(prefix, own)


def let_go(client: Any) -> None:
    """Close a client, or have what waits in it give up; torch's closes when it is not known any more."""
    if isinstance(client, Client):
        client.abandon()
        client.close()
