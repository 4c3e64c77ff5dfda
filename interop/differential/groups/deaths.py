"""Dead letters: each reason, several in a row, cycles, and what is written in the headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..codec import Typed
from ..script import Conversation

GROUP: Final = "deaths"

FAN: Final = {"x-dead-letter-exchange": "~dlx"}
TO_END: Final = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"}


def by_reject(conversation: Conversation, queue: str) -> None:
    conversation.get(queue)
    conversation.reject(1)


def by_nack(conversation: Conversation, queue: str) -> None:
    conversation.get(queue)
    conversation.nack(1)


def by_nack_of_all(conversation: Conversation, queue: str) -> None:
    conversation.get(queue)
    conversation.nack(0, multiple=True)


def by_time(conversation: Conversation, queue: str) -> None:
    conversation.until(queue, 0)


def by_length(conversation: Conversation, queue: str) -> None:
    conversation.publish(queue, "second")
    conversation.publish(queue, "third")


REASONS: Final[dict[str, tuple[dict[str, Any], Callable[[Conversation, str], None]]]] = {
    "rejected": ({}, by_reject),
    "nacked": ({}, by_nack),
    "nacked-all": ({}, by_nack_of_all),
    "expired": ({"x-message-ttl": 5}, by_time),
    "maxlen": ({"x-max-length": 1}, by_length),
    "maxlen-bytes": ({"x-max-length-bytes": 6}, by_length),
    "rejected-publish": ({"x-max-length": 1, "x-overflow": "reject-publish-dlx"}, by_length),
    "quietly-dropped": ({"x-max-length": 1, "x-overflow": "reject-publish"}, by_length),
}
MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "persistent": {"delivery_mode": 2, "priority": 4, "message_id": "i", "content_type": "text/plain"},
    "with-headers": {"headers": {"k": Typed("l", 5), "t": {"a": [1, None]}}},
    "with-expiration": {"expiration": "60000"},
    "with-CC": {"headers": {"CC": ["~cc"], "BCC": ["~bcc"]}},
    "died-before": {
        "headers": {
            "x-death": [
                {
                    "count": Typed("l", 3),
                    "reason": "rejected",
                    "queue": "~q",
                    "time": Typed("T", 1000),
                    "exchange": "",
                    "routing-keys": ["~q"],
                }
            ]
        }
    },
    "died-elsewhere": {
        "headers": {
            "x-death": [{"count": Typed("l", 1), "reason": "expired", "queue": "~other"}],
            "x-first-death-queue": "first",
        }
    },
    "x-death-of-text": {"headers": {"x-death": "text"}},
    "x-death-of-nothing": {"headers": {"x-death": []}},
    "x-death-of-numbers": {"headers": {"x-death": [1]}},
}


def each_reason() -> Iterator[Conversation]:
    for reason, (limits, kill) in REASONS.items():
        for message, properties in MESSAGES.items():
            for way, letters in {
                "same-key": FAN,
                "other-key": FAN | {"x-dead-letter-routing-key": "k"},
            }.items():
                if message != "plain" and (way == "other-key") == (reason in ("nacked", "maxlen")):
                    continue
                if message == "x-death-of-numbers" and reason not in ("rejected", "maxlen"):
                    continue
                conversation = Conversation(f"{GROUP}/{reason}/{message}/{way}")
                conversation.exchange("~dlx", "fanout")
                conversation.declare("~end")
                conversation.bind("~end", "~dlx")
                conversation.declare(args=limits | letters)
                conversation.publish("~q", "first", **properties)
                kill(conversation, "~q")
                conversation.until("~end", 0 if reason == "quietly-dropped" else ENDS.get(reason, 1))
                conversation.drain("~end")
                conversation.drain("~q")
                yield conversation


# "maxlen" lets the second message push the first out, and the third the second
ENDS: Final = {"maxlen": 2, "maxlen-bytes": 2, "rejected-publish": 2}


def in_a_row() -> Iterator[Conversation]:
    """From queue to queue by different deaths; each pair of reasons, and some longer rows."""
    simple = ("rejected", "expired", "maxlen")
    rows: list[tuple[str, ...]] = [(a, b) for a in simple for b in simple]
    rows += [("rejected", "expired", "rejected"), ("expired", "maxlen", "expired", "rejected")]
    for row in rows:
        conversation = Conversation(f"{GROUP}/in-a-row/{'-'.join(row)}")
        conversation.declare("~end")
        for at in range(len(row) - 1, -1, -1):
            following = "~end" if at == len(row) - 1 else f"~q{at + 1}"
            limits = {"rejected": {}, "expired": {"x-message-ttl": 5}, "maxlen": {"x-max-length": 0}}[row[at]]
            conversation.declare(
                f"~q{at}",
                args=limits | {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": following},
            )
        conversation.publish("~q0", "wanders", headers={"a": 1})
        for at, reason in enumerate(row):
            if reason == "rejected":
                conversation.until(f"~q{at}", 1)
                conversation.on(1, 2 + at).get(f"~q{at}")
                conversation.on(1, 2 + at).reject(1)
        conversation.until("~end", 1)
        conversation.drain("~end")
        yield conversation


def again_and_again() -> Iterator[Conversation]:
    for times in (2, 3, 4):
        conversation = Conversation(f"{GROUP}/retry/rejected-{times}-times")
        conversation.declare("~q", args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~wait"})
        conversation.declare(
            "~wait",
            args={"x-message-ttl": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~q"},
        )
        conversation.publish("~q", "retried")
        for at in range(times):
            conversation.until("~q", 1)
            conversation.get()
            conversation.reject(at + 1)
        conversation.until("~q", 1)
        conversation.drain()
        yield conversation
    for size in (1, 2, 3):
        conversation = Conversation(f"{GROUP}/cycle/{size}-queues-of-time")
        for at in range(size):
            conversation.declare(
                f"~q{at}",
                args={
                    "x-message-ttl": 5,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": f"~q{(at + 1) % size}",
                },
            )
        conversation.declare("~log")
        conversation.publish("~q0", "goes round")
        for at in range(size):
            conversation.until(f"~q{at}", 0)
        for at in range(size):
            conversation.drain(f"~q{at}")
        yield conversation
    conversation = Conversation(f"{GROUP}/cycle/of-length")
    conversation.declare(
        "~q", args={"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~q"}
    )
    conversation.publish("~q", "nowhere")
    conversation.drain()
    yield conversation


def nowhere() -> Iterator[Conversation]:
    for name, arguments in {
        "no-exchange": {"x-dead-letter-exchange": "~none"},
        "no-queue": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~none"},
        "nothing": {},
        "internal": {"x-dead-letter-exchange": "~in"},
    }.items():
        conversation = Conversation(f"{GROUP}/nowhere/{name}")
        conversation.exchange("~in", "fanout", internal=True)
        conversation.declare("~end")
        conversation.bind("~end", "~in")
        conversation.declare(args=arguments)
        conversation.publish("~q", "lost")
        conversation.get()
        conversation.reject(1)
        conversation.drain("~end")
        conversation.drain()
        yield conversation
    for way in ("purge", "delete"):
        conversation = Conversation(f"{GROUP}/not-by/{way}")
        conversation.declare("~end")
        conversation.declare(args=TO_END)
        conversation.publish("~q", "gone")
        conversation.send(f"queue.{way}", queue="~q")
        conversation.until("~end", 0)
        conversation.drain("~end")
        yield conversation
    for reason in ("rejected", "maxlen"):
        conversation = Conversation(f"{GROUP}/alternate/{reason}")
        conversation.exchange("~dlx", "direct", args={"alternate-exchange": "~ae"})
        conversation.exchange("~ae", "fanout")
        conversation.declare("~end")
        conversation.bind("~end", "~ae")
        conversation.declare(args=FAN | REASONS[reason][0])
        conversation.publish("~q", "first")
        REASONS[reason][1](conversation, "~q")
        conversation.drain("~end")
        yield conversation


def several() -> Iterator[Conversation]:
    for multiple in (False, True):
        conversation = Conversation(f"{GROUP}/several/{'multiple' if multiple else 'one-by-one'}")
        conversation.declare("~end")
        conversation.declare(args=TO_END)
        for at in range(5):
            conversation.publish("~q", f"m{at}", headers={"n": at})
        for _ in range(4):
            conversation.get()
        if multiple:
            conversation.nack(3, multiple=True)
        else:
            for tag in (2, 1, 3):
                conversation.reject(tag)
        conversation.until("~end", 3)
        conversation.drain("~end")
        conversation.close_channel()
        conversation.drain()
        yield conversation
    conversation = Conversation(f"{GROUP}/several/to-the-publisher-itself")
    conversation.exchange("~dlx", "topic")
    conversation.declare("~one", args=FAN)
    conversation.declare("~two", args=FAN | {"x-dead-letter-routing-key": "two.dead"})
    conversation.declare("~end")
    conversation.bind("~end", "~dlx", "#")
    conversation.on(1, 4).consume("~end", "dead", no_ack=True)
    conversation.consume("~one", "one")
    conversation.on(1, 3).consume("~two", "two")
    conversation.exchange("~in", "fanout")
    conversation.bind("~one", "~in")
    conversation.bind("~two", "~in")
    conversation.on(1, 2).publish("a.key", "both", exchange="~in")
    conversation.nack(0, multiple=True)
    conversation.settle()
    conversation.on(1, 4).cancel("dead")
    conversation.on(1, 3).nack(1)
    conversation.until("~end", 1)
    yield conversation


def conversations() -> Iterator[Conversation]:
    yield from each_reason()
    yield from in_a_row()
    yield from again_and_again()
    yield from nowhere()
    yield from several()
