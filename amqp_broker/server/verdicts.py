"""What a service allowed lately, kept for so many seconds: answers about logins, and about rights.

Both are known by keyed digests, so neither passwords nor long names are kept, and there is a bound to how many. Who
publishes keeps what came of a right along with the route, so `AllowedRights` announces those that end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amqp_broker.server.clock import Cancellable, ServerClock

MOST_REMEMBERED: Final = 10_000
# Between two looks for rights that have ended, seconds.
LOOK_AGAIN: Final = 1.0


class Answers:
    """Texts that count for `lasts` seconds; for none if that is 0."""

    def __init__(self, lasts: float) -> None:
        self._lasts = lasts
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: bytes, now: float) -> str | None:
        found = self._known.get(key)
        if found is None:
            return None
        ends, text = found
        if now >= ends:
            del self._known[key]
            return None
        return text

    def remember(self, key: bytes, text: str, now: float) -> None:
        if not self._lasts:
            return
        self._known[key] = (now + self._lasts, text)
        self._known.move_to_end(key)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)


class AllowedRights:
    """Rights that count for `lasts` seconds. ended: told the virtual hosts in which rights do not count any more."""

    def __init__(self, lasts: float, clock: ServerClock, ended: Callable[[Iterable[str]], None]) -> None:
        self._lasts = lasts
        self.clock = clock
        self._ended = ended
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._forgotten: set[str] = set()
        self._look: Cancellable | None = None

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, key: bytes) -> bool:
        found = self._known.get(key)
        return found is not None and self.clock.monotonic() < found[0]

    def remember(self, key: bytes, vhost: str) -> None:
        self._known[key] = (self.clock.monotonic() + self._lasts, vhost)
        self._known.move_to_end(key)
        if len(self._known) > MOST_REMEMBERED:
            _, (_, forgotten) = self._known.popitem(last=False)
            self._forgotten.add(forgotten)
        if self._look is None:
            self._look = self.clock.call_later(max(self._lasts, LOOK_AGAIN), self._look_for_ended)

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _look_for_ended(self) -> None:
        now = self.clock.monotonic()
        vhosts, self._forgotten = self._forgotten, set()
        self._look = None
        while self._known:
            ends, vhost = next(iter(self._known.values()))
            if ends > now:
                self._look = self.clock.call_later(max(ends - now, LOOK_AGAIN), self._look_for_ended)
                break
            self._known.popitem(last=False)
            vhosts.add(vhost)
        self._ended(vhosts)
