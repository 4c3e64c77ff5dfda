"""Clients that sent more than a turn has time for, in line for their next turns.

A turn of one client ends when it has taken its few milliseconds, however many octets are left, and its socket is not
read until they are handled. Between two such turns the event loop looks at all other sockets, and of those that are
behind only one has its turn then: however many there are, everybody else waits for one of them at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqp_broker.server.client import Client


class Behind:
    """Whoever is added has one turn, `Client.catch_up`. soon: has something called after a look at all sockets."""

    def __init__(self, soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._line: deque[Client] = deque()
        self._soon = soon or _after_a_look

    def add(self, client: Client) -> None:
        self._line.append(client)
        if len(self._line) == 1:
            self._soon(self._next)

    def _next(self) -> None:
        client = self._line[0]
        try:
            client.catch_up()
        finally:
            self._line.popleft()
            if self._line:
                self._soon(self._next)


def _after_a_look(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)
