"""What a run shall do: the flags of the command as one checked value, and the shares of several processes.

Settings are frozen and picklable; wrong combinations raise SettingsError with a sentence for the user.
Nothing here connects or prints.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from amqp_broker.perf.frames import STAMPED_SIZE
from amqp_broker.perf.methods import FieldValue

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
FLAGS = ("persistent", "mandatory")
LEAST = {
    "producers": ("--producers", 0),
    "consumers": ("--consumers", 0),
    "producer_channels": ("--producer-channel-count", 1),
    "consumer_channels": ("--consumer-channel-count", 1),
    "size": ("--size", 0),
    "multi_ack_every": ("--multi-ack-every", 0),
    "qos": ("--qos", 0),
    "global_qos": ("--global-qos", 0),
    "producer_messages": ("--pmessages", 0),
    "consumer_messages": ("--cmessages", 0),
    "seconds": ("--time", 0),
    "confirm_timeout": ("--confirm-timeout", 0),
    "frame_max": ("--framemax", 4096),
    "heartbeat": ("--heartbeat", 0),
    "processes": ("--processes", 1),
}


class SettingsError(ValueError):
    """The run cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class Address:
    """Where and as whom to connect."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool


def parse_uri(uri: str) -> Address:
    """An address from `amqp://user:password@host:port/vhost`, every part after the scheme optional.

    As in RabbitMQ's URI specification, no path means the vhost `/`, and a bare slash the vhost whose name is
    empty; percent escapes are decoded in user, password and vhost. `amqps` connects with TLS.
    """
    parts = urlsplit(uri)
    if parts.scheme not in DEFAULT_PORTS:
        raise SettingsError(f"uri {uri!r} must start with amqp:// or amqps://")
    try:
        port = parts.port
    except ValueError as wrong:
        raise SettingsError(f"uri {uri!r}: {wrong}") from wrong
    return Address(
        host=unquote(parts.hostname or "localhost"),
        port=port if port is not None else DEFAULT_PORTS[parts.scheme],
        user=unquote(parts.username if parts.username is not None else "guest"),
        password=unquote(parts.password if parts.password is not None else "guest"),
        vhost=unquote(parts.path[1:]) if parts.path else "/",
        tls=parts.scheme == "amqps",
    )


def parse_arguments(text: str) -> dict[str, FieldValue]:
    """Queue arguments from `key=value,key=value`; whole numbers and true/false become what they say."""
    arguments: dict[str, FieldValue] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = entry.partition("=")
        if not equals:
            raise SettingsError(f"queue argument {entry!r} must have the form key=value")
        arguments[key] = _field(value)
    return arguments


def _field(value: str) -> FieldValue:
    words: dict[str, FieldValue] = {"true": True, "false": False}
    if value in words:
        return words[value]
    try:
        return int(value)
    except ValueError:
        return value


def parse_boolean(text: str) -> bool:
    """Raises SettingsError for anything but true and false."""
    if text.lower() not in ("true", "false"):
        raise SettingsError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def parse_names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name for name in text.split(",") if name)


def sequence(pattern: str, first: int, last: int) -> tuple[str, ...]:
    """Names made of a pattern such as `perf-%d` and the numbers from `first` to `last`, both included."""
    try:
        return tuple(pattern % number for number in range(first, last + 1))
    except (TypeError, ValueError) as wrong:
        raise SettingsError(f"queue pattern {pattern!r} must hold one %d") from wrong


def parse_flags(values: list[str]) -> frozenset[str]:
    """Message flags, each given by itself or several separated by commas."""
    flags = frozenset(flag for value in values for flag in value.split(",") if flag)
    for unknown in sorted(flags - set(FLAGS)):
        raise SettingsError(f"unknown message flag {unknown!r}; there are {' and '.join(FLAGS)}")
    return flags


@dataclass(frozen=True)
class Settings:
    """One run. Counts and rates are per producer or consumer channel; 0 means unlimited or off."""

    uri: str = "amqp://guest:guest@localhost:5672"
    name: str = ""
    producers: int = 1
    consumers: int = 1
    producer_channels: int = 1
    consumer_channels: int = 1
    size: int = STAMPED_SIZE
    rate: float = 0.0
    confirm: int = 0
    confirm_timeout: float = 30.0
    autoack: bool = False
    multi_ack_every: int = 0
    qos: int = 0
    global_qos: int = 0
    flags: frozenset[str] = frozenset()
    durable: bool = False
    auto_delete: bool = True
    queue_names: tuple[str, ...] = ()
    queue_per_key: bool = False
    queue_arguments: Mapping[str, FieldValue] = field(default_factory=dict)
    exchange: str = "direct"
    exchange_type: str = "direct"
    routing_key: str = ""
    predeclared: bool = False
    skip_binding: bool = False
    producer_messages: int = 0
    consumer_messages: int = 0
    seconds: float = 0.0
    interval: float = 1.0
    drain_seconds: float = 5.0
    frame_max: int = 131072
    heartbeat: int = 60
    use_millis: bool = False
    processes: int = 1
    first_producer: int = 0
    first_consumer: int = 0
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_uri(self.uri))
        if not self.routing_key:
            # one named queue is bound by its name, as PerfTest does; several are bound by a key of the run
            own_key = self.queue_names[0] if len(self.queue_names) == 1 else str(uuid.uuid4())
            object.__setattr__(self, "routing_key", own_key)
        self._check_ranges()
        if self.producers == 0 and self.consumers == 0:
            raise SettingsError("nothing to do: neither --producers nor --consumers")
        if self.autoack and self.multi_ack_every:
            raise SettingsError("--autoack and --multi-ack-every exclude each other")
        window = min(filter(None, (self.qos, self.global_qos)), default=0)
        if not self.autoack and window and self.multi_ack_every > window:
            every = self.multi_ack_every
            raise SettingsError(
                f"--multi-ack-every {every} exceeds the prefetch of {window}: delivery would stop"
            )
        if self.queue_per_key and not self.queue_names:
            raise SettingsError("no queues: --queue-pattern-to is below --queue-pattern-from")

    def _check_ranges(self) -> None:
        for name, (flag, lowest) in LEAST.items():
            if getattr(self, name) < lowest:
                raise SettingsError(f"{flag} must be at least {lowest}")
        if max(self.qos, self.global_qos, self.heartbeat) > 65535:
            raise SettingsError("--qos, --global-qos and --heartbeat must be at most 65535")
        if self.interval <= 0:
            raise SettingsError("--interval must be above 0")

    @property
    def persistent(self) -> bool:
        return "persistent" in self.flags

    @property
    def mandatory(self) -> bool:
        return "mandatory" in self.flags

    @property
    def default_exchange(self) -> bool:
        return self.exchange in ("", "amq.default")

    @property
    def producer_agents(self) -> int:
        """Channels that publish, in this share."""
        return self.producers * self.producer_channels

    def key_for(self, producer: int) -> str:
        """The routing key of a producer connection, counted from 0 over all processes."""
        if self.queue_per_key:
            return self.queue_names[producer % len(self.queue_names)]
        return self.routing_key

    def queues_for(self, consumer: int) -> tuple[str, ...]:
        """The queues of a consumer connection, counted likewise; empty: its own, named by the broker."""
        if self.queue_per_key:
            return (self.queue_names[consumer % len(self.queue_names)],)
        return self.queue_names

    def copies(self) -> int | None:
        """In how many consumed queues a published message ends up; None where only the broker knows."""
        if self.skip_binding or self.consumers == 0:
            return None
        if self.queue_per_key:
            used = {self.key_for(number) for number in range(self.producers)}
            consumed = {queue for number in range(self.consumers) for queue in self.queues_for(number)}
            return 1 if self.exchange_type in ("direct", "topic") and used <= consumed else None
        if self.default_exchange:
            return 1 if self.routing_key in self.queue_names else None
        if self.exchange_type not in ("direct", "fanout", "topic"):
            return None
        return len(set(self.queue_names)) or self.consumers * self.consumer_channels


def shares(settings: Settings) -> list[Settings]:
    """The settings of each process: connections dealt out as evenly as they go, no process without any."""
    count = min(settings.processes, settings.producers + settings.consumers)
    dealt: list[Settings] = []
    first_producer, first_consumer = 0, 0
    for index in range(count):
        producers = settings.producers // count + (index < settings.producers % count)
        # consumers are dealt from the other end, so that one of each does not fall to one process of two
        consumers = settings.consumers // count + (count - 1 - index < settings.consumers % count)
        dealt.append(
            replace(
                settings,
                producers=producers,
                consumers=consumers,
                first_producer=first_producer,
                first_consumer=first_consumer,
            )
        )
        first_producer += producers
        first_consumer += consumers
    return dealt
