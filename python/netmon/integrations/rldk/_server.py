"""A server for a dashboard's WSGI application, by the standard library; imported when one is started."""

from __future__ import annotations

import io
import socketserver
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

_SECONDS = 30.0


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A server that prints nothing and looks up no name.

    Raises:
        OSError: it cannot listen there.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int, app: Any) -> None:
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Listen. http.server would ask the name servers for the host's full name here."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent: a browser that went away is nobody's error."""


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the standard library
        pass

    def get_stderr(self) -> Any:
        return io.StringIO()
