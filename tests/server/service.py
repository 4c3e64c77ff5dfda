"""A service as `rabbitmq_auth_backend_http` asks one: it says what a test tells it to, and what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from amqp_broker.config import Http


class Service(ThreadingHTTPServer):
    """answers: status and text by path. asked: method, path and values of each request. goes_on: lets it answer.

    dribbles: answers octet by octet and comes to no end.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = dict.fromkeys(("/user", "/vhost", "/resource", "/topic"), (200, "allow"))
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.dribbles = False

    seconds = staticmethod(time.monotonic)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def options(self, **changes: Any) -> Http:
        url = self.url
        paths = {f"{name}_path": f"{url}/{name}" for name in ("user", "vhost", "resource", "topic")}
        return Http(**(paths | changes))


class SecureService(Service):
    """The same by TLS. context: for connections that begin now. names: the server names that it was asked for."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.context = context
        self.names: list[str | None] = []

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_port}"

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        raw, address = super().get_request()
        assert isinstance(raw, socket.socket)
        self.context.sni_callback = lambda _connection, name, _context: self.names.append(name)
        # The handshake is for the connection's own thread.
        return self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """A broker that does not trust it hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, form: str) -> None:
        path = urlsplit(self.path).path
        values = {name: value[0] for name, value in parse_qs(form, keep_blank_values=True).items()}
        self.server.asked.append((self.command, path, values))
        self.server.goes_on.wait(60)
        if self.server.dribbles:
            self.dribble()
            return
        status, text = self.server.answers[path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(text.encode())

    def dribble(self) -> None:
        with contextlib.suppress(OSError):
            while self.server.dribbles:
                self.wfile.write(b"H")
                time.sleep(0.02)

    def log_message(self, *args: object) -> None:
        """Nobody wants to read it."""
