"""The service that is asked over HTTP who may do what, as RabbitMQ's plugin rabbitmq_auth_backend_http asks it.

It is asked whether user and password are right, whether the user may open a virtual host, and what the user may do
there with queues, exchanges and routing keys. It answers "allow", for a user perhaps with tags behind, or "deny"; what
stands behind that is not looked at. Requests are made in threads, of which there are few; what many ask at once is
asked once, and what it allowed counts for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.config.http_tls import HTTPS
from amqp_broker.server.login_delays import line_of
from amqp_broker.server.verdicts import AllowedRights, Answers
from amqp_broker.server.verified import Digests
from amqp_broker.server.workers import Crowded, Job, Workers
from amqp_broker.session import judged
from amqp_broker.session.judged import Claim, Judge, JudgedRights, Judgement

if TYPE_CHECKING:
    import ssl

    from amqp_broker.config.auth import Http
    from amqp_broker.server.clock import Cancellable, ServerClock
    from amqp_broker.server.http_request import Line
    from amqp_broker.session.handshake import Login, Opening, Question

_log = logging.getLogger(__name__)

# Requests at a time, and in line behind them.
AT_A_TIME: Final = 8
MOST_WAITING: Final = 1024
# How long "deny" counts for a right, seconds: a client that tries again and again is not passed on each time.
REFUSED_FOR: Final = 1.0
# Between two lines of the log about a service that does not answer, seconds.
COMPLAIN_AGAIN: Final = 10.0


class Answer:
    """allowed: None if the service could not be asked or said something else, which is in the log. tags: a user's."""

    __slots__ = ("allowed", "tags")

    def __init__(self, allowed: bool | None, tags: str = "") -> None:
        self.allowed = allowed
        self.tags = tags.split()


NO_ANSWER: Final = Answer(None)
DENIED: Final = Answer(False)  # noqa: FBT003  what it said

_VERDICTS: Final = {True: judged.ALLOWED, False: judged.DENIED, None: judged.NO_ANSWER}

Told: TypeAlias = Callable[[Answer], None]


