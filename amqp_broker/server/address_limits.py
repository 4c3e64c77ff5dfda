"""How many connections an address may have, and how many it may open a second.

An address counts as `login_delays.network_of` has it: of IPv6, the first 64 bits. It is asked before a connection costs
anything, such as a TLS handshake, and is told when one has ended. What is refused is closed without a word and is
logged once in a while. Unix sockets have no address and do not come here.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from amqp_broker.server.login_delays import network_of

_log = logging.getLogger(__name__)

# Addresses whose rate is remembered, those that came last.
MOST_RATES: Final = 10_000
# How many seconds of the rate may be used up at once: clients come in bursts.
BURST: Final = 10.0
# Between two log lines.
LOG_INTERVAL: Final = 10.0


class AddressLimits:
    """most: connections of one address at a time; rate: how many it may open a second on average; 0 for any number."""

    def __init__(self, most: int, rate: int) -> None:
        self._most = most
        self._rate = rate
        self._connections: dict[bytes, int] = {}
        # When each address will have paid for what it has opened, in the time it takes at the rate.
        self._paid: OrderedDict[bytes, float] = OrderedDict()
        self._refused = 0
        self._last_log = float("-inf")

    def enter(self, host: str, now: float) -> bool:
        """Whether one more connection from there may stay; if so, `leave` is due when it has ended."""
        network = network_of(host)
        connections = self._connections.get(network, 0)
        if self._most and connections >= self._most:
            text = f"{connections} are open, as many as limits.connections_per_address allows"
            return self._refuse(host, now, text)
        if self._rate and not self._pay(network, now):
            return self._refuse(host, now, f"more than limits.connection_rate_per_address = {self._rate}")
        if self._most:
            self._connections[network] = connections + 1
        return True

    def leave(self, host: str) -> None:
        if self._most:
            network = network_of(host)
            connections = self._connections[network] - 1
            if connections:
                self._connections[network] = connections
            else:
                del self._connections[network]

    def _pay(self, network: bytes, now: float) -> bool:
        paid = max(self._paid.pop(network, now), now) + 1 / self._rate
        affordable = paid - now <= BURST
        self._paid[network] = paid if affordable else paid - 1 / self._rate
        if len(self._paid) > MOST_RATES:
            self._paid.popitem(last=False)
        return affordable

    def _refuse(self, host: str, now: float, reason: str) -> bool:
        self._refused += 1
        if now - self._last_log >= LOG_INTERVAL:
            _log.warning(
                "connections are refused (%d since the last such line); one from %s: %s",
                self._refused,
                host,
                reason,
            )
            self._last_log = now
            self._refused = 0
        return False
