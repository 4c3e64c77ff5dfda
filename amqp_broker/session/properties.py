"""Properties of a published message that the broker answers for: checked, or rewritten before it is routed.

`publishing.publish` comes here only for a message whose header might concern one of them, which `concerns` tells
from the header's flags and octets without reading its properties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.dead_letters import DEATHS
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.content.header import (
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    REPLY_TO,
    USER_ID,
    ContentHeader,
    Rewritten,
    rebuilt,
    with_headers,
)
from amqp_broker.content.table import TYPE_NAMES, Field
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel

DELIVERY_COUNT: Final = "x-delivery-count"
REPLY_QUEUE: Final = "amq.rabbitmq.reply-to"
# The tag of users who may publish with anybody's user-id.
IMPERSONATOR: Final = "impersonator"
LONGEST_EXPIRATION: Final = 315_360_000_000
_REPLY_OCTETS: Final = REPLY_QUEUE.encode()
_REPLY_PROPERTY: Final = bytes((len(_REPLY_OCTETS),)) + _REPLY_OCTETS
_CHECKED: Final = EXPIRATION | USER_ID
_CC: Final = b"\x02CC"
_BCC: Final = b"\x03BCC"
_DEATHS: Final = b"\x07x-death"
# Headers with the delivery counts that were written into them.
_COUNTED: Final = Rewritten()


def concerns(channel: Channel, header: ContentHeader) -> bool:
    """Whether `checked` or `further_keys` may have something to do."""
    flags = header.flags
    if flags & _CHECKED:
        return True
    mode = header.delivery_mode
    if mode != 1 and mode != 2 and flags & DELIVERY_MODE:
        return True
    if flags & REPLY_TO and _REPLY_PROPERTY in header.payload:
        return True
    if not flags & HEADERS:
        return False
    if _CC in header.payload or _BCC in header.payload:
        return True
    return channel.connection.settings.ignore_deaths and _DEATHS in header.payload


def checked(channel: Channel, header: ContentHeader) -> ContentHeader:
    """The header to go on with. Raises SoftError 406 for a property that will not do.

    user-id must be the user's own name, unless it may speak for others; expiration a number; a reply-to that asks for
    direct replies becomes the address of the channel's reply consumer. Deaths that a client tells of are left out if
    they are to be ignored.
    """
    user_id = header.user_id()
    if user_id is not None:
        claimed = user_id.decode("utf-8", "surrogateescape")
        if claimed != channel.rights.name and IMPERSONATOR not in channel.rights.tags:
            raise precondition_failed(
                f"user_id property set to '{claimed}' but authenticated user was '{channel.rights.name}'"
            )
    if header.expiration is not None:
        problem = expiration_problem(header.expiration)
        if problem is not None:
            text = header.expiration.decode("utf-8", "surrogateescape")
            raise precondition_failed(f"invalid expiration '{text}': {problem}")
    if header.flags & DELIVERY_MODE and header.delivery_mode not in (1, 2):
        raise precondition_failed(f"invalid message: {{delivery_mode_unknown,{header.delivery_mode}}}")
    if header.reply_to() == _REPLY_OCTETS:
        if channel.reply_queue is None:
            raise precondition_failed("fast reply consumer does not exist")
        header = rebuilt(header, {REPLY_TO: channel.reply_queue.name.encode()})
    if channel.connection.settings.ignore_deaths:
        header = _without_header(header, DEATHS, _DEATHS)
    return header


def expiration_problem(expiration: bytes) -> str | None:
    """The Erlang term for what is wrong with an expiration property, or None: digits, at most ten years."""
    end = 1 if expiration[:1] in (b"-", b"+") else 0
    start = end
    while end < len(expiration) and 48 <= expiration[end] <= 57:
        end += 1
    if end == start:
        return "no_integer"
    if end < len(expiration):
        return f'{{leftover_string,"{expiration[end:].decode("utf-8", "surrogateescape")}"}}'
    value = int(expiration)
    if value < 0:
        return f"{{value_negative,{value}}}"
    return f"{{value_too_large,{value}}}" if value > LONGEST_EXPIRATION else None


def further_keys(header: ContentHeader) -> list[str]:
    """The routing keys in the CC and BCC headers. Raises SoftError 406 if one of them is not an array."""
    if not header.flags & HEADERS:
        return []
    keys: list[str] = []
    headers = header.headers()
    for name in ("CC", "BCC"):
        field = headers.get(name)
        if field is None:
            continue
        if not isinstance(field.value, list):
            raise precondition_failed(
                f'invalid message: {{unacceptable_type_in_header,"{name}",{TYPE_NAMES[field.kind]}}}'
            )
        for item in field.value:
            if item.kind == "S" and isinstance(item.value, bytes):
                keys.append(item.value.decode("utf-8", "surrogateescape"))
    return keys


def visible(header: ContentHeader) -> ContentHeader:
    """What clients get to see of a header: everything but BCC, which stays with the message for its later routes."""
    return _without_header(header, "BCC", _BCC)


def _without_header(header: ContentHeader, name: str, octets: bytes) -> ContentHeader:
    """Itself if it has none of that name. octets: the name as it stands in a table, with its length."""
    if not header.flags & HEADERS or octets not in header.payload or name not in header.headers():
        return header
    headers = dict(header.headers())
    del headers[name]
    return with_headers(header, headers)


def counted(entry: QueueEntry) -> Message:
    """The message of an entry, with the number of times it has come back if its queue counts them.

    As in RabbitMQ, a header that is added puts all of them in the order of their names.
    """
    message = entry.message
    if not entry.queue.counts_deliveries:
        return message
    header = _COUNTED.find(message.header, entry.deliveries)
    if header is None:
        headers = message.header.headers() | {DELIVERY_COUNT: Field("l", entry.deliveries)}
        header = with_headers(message.header, {name: headers[name] for name in sorted(headers)})
        _COUNTED.keep(message.header, entry.deliveries, header)
    return Message(message.address, header, message.body, message.chunks)
