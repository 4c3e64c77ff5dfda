"""Whether a login is right: the answers that sessions wait for, none of which holds up the event loop.

What is known at once is answered at once: a digest that RabbitMQ made, a password that fitted lately, a certificate.
Hashes by argon2id are made in two threads. A login is refused after one such hash,
whatever was wrong with it, so that the time it takes tells neither whether there is such a user nor how its password
is kept. `LoginDelays` says who has to wait before. A password that was right and is kept by a digest gets a better
hash. Where there are several backends they are asked one after the other, until one lets the client in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.access import User
from amqp_broker.broker.passwords import SHA256, PasswordHash, strong_hash
from amqp_broker.config.backends import HTTP, INTERNAL, backend_of
from amqp_broker.server.delayed_logins import DelayedLogins
from amqp_broker.server.login_delays import LoginDelays, line_of
from amqp_broker.server.verified import Verified
from amqp_broker.server.workers import Crowded, Job, Workers
from amqp_broker.session.auth import Authenticator, invalid_credentials, only_from_here, shown
from amqp_broker.session.judged import JudgedRights
from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.broker.access import Rights
    from amqp_broker.broker.broker import Broker
    from amqp_broker.config import Config
    from amqp_broker.server.clock import ServerClock
    from amqp_broker.server.commits import Commits
    from amqp_broker.server.http_backend import Answer, HttpBackend
    from amqp_broker.session.connection import Connection
    from amqp_broker.session.handshake import Login, Opening, Question

_log = logging.getLogger(__name__)

# Hashes at a time: each takes 19 MiB, and a processor.
AT_A_TIME: Final = 2
# Passwords in line behind them.
MOST_WAITING: Final = 1024

# In whose line better hashes are made.
OUR_OWN: Final = ""

# Of whom the service knows and nobody here.
NO_PASSWORD: Final = PasswordHash(SHA256, b"")

TOO_MANY: Final = "too many logins wait"
NO_ANSWER: Final = "no answer of the HTTP backend"


class Authentication(Authenticator):
    """Answers in turns of their own, whose end is that of `Commits`."""

    def __init__(self, broker: Broker, commits: Commits, config: Config, clock: ServerClock) -> None:
        auth = config.auth
        self._broker = broker
        self._commits = commits
        self._clock = clock
        self._workers = Workers("hash", AT_A_TIME, MOST_WAITING)
        self._verified = Verified()
        self._delays = LoginDelays(min(auth.login_delay_max, config.protocol.handshake_timeout / 2))
        self._delayed = DelayedLogins(clock, self._delay_over, self._turn_away)
        self._checks: dict[bytes, _Check] = {}
        self._upgrading: dict[str, PasswordHash] = {}
        self._chain = [backend_of(name) for name in auth.backends]
        self._own_users = any(backend.login == INTERNAL for backend in self._chain)
        self._http: HttpBackend | None = None
        if any(HTTP in (backend.login, backend.rights) for backend in self._chain):
            from amqp_broker.server.http_backend import HttpBackend

            self._http = HttpBackend(auth.http, clock, self.in_turn, self._rights_ended)

    def close(self) -> None:
        self._workers.close()
        if self._http is not None:
            self._http.close()

    def load_certificates(self) -> None:
        """Raises ConfigError that names a file of `auth.http.tls` which cannot be used."""
        if self._http is not None:
            self._http.load_certificates()

    # -- called by sessions

    def greeted(self, connection: Connection) -> None:
        client = self._commits.clients.get(connection)
        if client is not None:
            client.greeted()

    def log_in(self, login: Login) -> None:
        """Next step: `_look`, at once or after a delay."""
        if login.password is None:
            self._look(login)
            return
        address = login.address
        delay = self._delays.delay(address, login.name, login.asked)
        if delay:
            self._delayed.add(login, line_of(address), delay)
        else:
            self._look(login)

    def open_vhost(self, opening: Opening) -> None:
        assert self._http is not None
        self._http.ask_vhost(opening, partial(self._vhost_answered, opening))

    # -- the ways to an answer

    def _delay_over(self, login: Login) -> None:
        self.in_turn(login, partial(self._look, login))

    def _look(self, login: Login) -> None:
        if login.wanted:
            self._ask(_Attempt(login))

    def _ask(self, attempt: _Attempt) -> None:
        """Ask the backend whose turn it is about the login. Next steps: `_rights_of`, or `_next`."""
        if self._chain[attempt.place].login == HTTP:
            assert self._http is not None
            self._http.ask_user(attempt.login, partial(self._user_answered, attempt))
        elif attempt.login.password is None:
            user = self._broker.users.get(attempt.login.name)
            if user is None:
                self._next(attempt)
            else:
                self._rights_of(attempt, user)
        else:
            self._ask_own_users(attempt)

    def _next(self, attempt: _Attempt, reason: str = "", *, answered: bool = True) -> None:
        """A backend did not let the client in. The last one decides what becomes of it."""
        login = attempt.login
        attempt.place += 1
        if attempt.place < len(self._chain):
            self._ask(attempt)
        elif answered:
            self._refuse(login, reason or invalid_credentials(login.name))
        else:
            if self._own_users and login.password is not None:
                # The password was wrong here: that the service is away does not make guessing cheaper.
                self._delays.failed(login.address, login.name, self._clock.monotonic())
            login.drop(NO_ANSWER, self._clock.monotonic())

    def _ask_own_users(self, attempt: _Attempt) -> None:
        """Answer at once, or have the password checked. Next step: `checked`."""
        login = attempt.login
        user, password = self._broker.users.get(login.name), login.password
        assert password is not None
        key = self._key(login, user)
        if user is not None and not login.comes_from_outside:
            stored = user.password
            if self._verified.holds(key) if stored.is_costly else stored.is_of(password):
                self._fits(attempt, user)
                return
        check = self._checks.get(key)
        if check is not None:
            check.attempts.append(attempt)
        else:
            check = _Check(self, key, password, None if user is None else user.password)
            # Before it is in line: who makes room there passes over what nobody waits for.
            check.attempts.append(attempt)
            if self._workers.take_nowait(check, line_of(login.address)):
                self._checks[key] = check
            else:
                self._turn_away(login)

    def checked(self, check: _Check, error: BaseException | None) -> None:
        """A password was compared with a hash. Next step, for each login that waited: `_checked`."""
        self.forget(check)
        if check.fits:
            self._verified.remember(check.key)
        for attempt in check.attempts:
            if attempt.login.wanted:
                self.in_turn(attempt.login, partial(self._checked, attempt, check, error))

    def forget(self, check: _Check) -> None:
        self._checks.pop(check.key, None)

    def _checked(self, attempt: _Attempt, check: _Check, error: BaseException | None) -> None:
        login = attempt.login
        user = self._broker.users.get(login.name)
        if isinstance(error, Crowded):
            self._turn_away(login)
        elif error is not None:
            _log.error("%s: the password could not be checked: %r", login.connection.name, error)
            login.drop("the password could not be checked", self._clock.monotonic())
        elif check.key != self._key(login, user):
            # The user's password was changed meanwhile.
            self._ask_own_users(attempt)
        elif check.fits and user is not None:
            self._fits(attempt, user)
        else:
            self._next(attempt)

    def _user_answered(self, attempt: _Attempt, answer: Answer) -> None:
        if not answer.allowed:
            self._next(attempt, answered=answer.allowed is not None)
            return
        login = attempt.login
        user = self._broker.users.get(login.name)
        if self._chain[attempt.place].rights == HTTP:
            assert self._http is not None
            # Limits of a user of this name count, and who removes that user ends the connection.
            account = user or User(login.name, NO_PASSWORD, answer.tags)
            self._let_in(login, account, JudgedRights(login.name, answer.tags, self._http))
        elif user is not None:
            self._let_in(login, user)
        else:
            reason = (
                f"user '{shown(login.name)}' - allowed by the HTTP backend, but there is no such user here"
            )
            self._next(attempt, reason)

    def _rights_of(self, attempt: _Attempt, user: User) -> None:
        """One of our own users. Whose rights the service knows has to be known to it."""
        if self._chain[attempt.place].rights == HTTP:
            assert self._http is not None
            self._http.ask_user(attempt.login, partial(self._known_to_service, attempt, user))
        else:
            self._let_in(attempt.login, user)

    def _known_to_service(self, attempt: _Attempt, user: User, answer: Answer) -> None:
        if answer.allowed:
            assert self._http is not None
            self._let_in(attempt.login, user, JudgedRights(user.name, user.tags, self._http))
        else:
            self._next(attempt, answered=answer.allowed is not None)

    def _vhost_answered(self, opening: Opening, answer: Answer) -> None:
        now = self._clock.monotonic()
        if answer.allowed is None:
            opening.drop(NO_ANSWER, now)
        elif answer.allowed:
            opening.allow(now)
        else:
            opening.refuse(now)

    def _rights_ended(self, vhosts: Iterable[str]) -> None:
        """What channels have found out there has to be found out again."""
        for name in vhosts:
            vhost = self._broker.vhosts.get(name)
            if vhost is not None:
                vhost.generation += 1

    # -- answers

    def _fits(self, attempt: _Attempt, user: User) -> None:
        """The password fits the user's hash. One that is kept and out of date is made anew, for the next time."""
        password = attempt.login.password
        assert password is not None
        old = user.password
        if user.key and not old.is_current and self._upgrading.get(user.name) is not old:
            upgrade = _Upgrade(self, user, password)
            if self._workers.take_nowait(upgrade, OUR_OWN):
                self._upgrading[user.name] = old
        self._rights_of(attempt, user)

    def _let_in(self, login: Login, user: User, rights: Rights | None = None) -> None:
        if login.comes_from_outside:
            self._refuse(login, only_from_here(login.name))
            return
        if login.password is not None:
            self._delays.succeeded(login.address, login.name)
        login.allow(user, self._clock.monotonic(), rights)

    def _refuse(self, login: Login, reason: str) -> None:
        now = self._clock.monotonic()
        if login.password is not None:
            self._delays.failed(login.address, login.name, now)
        login.refuse(reason, now)

    def _turn_away(self, login: Login) -> None:
        login.drop(TOO_MANY, self._clock.monotonic())

    def upgraded(self, upgrade: _Upgrade, error: BaseException | None) -> None:
        """Keep a better hash of a user's password, unless it was changed meanwhile."""
        user, new = upgrade.user, upgrade.new
        self.passed_over(upgrade)
        if error is not None:
            _log.warning("user '%s' keeps the hash there was: %r", shown(user.name), error)
        elif upgrade.wanted and self._broker.users.get(user.name) is user:
            self._commits.timer.begin_turn()
            self._broker.put_user(user.name, new, user.tags, user.limits)
            key = self._verified.key(_octets(user.name), new.octets, upgrade.password)
            self._verified.remember(key)
            self._commits.finish_turn()
            _log.info("the password of user '%s' is kept by argon2id from now on", shown(user.name))

    def passed_over(self, upgrade: _Upgrade) -> None:
        if self._upgrading.get(upgrade.user.name) is upgrade.old:
            del self._upgrading[upgrade.user.name]

    def in_turn(self, question: Question, answer: Callable[[], None]) -> None:
        """Answer a session in a turn of its own, and go on with what its client sent meanwhile."""
        self._commits.timer.begin_turn()
        try:
            answer()
        except StoreError as error:
            self._commits.give_up(error)
            return
        except Exception:
            _log.exception("%s: internal error", question.connection.name)
            question.connection.crashed()
        self._commits.finish_turn()
        # Who waited for the answer is read from again.
        self._commits.release(question.connection)

    def _key(self, login: Login, user: User | None) -> bytes:
        """Of one password for one user with one hash: changes with each of them."""
        stored = b"" if user is None else user.password.octets
        return self._verified.key(_octets(login.name), stored, login.password or b"")


