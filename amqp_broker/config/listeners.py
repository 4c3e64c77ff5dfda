"""The options of the section `listeners`."""

from __future__ import annotations

from typing import Annotated

from amqp_broker.config.option import Option, Section
from amqp_broker.config.values import Address, Addresses, Integer, Switch, Text, Texts


class Listeners(Section, frozen=True, kw_only=True):
    """Where clients connect."""

    tcp: Annotated[
        tuple[Address, ...],
        Option(
            Addresses(),
            """The addresses that accept AMQP connections without TLS. The default is reachable from this
            machine only; write "0.0.0.0:5672" and "[::]:5672" to accept from everywhere (each of the two
            stands for one version of IP alone), and change the default user's password first. Port 0 takes
            a free port, which the line printed at the start names. An empty list accepts none. The flags
            --bind and --port override it: --bind replaces the list by one address, --port changes the port
            of what is left.""",
            flag="--bind, --port",
        ),
    ] = (Address("127.0.0.1", 5672),)
    tls: Annotated[
        tuple[Address, ...],
        Option(
            Addresses(),
            """The addresses that accept AMQP connections with TLS (AMQPS), usually port 5671. Section [tls]
            says with which certificate. Set tcp to an empty list if nobody is to connect without TLS.""",
        ),
    ] = ()
    unix: Annotated[
        tuple[str, ...],
        Option(
            Texts(Text("a path", 1, 100), "a list of distinct paths"),
            """Paths of Unix sockets that accept AMQP connections from this machine. Owner and group of the
            file may connect (mode 0660). A file that a killed broker left is replaced, one that somebody
            listens on is refused.""",
        ),
    ] = ()
    proxy_protocol: Annotated[
        bool,
        Option(
            Switch(),
            """Whether connections to tcp and tls come through a proxy that sends a PROXY protocol header,
            version 1 or 2, ahead of everything else. It is believed, so let only the proxy reach these
            addresses. A connection without it is closed. Unix sockets take none.""",
        ),
    ] = False
    backlog: Annotated[
        int,
        Option(
            Integer(1, 65535, "connections"),
            """How many connections the system may have accepted that the broker has not taken yet. Raise it
            if clients that all reconnect at once are refused; Linux cuts it to net.core.somaxconn.""",
        ),
    ] = 1024
    nodelay: Annotated[
        bool,
        Option(
            Switch(),
            """Whether small writes are sent at once (TCP_NODELAY). The broker already joins what it has to
            say to a connection into one write, so false buys nothing but latency.""",
        ),
    ] = True
    busy_wait: Annotated[
        int,
        Option(
            Integer(0, 100_000, "microseconds"),
            """How many microseconds the broker looks for more to do before it sleeps, each time a client
            has said something. A processor takes about as long to wake up as a small message takes through
            the broker, so this halves the latency of light traffic, for at most that much processor time a
            message; other processes go first. An idle broker does not wait busily. 0 saves the processor
            time.""",
        ),
    ] = 100
