"""Every option of the broker, each declared here once: type, default, allowed values, unit and advice.

The sections are frozen structs, so `config.limits.connection_max` is typed and nobody can change it; what
is said about an option beside its type stands in its annotation. The TOML reader, the environment
variables, the flags, `conf/broker.toml` and `docs/configuration.md` derive from `options()`. Nothing here
reads a file, and there is no global configuration: whoever needs one is given one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec

from amqp_broker.config.auth import Auth
from amqp_broker.config.limits import Limits
from amqp_broker.config.listeners import Listeners
from amqp_broker.config.option import Option, Section
from amqp_broker.config.tls import Tls
from amqp_broker.config.values import (
    Choice,
    Directory,
    Duration,
    Integer,
    Properties,
    Property,
    Seconds,
    Size,
    Text,
)


def default_directory() -> Path:
    """/var/lib/amqp-broker for root, else amqp-broker under $XDG_DATA_HOME or ~/.local/share."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/amqp-broker")
    home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG base directory rules have a relative path ignored.
    return (Path(home) if os.path.isabs(home) else Path("~/.local/share").expanduser()) / "amqp-broker"


def default_cluster_name() -> str:
    return "rabbit@" + (socket.gethostname().partition(".")[0] or "localhost")


class ClusterName(Text):
    """A cluster's name; "" stands for rabbit@ and this machine's name."""

    def __init__(self) -> None:
        super().__init__('a string of at most 255 bytes, or "" for rabbit@ and the host name', max_bytes=255)

    def parse(self, value: object) -> str:
        return super().parse(value) or default_cluster_name()

    def toml(self, value: str) -> str:
        return super().toml("" if value == default_cluster_name() else value)


class Data(Section, frozen=True, kw_only=True):
    """Where and how messages are kept."""

    directory: Annotated[
        Path,
        Option(
            Directory(default_directory()),
            """Where durable definitions and messages are kept; it is made if it is missing. "" stands for
            /var/lib/amqp-broker when started by root, else for amqp-broker in $XDG_DATA_HOME or
            ~/.local/share. Only one broker can use it at a time, and it must be on a local disk: locks and
            memory maps on network file systems cannot be trusted. A leading ~ is the home directory.""",
            flag="--data-dir",
        ),
    ] = msgspec.field(default_factory=default_directory)
    durability: Annotated[
        str,
        Option(
            Choice("commit", "process"),
            """What a publisher confirm promises. "commit": the message is on the disk (fsync) and survives
            a power cut. "process": it has been handed to the operating system and survives a crash of the
            broker, but not of the machine; on slow disks confirms come much sooner.""",
        ),
    ] = "commit"
    map_size: Annotated[
        int,
        Option(
            Size(16 * 2**20, 64 * 2**40),
            """The most that the data directory can hold. It reserves address space, neither memory nor
            disk, and grows by itself when it is reached; lower it only where address space is limited
            (ulimit -v, some containers, 32-bit systems).""",
        ),
    ] = 2**40
    writer: Annotated[
        str,
        Option(
            Choice("process", "thread"),
            """Who writes to the disk. "process": a child process, so that writing uses a core of its own
            and a slow disk never holds up deliveries. "thread": a thread of the broker, for places where no
            child process may be started; it costs throughput and confirm latency under load.""",
        ),
    ] = "process"
    load_definitions: Annotated[
        str,
        Option(
            Text(),
            """A file of definitions, in RabbitMQ's JSON, that is loaded at every start and again on SIGHUP:
            virtual hosts, users, policies, queues and the like. What is there already is changed or kept,
            never removed. A file with a mistake changes nothing, and stops a start. "" loads none.""",
        ),
    ] = ""