class HttpBackend(Judge):
    """in_turn: runs something about a question in a turn of its own. ended: see `AllowedRights`.

    Whoever asks is told: at once if the answer is known, else in such a turn if the question is still wanted.
    """

    def __init__(
        self,
        options: Http,
        clock: ServerClock,
        in_turn: Callable[[Question, Callable[[], None]], None],
        ended: Callable[[Iterable[str]], None],
    ) -> None:
        self._options = options
        self.clock = clock
        self._in_turn = in_turn
        self._key = Digests().key
        self._allowed = Answers(options.cache)
        self._denied = Answers(options.cache if options.cache_refusals else 0)
        self._allowed_rights = AllowedRights(options.cache_rights, clock, ended)
        self._denied_rights = Answers(options.cache_rights if options.cache_refusals else REFUSED_FOR)
        self._workers = Workers("http", AT_A_TIME, MOST_WAITING)
        self._requests: dict[bytes, _Request] = {}
        self._line: Line | None = None
        self._trust: ssl.SSLContext | None = None
        self._complained = -COMPLAIN_AGAIN
        self._unsaid = 0

    def load_certificates(self) -> None:
        """Read the files of `auth.http.tls`, for the requests from now on, if there is an address that needs them.

        Raises ConfigError, and has changed nothing then.
        """
        if self._options.has_https:
            from amqp_broker.server.tls import client_context

            self._trust = client_context(self._options.tls)

    def ask_user(self, login: Login, told: Told) -> None:
        """Whether this is the user's password, or for one with a certificate whether there is such a user."""
        values = {"username": _octets(login.name)}
        if login.password is not None:
            values["password"] = login.password
        self._ask(self._options.user_path, values, login, told)

    def ask_vhost(self, opening: Opening, told: Told) -> None:
        """Whether the user may open the virtual host."""
        values = {
            "username": _octets(opening.rights.name),
            "vhost": _octets(opening.vhost.name),
            "ip": _octets(opening.address),
            "tags": _octets(" ".join(opening.rights.tags)),
        }
        self._ask(self._options.vhost_path, values, opening, told)

    def verdict(self, rights: JudgedRights, claim: Claim) -> int:
        key = self._key_of(*self._question(rights, claim))
        if self._allowed_rights.holds(key):
            return judged.ALLOWED
        denied = self._denied_rights.find(key, self.clock.monotonic())
        return judged.NOT_KNOWN if denied is None else judged.DENIED

    def judge(self, judgement: Judgement) -> None:
        claim = judgement.claim
        url, values = self._question(judgement.rights, claim)
        self._request(url, values, judgement, partial(self._judged, judgement), claim.vhost)

    def close(self) -> None:
        self._workers.close()
        self._allowed_rights.close()
        if self._line is not None:
            self._line.hang_up()

    def _judged(self, judgement: Judgement, answer: Answer) -> None:
        judgement.decide(_VERDICTS[answer.allowed], self.clock.monotonic())

    def _question(self, rights: JudgedRights, claim: Claim) -> tuple[str, dict[str, bytes]]:
        values = {
            "username": _octets(rights.name),
            "vhost": _octets(claim.vhost),
            "resource": claim.kind.encode(),
            "name": _octets(claim.name),
            "permission": judged.RIGHT_NAMES[claim.right].encode(),
            "tags": _octets(" ".join(rights.tags)),
        }
        if claim.kind != judged.TOPIC:
            return self._options.resource_path, values
        values["routing_key"] = _octets(claim.routing_key)
        values["variable_map.username"] = values["username"]
        values["variable_map.vhost"] = values["vhost"]
        return self._options.topic_path, values

    def _key_of(self, url: str, values: dict[str, bytes]) -> bytes:
        return self._key(url.encode(), *values.values())

    # -- requests

    def _ask(self, url: str, values: dict[str, bytes], question: Question, told: Told) -> None:
        """As far as it is known at once, the answer."""
        key, now = self._key_of(url, values), self.clock.monotonic()
        tags = self._allowed.find(key, now)
        if tags is not None:
            told(Answer(True, tags))  # noqa: FBT003
        elif self._denied.find(key, now) is not None:
            told(DENIED)
        else:
            self._request(url, values, question, told)

    def _request(
        self, url: str, values: dict[str, bytes], question: Question, told: Told, vhost: str | None = None
    ) -> None:
        """vhost: where a right is asked for; None for what is asked about a login."""
        from urllib.parse import urlencode

        key = self._key_of(url, values)
        request = self._requests.get(key)
        if request is not None:
            request.askers.append((question, told))
            return
        request = _Request(self, url, urlencode(values), key, vhost)
        # Before it is in line: who makes room there passes over what nobody waits for.
        request.askers.append((question, told))
        if self._workers.take_nowait(request, line_of(question.address)):
            self._requests[key] = request
            request.patience = self.clock.call_later(self._options.timeout, self._out_of_time, request)
        else:
            self._complain("too many questions wait")
            told(NO_ANSWER)

    def fetch(self, url: str, form: str) -> Answer:
        """Ask, and wait for the answer, in a thread. Raises NoAnswer."""
        from amqp_broker.server.http_request import NoAnswer

        if self._line is None:
            from amqp_broker.server.http_request import Line

            self._line = Line(self._options, self.clock)
        trust = None
        if url.startswith(HTTPS):
            if self._trust is None:
                self.load_certificates()
            trust = self._trust
        word, _, more = self._line.ask(url, form, trust).strip().partition(" ")
        if word.lower() == "allow":
            return Answer(True, more)  # noqa: FBT003
        if word.lower() == "deny":
            return DENIED
        raise NoAnswer(f"{url}: neither allow nor deny")

    def finish(self, request: _Request, answer: Answer) -> None:
        """An answer came, or none will."""
        self.forget(request)
        if answer.allowed is not None:
            self._remember(request, answer)
        askers, request.askers = request.askers, []
        for question, told in askers:
            if question.wanted:
                self._in_turn(question, partial(told, answer))

    def failed(self, request: _Request, error: BaseException) -> None:
        self._complain("too many questions wait" if isinstance(error, Crowded) else str(error) or repr(error))
        self.finish(request, NO_ANSWER)

    def forget(self, request: _Request) -> None:
        """Nobody waits for it any more."""
        if request.patience is not None:
            request.patience.cancel()
        if self._requests.get(request.key) is request:
            del self._requests[request.key]

    def _out_of_time(self, request: _Request) -> None:
        """It was in line for too long, or its thread hangs in something that has no time limit."""
        self._complain(f"{request.url}: no answer within {self._options.timeout:g} s")
        self.finish(request, NO_ANSWER)

    def _remember(self, request: _Request, answer: Answer) -> None:
        now = self.clock.monotonic()
        if request.vhost is None:
            (self._allowed if answer.allowed else self._denied).remember(
                request.key, " ".join(answer.tags), now
            )
        elif answer.allowed:
            self._allowed_rights.remember(request.key, request.vhost)
        else:
            self._denied_rights.remember(request.key, "", now)

    def _complain(self, problem: str) -> None:
        now = self.clock.monotonic()
        if now - self._complained < COMPLAIN_AGAIN:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} times more since the last such line)" if self._unsaid else ""
        _log.error("no answer of the HTTP backend: %s%s", problem, more)
        self._complained, self._unsaid = now, 0


class _Request(Job):
    """askers: the questions that the answer is for, and who is told; none once it is too late.

    vhost: see `HttpBackend._request`. patience: ends it when its time is over.
    """

    def __init__(self, backend: HttpBackend, url: str, form: str, key: bytes, vhost: str | None) -> None:
        self.url = url
        self.key = key
        self.vhost = vhost
        self.askers: list[tuple[Question, Told]] = []
        self.patience: Cancellable | None = None
        self._backend = backend
        self._form = form
        self._answer = NO_ANSWER

    @property
    def wanted(self) -> bool:
        return any(question.wanted for question, _ in self.askers)

    def work(self) -> None:
        self._answer = self._backend.fetch(self.url, self._form)

    def done(self, error: BaseException | None) -> None:
        if not self.askers:
            # It was too late before, which has been said.
            return
        if error is None:
            self._backend.finish(self, self._answer)
        else:
            self._backend.failed(self, error)

    def passed_over(self) -> None:
        self._backend.forget(self)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
