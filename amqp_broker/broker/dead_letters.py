"""What becomes of a message that died: its new headers and keys, and the queues it may not go back to.

The rules are those of RabbitMQ 3.10 (rabbit_dead_letter), to the order of the fields; consumers parse these headers.
Of 3.13 come the headers that name the last death.
All of it follows from the message's header and address, the death and the way it is to go; so what is made of one
message does for the next ones with the same header, until the second is over. Publishing the result is the virtual
host's business.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.host import REJECTED
from amqp_broker.broker.message import Message
from amqp_broker.content.header import (
    EXPIRATION,
    HEADERS,
    LONGEST_REWRITTEN,
    MOST_REWRITTEN,
    ContentHeader,
    rebuilt,
)
from amqp_broker.content.table import Field

DEATHS: Final = "x-death"
MOST_DEATHS: Final = (1 << 63) - 1
_CC: Final = b"\x02CC"
_BCC: Final = b"\x03BCC"


class Death:
    """One death. queue: where it happened; reason: in RabbitMQ's words; time: seconds since the epoch."""

    __slots__ = ("queue", "reason", "time")

    def __init__(self, queue: str, reason: str, time: int) -> None:
        self.queue: str = queue
        self.reason: str = reason
        self.time: int = time


class Letter:
    """What dead letters that are alike have in common.

    address, header: theirs. routing_key, further_keys: what they are routed by. visited: the queues, in octets, that
    they must not go back to.
    """

    __slots__ = ("address", "further_keys", "header", "routing_key", "visited")

    def __init__(
        self,
        address: bytes,
        header: ContentHeader,
        routing_key: bytes,
        further_keys: list[str],
        visited: set[bytes],
    ) -> None:
        self.address: bytes = address
        self.header: ContentHeader = header
        self.routing_key: str = _text_of(routing_key)
        self.further_keys: list[str] = further_keys
        self.visited: set[bytes] = visited

    def message(self, died: Message) -> Message:
        """With the body of one that died."""
        return Message(self.address, self.header, died.body, died.chunks)


class DeadLetters:
    """Makes dead letters, and remembers a few of this second."""

    __slots__ = ("_known", "_second")

    def __init__(self) -> None:
        self._second: int = 0
        # By all that a letter follows from. A header equals none but itself, and stays alive here.
        self._known: dict[tuple[ContentHeader, bytes, str, str, str, str | None], Letter] = {}

    def __len__(self) -> int:
        return len(self._known)

    def letter(self, message: Message, death: Death, exchange: str, routing_key: str | None) -> Letter:
        """What the message becomes.

        exchange: the dead letter exchange's name; routing_key: None to keep the message's own keys.
        """
        if death.time != self._second:
            self._known.clear()
            self._second = death.time
        source = (message.header, message.address, death.queue, death.reason, exchange, routing_key)
        letter = self._known.get(source)
        if letter is None:
            letter = dead_letter(message, death, exchange, routing_key)
            message.header.forget_headers()
            if max(len(message.header.payload), len(letter.header.payload)) <= LONGEST_REWRITTEN:
                if len(self._known) >= MOST_REWRITTEN:
                    self._known.clear()
                self._known[source] = letter
        return letter


def dead_letter(message: Message, death: Death, exchange: str, routing_key: str | None) -> Letter:
    """As `DeadLetters.letter`, which need not make it again for the next message."""
    headers = dict(message.header.headers())
    event = _event(message, death, headers)
    _note(headers, "last", event)
    _record(headers, event)
    if routing_key is not None:
        headers.pop("CC", None)
        headers.pop("BCC", None)
    header = rebuilt(message.header, {HEADERS: _sorted(headers), EXPIRATION: None})
    key = message.key_octets() if routing_key is None else _octets(routing_key)
    name = _octets(exchange)
    address = bytes((len(name),)) + name + bytes((len(key),)) + key
    further_keys = [_text_of(octets) for octets in _copies(headers, "CC", "BCC")]
    return Letter(address, header, key, further_keys, _visited(death.reason, headers))