class _Attempt:
    """A login on its way along the chain of backends. place: of the one that is asked."""

    __slots__ = ("login", "place")

    def __init__(self, login: Login) -> None:
        self.login = login
        self.place = 0


class _Check(Job):
    """Compare a password with a hash, for all logins that say the same.

    stored: None if there is no such user. Whatever does not take its time by itself is made to.
    """

    def __init__(
        self, authentication: Authentication, key: bytes, password: bytes, stored: PasswordHash | None
    ) -> None:
        self.key = key
        self.fits = False
        self.attempts: list[_Attempt] = []
        self._authentication = authentication
        self._password = password
        self._stored = stored

    @property
    def wanted(self) -> bool:
        return any(attempt.login.wanted for attempt in self.attempts)

    def work(self) -> None:
        stored = self._stored
        if stored is None or not stored.is_current or not self._password:
            strong_hash(self._password)
        self.fits = stored is not None and stored.is_of(self._password)

    def done(self, error: BaseException | None) -> None:
        self._authentication.checked(self, error)

    def passed_over(self) -> None:
        self._authentication.forget(self)


class _Upgrade(Job):
    """Make a hash by argon2id of a password that was right."""

    def __init__(self, authentication: Authentication, user: User, password: bytes) -> None:
        self.user = user
        self.password = password
        self.new = user.password
        self._authentication = authentication
        self.old = user.password

    @property
    def wanted(self) -> bool:
        return self.user.password is self.old

    def work(self) -> None:
        self.new = strong_hash(self.password, self.old)

    def done(self, error: BaseException | None) -> None:
        self._authentication.upgraded(self, error)

    def passed_over(self) -> None:
        self._authentication.passed_over(self)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
