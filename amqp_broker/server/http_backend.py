"""The service that is asked about logins over HTTP, as RabbitMQ's plugin rabbitmq_auth_backend_http asks it.

It is asked at `user_path` whether user and password are right, and at `vhost_path` whether the user may open a
virtual host; it answers "allow" or "deny", and what stands behind that is not looked at. Requests are made in threads,
of which there are few; what many ask at once is asked once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.server.verified import Verified
from amqp_broker.server.workers import Crowded, Job, Workers

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from amqp_broker.config.auth import Http
    from amqp_broker.server.clock import ServerClock
    from amqp_broker.session.handshake import Login, Opening, Question

_log = logging.getLogger(__name__)

# Requests at a time, and in line behind them.
AT_A_TIME: Final = 8
MOST_WAITING: Final = 1024
# Of an answer, octets: it is one word, and perhaps tags or a reason.
LONGEST_ANSWER: Final = 65536

_ANSWERS: Final = {"allow": True, "deny": False}

# None: the service could not be asked, or said something else than yes or no, and the log says so.
Answer: TypeAlias = bool | None
Told: TypeAlias = Callable[[Answer], None]


class NoAnswer(Exception):
    """The service could not be asked, or said something else than yes or no."""


class HttpBackend:
    """in_turn: runs something about a question in a turn of its own.

    Whoever asks is told: at once if the answer is known, else in such a turn if the question is still wanted.
    """

    def __init__(
        self, options: Http, clock: ServerClock, in_turn: Callable[[Question, Callable[[], None]], None]
    ) -> None:
        self._options = options
        self._clock = clock
        self._in_turn = in_turn
        self._allowed = Verified(options.cache)
        self._workers = Workers("http", AT_A_TIME, MOST_WAITING)
        self._requests: dict[bytes, _Request] = {}

    @property
    def asks_vhost(self) -> bool:
        return self._options.vhost_path != ""

    def ask_user(self, login: Login, told: Told) -> None:
        """Whether this is the user's password."""
        values = {"username": _octets(login.name), "password": login.password or b""}
        self._ask(self._options.user_path, values, login, told)

    def ask_vhost(self, opening: Opening, told: Told) -> None:
        """Whether the user may open the virtual host."""
        values = {
            "username": _octets(opening.user.name),
            "vhost": _octets(opening.vhost.name),
            "ip": _octets(opening.address),
            "tags": _octets(" ".join(opening.user.tags)),
        }
        self._ask(self._options.vhost_path, values, opening, told)

    def close(self) -> None:
        self._workers.close()

    def _ask(self, url: str, values: dict[str, bytes], question: Question, told: Told) -> None:
        from urllib.parse import urlencode

        key = self._allowed.key(url.encode(), *values.values())
        allowed = self._options.cache > 0 and self._allowed.holds(key, self._clock.monotonic())
        if allowed:
            told(allowed)
            return
        request = self._requests.get(key)
        if request is not None:
            request.askers.append((question, told))
            return
        request = _Request(self, url, urlencode(values), key)
        # Before it is in line: who makes room there passes over what nobody waits for.
        request.askers.append((question, told))
        if self._workers.take_nowait(request, question.address):
            self._requests[key] = request
        else:
            told(None)

    def finish(self, request: _Request, answer: Answer) -> None:
        self.forget(request)
        if answer and self._options.cache:
            self._allowed.remember(request.key, self._clock.monotonic())
        for question, told in request.askers:
            if question.wanted:
                self._in_turn(question, partial(told, answer))

    def forget(self, request: _Request) -> None:
        """It is not under way any more."""
        self._requests.pop(request.key, None)

    def fetch(self, url: str, form: str) -> bool:
        """Ask, and wait for the answer. Raises NoAnswer."""
        import http.client

        try:
            status, text = self._exchange(url, form)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(f"{url}: {str(error) or type(error).__name__}") from None
        answer = _ANSWERS.get(text.strip().lower().partition(" ")[0])
        if status not in (200, 201):
            raise NoAnswer(f"{url}: status {status}")
        if answer is None:
            raise NoAnswer(f"{url}: neither allow nor deny")
        return answer

    def _exchange(self, url: str, form: str) -> tuple[int, str]:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        path = parts.path or "/"
        try:
            if self._options.method == "get":
                connection.request("GET", f"{path}?{form}")
            else:
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", path, form, headers)
            response = connection.getresponse()
            return response.status, response.read(LONGEST_ANSWER).decode("utf-8", "replace")
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        kind = HTTPSConnection if scheme == "https" else HTTPConnection
        return kind(host, port, timeout=self._options.timeout)


class _Request(Job):
    """askers: the questions that the answer is for, and who is told."""

    def __init__(self, backend: HttpBackend, url: str, form: str, key: bytes) -> None:
        self.key = key
        self.askers: list[tuple[Question, Told]] = []
        self._backend = backend
        self._url = url
        self._form = form
        self._answer = False

    @property
    def wanted(self) -> bool:
        return any(question.wanted for question, _ in self.askers)

    def work(self) -> None:
        self._answer = self._backend.fetch(self._url, self._form)

    def done(self, error: BaseException | None) -> None:
        if error is None:
            self._backend.finish(self, self._answer)
            return
        if not isinstance(error, Crowded):
            _log.error("no answer of the HTTP backend: %s", str(error) or repr(error))
        self._backend.finish(self, None)

    def passed_over(self) -> None:
        self._backend.forget(self)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
