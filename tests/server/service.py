"""A service as `rabbitmq_auth_backend_http` asks one: it says what a test tells it to, and what it was asked."""

from __future__ import annotations

import contextlib
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

    def options(self, **changes: Any) -> Http:
        url = f"http://127.0.0.1:{self.server_port}"
        paths = {f"{name}_path": f"{url}/{name}" for name in ("user", "vhost", "resource", "topic")}
        return Http(**(paths | changes))


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
