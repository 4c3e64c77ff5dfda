"""One question to a service over HTTP, from a thread: a form goes out, a word comes back, and all of it has a deadline.

What the words mean is `http_backend`'s business. Here a service that is slow, never ends or talks too much becomes a
`NoAnswer`, and nothing waits for longer than the deadline, but for looking up the service's name.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

    from _typeshed import WriteableBuffer

    from amqp_broker.config import Http
    from amqp_broker.server.clock import ServerClock

# Of an answer with its headers, octets: it is one word, and perhaps tags.
LONGEST_ANSWER: Final = 65536
# Of what a service said that is none, characters in the log.
LONGEST_REASON: Final = 200
ANSWERED: Final = (200, 201)


class NoAnswer(Exception):
    """The service could not be asked, or did not say yes or no."""


class Deadline:
    def __init__(self, clock: ServerClock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ends = clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds, more than 0. Raises NoAnswer."""
        left = self._ends - self._clock.monotonic()
        if left <= 0:
            raise NoAnswer(too_late(self._seconds))
        return left


def too_late(seconds: float) -> str:
    return f"no answer within {seconds:g} s"


class Line:
    """The way to services. Used by several threads."""

    def __init__(self, options: Http, clock: ServerClock) -> None:
        self._method = options.method
        self._timeout = options.timeout
        self._server_name = options.tls.server_name
        self._clock = clock
        self._open: set[socket.socket] = set()

    def ask(self, url: str, form: str, trust: ssl.SSLContext | None) -> str:
        """What it answers with status 200 or 201. Raises NoAnswer, which names the address and not the form.

        trust: whom, for an address that begins with https://.
        """
        deadline = Deadline(self._clock, self._timeout)
        try:
            status, text = self._exchange(url, form, trust, deadline)
        except TimeoutError:
            raise NoAnswer(f"{url}: {too_late(self._timeout)}") from None
        except (OSError, http.client.HTTPException, ValueError, NoAnswer) as error:
            raise NoAnswer(f"{url}: {(str(error) or type(error).__name__)[:LONGEST_REASON]}") from None
        if status not in ANSWERED:
            raise NoAnswer(f"{url}: status {status}")
        return text

    def hang_up(self) -> None:
        """Let no thread wait for an answer any more: the process ends, and would wait for its threads."""
        for raw in list(self._open):
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, url: str, form: str, trust: ssl.SSLContext | None, deadline: Deadline
    ) -> tuple[int, str]:
        parts = urlsplit(url)
        path, host = parts.path or "/", parts.hostname or ""
        connection = http.client.HTTPConnection(host, parts.port)
        if trust is not None:
            connection = http.client.HTTPSConnection(host, parts.port, context=trust)
        raw = socket.create_connection((connection.host, connection.port), deadline.left())
        self._open.add(raw)
        try:
            if trust is not None:
                raw.settimeout(deadline.left())
                self._open.discard(raw)
                raw = trust.wrap_socket(raw, server_hostname=self._server_name or connection.host)
                self._open.add(raw)
            # It asks of its socket no more than this one can.
            connection.sock = _TimedSocket(raw, deadline)
            if self._method == "get":
                connection.request("GET", f"{path}?{form}")
            else:
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", path, form, headers)
            response = connection.getresponse()
            return response.status, response.read(LONGEST_ANSWER).decode("utf-8", "replace")
        finally:
            self._open.discard(raw)
            raw.close()


class _TimedSocket:
    """A socket whose every operation has what is left of the deadline."""

    def __init__(self, raw: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(self._deadline.left())
        self._raw.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._raw, self._deadline))

    def close(self) -> None:
        """What came may still be read; whoever made the socket closes it."""


class _Incoming(io.RawIOBase):
    """What comes, as long as there is time, and not without end."""

    def __init__(self, raw: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._deadline = deadline
        self._room = LONGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._room <= 0:
            raise NoAnswer(f"more than {LONGEST_ANSWER} octets")
        self._raw.settimeout(self._deadline.left())
        count = self._raw.recv_into(buffer)
        self._room -= count
        return count
