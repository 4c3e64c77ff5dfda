"""The options of the section `limits` that concern single addresses."""

from __future__ import annotations

from typing import Annotated

from amqp_broker.config.option import Option, Section
from amqp_broker.config.values import Integer


class AddressLimits(Section, frozen=True, kw_only=True):
    """What a single address may do, whoever logs in from there."""

    connections_per_address: Annotated[
        int,
        Option(
            Integer(0, 10_000_000, "connections"),
            """The most connections from one IPv4 address, or from one IPv6 network of 64 bits, at a time; 0 sets
            no limit. More are closed without an answer, before a TLS handshake. Clients behind one NAT or one
            proxy share an address, unless the proxy tells theirs (listeners.proxy_protocol). Unix sockets are
            not counted.""",
        ),
    ] = 0
    connection_rate_per_address: Annotated[
        int,
        Option(
            Integer(0, 1_000_000, "connections a second"),
            """How many connections one address may open a second on average, ten seconds' worth at once; 0 sets
            no limit. It counts addresses as connections_per_address does. All clients of a machine that has
            lost its network come back at once: leave room for them.""",
        ),
    ] = 0
