"""What becomes of a message that died: its new headers and keys, and the queues it may not go back to.

The rules are those of RabbitMQ 3.10 (rabbit_dead_letter), to the order of the fields; consumers parse these headers.
Publishing the result is the virtual host's business.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.host import REJECTED
from amqp_broker.broker.message import Message
from amqp_broker.content.header import EXPIRATION, HEADERS, rebuilt
from amqp_broker.content.table import Field

DEATHS: Final = "x-death"
MOST_DEATHS: Final = (1 << 63) - 1


class Death:
    """One death. queue: where it happened; reason: in RabbitMQ's words; time: seconds since the epoch."""

    __slots__ = ("queue", "reason", "time")

    def __init__(self, queue: str, reason: str, time: int) -> None:
        self.queue: str = queue
        self.reason: str = reason
        self.time: int = time


def dead_letter(message: Message, death: Death, exchange: str, routing_key: str | None) -> Message:
    """The message as it is published to the dead letter exchange.

    exchange: the dead letter exchange's name; routing_key: None to keep the message's own keys.
    """
    headers = dict(message.header.headers())
    event = _event(message, death, headers)
    _record(headers, event)
    if routing_key is not None:
        headers.pop("CC", None)
        headers.pop("BCC", None)
    header = rebuilt(message.header, {HEADERS: _sorted(headers), EXPIRATION: None})
    # An argument may be longer than a routing key.
    key = message.key_octets() if routing_key is None else _octets(routing_key)[:255]
    name = _octets(exchange)
    address = bytes((len(name),)) + name + bytes((len(key),)) + key
    return Message(address, header, message.body, message.chunks)


def _event(message: Message, death: Death, headers: dict[str, Field]) -> dict[str, Field]:
    keys = [Field("S", message.key_octets())] + [Field("S", key) for key in further_keys(headers, "CC")]
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


def further_keys(headers: dict[str, Field], *names: str) -> list[bytes]:
    """The routing keys in the headers CC or BCC, whichever are named."""
    found: list[bytes] = []
    for name in names:
        field = headers.get(name)
        if field is not None and isinstance(field.value, list):
            for item in field.value:
                if item.kind == "S" and isinstance(item.value, bytes):
                    found.append(item.value)
    return found


def _record(headers: dict[str, Field], event: dict[str, Field]) -> None:
    """Add a death to the headers, or count it with the one of the same queue and reason."""
    recorded = headers.get(DEATHS)
    if recorded is None:
        for name in ("reason", "queue", "exchange"):
            headers[f"x-first-death-{name}"] = event[name]
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


def goes_in_circles(queue: str, reason: str, headers: dict[str, Field]) -> bool:
    """Whether the message has been in this queue before and nobody rejected it since: then it would never stop."""
    deaths = headers.get(DEATHS)
    if reason == REJECTED or deaths is None or not isinstance(deaths.value, list):
        return False
    name = _octets(queue)
    for death in deaths.value:
        # What is not a table a client must have put there, so the circle is not an automatic one.
        if not isinstance(death.value, dict) or _value(death.value, "reason") == REJECTED.encode():
            return False
        if _value(death.value, "queue") == name:
            return True
    return False


def _sorted(table: dict[str, Field]) -> dict[str, Field]:
    return {name: table[name] for name in sorted(table)}


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(text: str) -> Field:
    return Field("S", _octets(text))