class Protocol(Section, frozen=True, kw_only=True):
    """What the broker offers and says during the handshake."""

    heartbeat: Annotated[
        int,
        Option(
            Seconds(0, 65535),
            """The interval of heartbeats that is suggested to clients. A peer from which nothing came for
            two intervals is taken for dead. Values below 5s close healthy connections on busy networks; 0
            suggests none, so that only the system notices a dead peer, which can take hours.""",
        ),
    ] = 60
    frame_max: Annotated[
        int,
        Option(
            Size(4096, 128 * 2**20),
            """The largest frame that is offered to clients. A larger message travels in several frames.
            Larger frames gain little and let one connection hold up the others for longer.""",
        ),
    ] = 131072
    channel_max: Annotated[
        int,
        Option(
            Integer(1, 65535, "channels"),
            """The most channels a connection may open. It stops a client that opens channels and forgets
            them; a healthy one needs a few per thread.""",
        ),
    ] = 2047
    max_message_size: Annotated[
        int,
        Option(
            Size(1, 512 * 2**20),
            """The largest message body that is accepted; a larger one closes the channel with 406
            PRECONDITION_FAILED. A message lies in memory whole while it is received, so a few hundred
            publishers of the largest size need that many times as much memory.""",
        ),
    ] = 128 * 2**20
    handshake_timeout: Annotated[
        float,
        Option(
            Duration(0.1, 600),
            """How long a client may take from connecting to having opened its virtual host, with a PROXY header
            and a TLS handshake where there are such. It keeps port scanners and half-open
            connections from piling up; raise it for clients behind very slow links.""",
        ),
    ] = 10.0
    x_death_from_clients: Annotated[
        str,
        Option(
            Choice("honour", "ignore"),
            """What becomes of a header x-death that a client publishes. "honour", as RabbitMQ 3 does: deaths
            are counted on from it, which consumers rely on that publish a message again with its headers to
            try it once more. "ignore", as RabbitMQ 4 does: the header is taken out of the message, so that
            x-death tells only what the broker did, and nobody can make up a history.""",
        ),
    ] = "honour"
    product: Annotated[
        str,
        Option(
            Text("a string of 1 to 255 bytes", 1, 255),
            """The product that is announced. Several clients switch their behaviour on this name, so leave
            it unless you know that yours do not. The broker's own name and version are announced beside
            it.""",
        ),
    ] = "RabbitMQ"
    version: Annotated[
        str,
        Option(
            Text("a string of 1 to 255 bytes", 1, 255),
            """The product version that is announced. Clients use it to choose features: announce a version
            whose behaviour you want from them.""",
        ),
    ] = "3.13.7"
    cluster_name: Annotated[
        str,
        Option(
            ClusterName(),
            """The name of the cluster that is announced. It helps people to see which broker a client is
            connected to. "" stands for rabbit@ followed by this machine's name.""",
        ),
    ] = msgspec.field(default_factory=default_cluster_name)
    server_properties: Annotated[
        Mapping[str, Property],
        Option(
            Properties(),
            """More properties to announce to clients, such as { region = "eu" }. They come last and replace
            what the broker says under the same name.""",
        ),
    ] = msgspec.field(default_factory=lambda: MappingProxyType({}))


class Log(Section, frozen=True, kw_only=True):
    """What the broker says about itself."""

    level: Annotated[
        str,
        Option(
            Choice("debug", "info", "warning", "error"),
            """The least important messages that are logged. "info" writes a line per connection; choose
            "warning" if clients connect for every message they send.""",
            flag="--log-level",
        ),
    ] = "info"
    file: Annotated[
        str,
        Option(
            Text(),
            """The file that log lines are appended to; "" writes them to standard error, which is what
            systemd and containers expect. Lines are only appended: rotate it by copying and truncating.""",
        ),
    ] = ""
    format: Annotated[
        str,
        Option(
            Choice("text", "json"),
            """The form of a log line: "text" for people, "json" (an object a line) for collectors.""",
        ),
    ] = "text"


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration. `Config()` is the default one."""

    listeners: Listeners = msgspec.field(default_factory=Listeners)
    tls: Tls = msgspec.field(default_factory=Tls)
    data: Data = msgspec.field(default_factory=Data)
    auth: Auth = msgspec.field(default_factory=Auth)
    protocol: Protocol = msgspec.field(default_factory=Protocol)
    limits: Limits = msgspec.field(default_factory=Limits)
    log: Log = msgspec.field(default_factory=Log)


@cache
def sections() -> Mapping[str, type[Section]]:
    """The struct of each table by its dotted path, in the order of declaration; "" is the whole."""
    return dict(_sections("", Config))


@cache
def options() -> Mapping[str, Option]:
    """Every option by its dotted path, in the order of declaration."""
    found: dict[str, Option] = {}
    for prefix, section in sections().items():
        defaults = section()
        for name, hint in get_type_hints(section, include_extras=True).items():
            if get_origin(hint) is Annotated:
                option: Option = get_args(hint)[1]
                option.path = f"{prefix}.{name}"
                option.default = getattr(defaults, name)
                found[option.path] = option
    return found


def _sections(prefix: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    yield prefix, section
    for name, hint in get_type_hints(section).items():
        if isinstance(hint, type) and issubclass(hint, Section):
            yield from _sections(f"{prefix}.{name}" if prefix else name, hint)
