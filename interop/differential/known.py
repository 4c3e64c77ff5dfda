"""Where this broker differs from RabbitMQ 3.10.8 on purpose, and why its answer is the better one.

The table in docs/compatibility.md is written from this list (`python -m interop.differential --write-docs`), and
each entry names the conversations that show it: what exactly each broker says in them is in the recordings. The
texts are Markdown, with links as docs/compatibility.md has them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, NamedTuple


class Known(NamedTuple):
    """A deliberate difference; `conversations` are names, with patterns of fnmatch."""

    name: str
    conversations: tuple[str, ...]
    rabbitmq: str
    here: str
    why: str


KNOWN: Final[list[Known]] = [
    Known(
        "an unknown class or method",
        ("frames/odd/unknown-*",),
        "the connection is dropped without a word",
        "540 NOT_IMPLEMENTED ([test](../tests/conversations/test_frames.py))",
        "Whoever debugs a client can read what was wrong.",
    ),
    Known(
        "a table that cannot be read, in a method",
        ("frames/odd/bad-type-in-table", "frames/odd/table-cut", "tables/arguments/unknown-type*"),
        "the connection is dropped without a word",
        "501 FRAME_ERROR ([test](../tests/conversations/test_frames.py))",
        "The same.",
    ),
    Known(
        "a body longer than its header announced",
        ("frames/content/too-long-at-once",),
        "noticed with the next frame: 505",
        "noticed at once: 501 ([test](../tests/conversations/test_frames.py))",
        "Nothing is gained by waiting.",
    ),
    Known(
        "a message that announces more octets than allowed",
        ("frames/content/larger-than-allowed", "frames/content/much-larger"),
        "refused when all of it has come",
        "refused with 406 at its header",
        "Nothing is gained by waiting, and the octets need not be kept.",
    ),
    Known(
        "basic.deliver, basic.get-ok or basic.return from a client",
        tuple(
            f"methods/basic.{method}/out-of-turn-on-{channel}"
            for method in ("deliver", "get-ok", "return")
            for channel in (1, 7)
        ),
        "waits for the content before it refuses them; on a channel that is not open, for ever",
        "503 or 504 at once",
        "Only a broker says them, with or without content.",
    ),
    Known(
        "access.request, a method of AMQP 0-8",
        (
            "methods/access.request/channel-0",
            "methods/access.request-ok/out-of-turn-on-[01]",
            "frames/arguments/access.request-*",
        ),
        "belongs to the protocol: read in full, and 504 or 503 out of turn",
        "access.request is answered whatever its arguments; out of turn the class is unknown: 540",
        "AMQP 0-9-1 has no such class. It is answered because old clients ask, and means nothing.",
    ),
    Known(
        "`NaN` and infinities in tables",
        ("tables/*/not-a-number", "tables/*/infinity", "tables/*/single-infinity"),
        "the channel crashes: 541",
        "relayed like any other value ([test](../tests/conversations/test_tables.py))",
        "They are legal floats; Erlang has none.",
    ),
    Known(
        "a table value of type `L` in a dead letter",
        ("tables/dead-letters/int64-as-L",),
        "comes back as `l`, its twin",
        "comes back as it was sent",
        "What the broker did not write it does not change.",
    ),
    Known(
        "surrogates (U+D800 to U+DFFF) in names",
        ("names/*/surrogate*",),
        "taken",
        "501 FRAME_ERROR, as for all that is not UTF-8",
        "UTF-8 has none, and many clients cannot read a name that has.",
    ),
    Known(
        "an exchange type that nobody knows, but Erlang knows the word",
        ("arguments/exchange/type*/a-word-of-erlang",),
        "`invalid exchange type`, not `unknown exchange type`",
        "`unknown exchange type`",
        "Which words those are no client can know.",
    ),
    Known(
        "`x-delivery-limit`",
        ("arguments/queue/x-delivery-limit/*", "quorum/arguments/x-delivery-limit-text"),
        "quorum queues only; a value of another type is taken and ignored",
        "every queue; -1 for none; another type is refused with 406 "
        "([test](../tests/conversations/test_queue_arguments.py))",
        "Poison messages are no speciality of quorum queues, and a mistake is told.",
    ),
    Known(
        "`x-dead-letter-routing-key` of more than 255 octets, also in a policy",
        ("arguments/queue/x-dead-letter-routing-key/long-text",),
        "taken; whoever is sent such a dead letter loses its connection with 541",
        "refused with 406 ([test](../tests/conversations/test_queue_arguments.py))",
        "No method can carry such a key, and a shorter one would go elsewhere.",
    ),
    Known(
        "`x-queue-master-locator` of a value that does not exist",
        (
            "arguments/queue/x-queue-master-locator/int32",
            "arguments/queue/x-queue-master-locator/text",
            "arguments/queue/x-queue-master-locator/void",
        ),
        "the connection is closed with 541",
        "taken",
        "It says nothing to one node.",
    ),
    Known(
        "an `x-death` published by a client that is an array of something else than tables",
        ("deaths/*/x-death-of-numbers/*",),
        "the queue crashes when the message dies, and a transient one loses its messages",
        "it is left out, and the message becomes a dead letter",
        "One odd message must not cost the others.",
    ),
    Known(
        "the next single active consumer, when the active one is cancelled with deliveries outstanding",
        (
            "consumers/single-active/cancel-prefetch-1",
            "consumers/single-active/close-channel-prefetch-1",
            "consumers/single-active/drop-prefetch-1",
            "consumers/single-active/hang-up-prefetch-1",
            "consumers/single-active/error-prefetch-1",
        ),
        "gets nothing until something else happens at the queue",
        "gets what is ready at once",
        "A message that can be delivered is not left lying.",
    ),
    Known(
        "what several consumers of one channel give back at once",
        ("orders/two-takers/recover-consumer", "orders/two-takers/nack-all-consumer"),
        "goes back consumer by consumer, so that what the first had may be delivered again before what the second "
        "had, whatever was published first",
        "goes back in the order in which it was published",
        "The order of publishing is the queue's promise.",
    ),
    Known(
        "a settled delivery of a cancelled consumer, when another one of the channel has its tag now",
        ("orders/same-tag-again/*",),
        "makes room in the new one's prefetch, which then has more outstanding than its limit",
        "makes no room in the new one's",
        "The limit was asked for.",
    ),
    Known(
        "delivery tags of direct replies",
        ("replies/tag-*",),
        "all the same, until something else is delivered on the channel",
        "each its own, like all others of the channel",
        "A delivery tag names one delivery.",
    ),
    Known(
        "deliveries that a `tx.commit` brings about, on its own channel",
        ("transactions/consumer/*-prefetch-1",),
        "after `tx.commit-ok`",
        "before it",
        "They do not wait for the disk, as the answer does.",
    ),
]


def known_for(conversation: str) -> Known | None:
    """The difference that this conversation is known for."""
    for known in KNOWN:
        if any(fnmatchcase(conversation, pattern) for pattern in known.conversations):
            return known
    return None