def _event(message: Message, death: Death, headers: dict[str, Field]) -> dict[str, Field]:
    keys = [Field("S", message.key_octets())] + [Field("S", key) for key in _copies(headers, "CC")]
    event = {
        "count": Field("l", 1),
        "reason": _text(death.reason),
        "queue": _text(death.queue),
        "time": Field("T", death.time),
        "exchange": Field("S", message.exchange_octets()),
        "routing-keys": Field("A", keys),
    }
    if message.header.expiration is not None:
        event["original-expiration"] = Field("S", message.header.expiration)
    return event


def further_keys(header: ContentHeader) -> list[str]:
    """The routing keys in the headers CC and BCC of a message that was published before."""
    if not header.has_headers or (_CC not in header.payload and _BCC not in header.payload):
        return []
    return [_text_of(key) for key in _copies(header.headers(), "CC", "BCC")]


def _copies(headers: dict[str, Field], *names: str) -> list[bytes]:
    """The routing keys in the headers CC or BCC, whichever are named."""
    found: list[bytes] = []
    for name in names:
        field = headers.get(name)
        if field is not None and isinstance(field.value, list):
            for item in field.value:
                if item.kind == "S" and isinstance(item.value, bytes):
                    found.append(item.value)
    return found


def _note(headers: dict[str, Field], which: str, event: dict[str, Field]) -> None:
    """Tell the first or the last death in headers of its own."""
    for name in ("reason", "queue", "exchange"):
        headers[f"x-{which}-death-{name}"] = event[name]


def _record(headers: dict[str, Field], event: dict[str, Field]) -> None:
    """Add a death to the headers, or count it with the one of the same queue and reason."""
    recorded = headers.get(DEATHS)
    if recorded is None:
        _note(headers, "first", event)
        headers[DEATHS] = Field("A", [Field("F", event)])
        return
    if not isinstance(recorded.value, list):
        headers[DEATHS] = Field("A", [Field("F", event)])
        return
    others: list[Field] = []
    for known in _grouped(recorded.value):
        if _same(known, event):
            event = known
            count = known.get("count")
            number = count.value if count is not None and isinstance(count.value, int) else 0
            event["count"] = Field("l", min(number + 1, MOST_DEATHS))
        else:
            others.append(Field("F", known))
    headers[DEATHS] = Field("A", [Field("F", _sorted(event)), *others])


def _grouped(deaths: list[Field]) -> list[dict[str, Field]]:
    """One event for each queue and reason, the last one seen first, as RabbitMQ 3.10 regroups two and more."""
    events = [dict(death.value) for death in deaths if isinstance(death.value, dict)]
    if len(events) < 2:
        return events
    grouped: dict[tuple[bytes | None, bytes | None], dict[str, Field]] = {}
    times: dict[tuple[bytes | None, bytes | None], int] = {}
    for event in events:
        key = (_value(event, "queue"), _value(event, "reason"))
        grouped.setdefault(key, event)
        times[key] = times.get(key, 0) + 1
    for key, event in grouped.items():
        if "count" not in event:
            grouped[key] = {"count": Field("l", times[key]), **event}
    return list(reversed(grouped.values()))


def _same(one: dict[str, Field], other: dict[str, Field]) -> bool:
    return _value(one, "queue") == _value(other, "queue") and _value(one, "reason") == _value(other, "reason")


def _value(event: dict[str, Field], name: str) -> bytes | None:
    field = event.get(name)
    return field.value if field is not None and isinstance(field.value, bytes) else None


def _visited(reason: str, headers: dict[str, Field]) -> set[bytes]:
    """The queues that the message has been in since anybody rejected it: back there it would never stop."""
    visited: set[bytes] = set()
    deaths = headers.get(DEATHS)
    if reason == REJECTED or deaths is None or not isinstance(deaths.value, list):
        return visited
    for death in deaths.value:
        # What is not a table a client must have put there, so the circle is not an automatic one.
        if not isinstance(death.value, dict) or _value(death.value, "reason") == REJECTED.encode():
            break
        queue = _value(death.value, "queue")
        if queue is not None:
            visited.add(queue)
    return visited


def _sorted(table: dict[str, Field]) -> dict[str, Field]:
    return {name: table[name] for name in sorted(table)}


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text_of(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _text(text: str) -> Field:
    return Field("S", _octets(text))
