"""Logins that wait because of wrong passwords before them: so many of one address at a time, the others behind them.

How long each has to wait is said by `LoginDelays`. Clients that have left are passed over. All together are bounded:
when there is no room, the last of the longest line has to go, so that whoever fills it keeps out nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amqp_broker.server.clock import ServerClock
    from amqp_broker.session.handshake import Login

# Of one address, and of all together with those behind them.
AT_A_TIME: Final = 32
MOST: Final = 1024


class _Line:
    """begun: logins of an address whose time runs. waiting: those behind them, with their delays in seconds."""

    __slots__ = ("begun", "waiting")

    def __init__(self) -> None:
        self.begun = 0
        self.waiting: deque[tuple[Login, float]] = deque()


class DelayedLogins:
    """over: called by the event loop with a login that has waited. crowded: with one that there is no room for."""

    def __init__(
        self, clock: ServerClock, over: Callable[[Login], None], crowded: Callable[[Login], None]
    ) -> None:
        self.count = 0
        self._call_later = clock.call_later
        self._over = over
        self._crowded = crowded
        self._lines: dict[str, _Line] = {}

    def add(self, login: Login, address: str, delay: float) -> None:
        if self.count >= MOST and not self._make_room(address):
            self._crowded(login)
            return
        self.count += 1
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line()
        line.waiting.append((login, delay))
        self._begin(address, line)

    def _begin(self, address: str, line: _Line) -> None:
        while line.waiting and line.begun < AT_A_TIME:
            login, delay = line.waiting.popleft()
            if login.wanted:
                line.begun += 1
                self._call_later(delay, self._end, login, address)
            else:
                self.count -= 1
        if not line.begun:
            del self._lines[address]

    def _end(self, login: Login, address: str) -> None:
        line = self._lines[address]
        line.begun -= 1
        self.count -= 1
        self._begin(address, line)
        self._over(login)

    def _make_room(self, address: str) -> bool:
        longest = max(self._lines.values(), key=lambda line: len(line.waiting))
        own = self._lines.get(address)
        if len(longest.waiting) <= (0 if own is None else len(own.waiting)) + 1:
            return False
        login, _ = longest.waiting.pop()
        self.count -= 1
        self._crowded(login)
        return True
