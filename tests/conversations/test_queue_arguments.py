"""Declaring a queue: flags and arguments that make no sense, and those that do not fit what exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel
from .codec import Typed
from .conftest import Names


def locked(queue: str) -> str:
    return (
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally "
        f"declared on "
        "another connection or the exclusive property value does not match that of the original declaration."
    )


def is_gone(channel: Channel, queue: str) -> bool:
    channel.send("queue.declare", queue=queue, passive=True)
    if channel.receive().name == "queue.declare-ok":
        return False
    channel.send("channel.close-ok")
    channel.open()
    return True


# declare again


FLAGS: dict[str, Any] = {"durable": True, "auto_delete": True}


@pytest.mark.parametrize("flag", FLAGS)
def test_declaring_again_with_another_flag_is_refused(channel: Channel, names: Names, flag: str) -> None:
    queue = names.queue()
    channel.declare(queue, **{flag: True})
    assert channel.call("queue.declare", queue=queue, **{flag: True})["queue"] == queue
    channel.send("queue.declare", queue=queue)
    channel.refuses(
        406,
        f"inequivalent arg '{flag}' for queue '{queue}' in vhost '/': received 'false' but current is 'true'",
        "queue.declare",
    )


def test_durable_is_compared_before_auto_delete(channel: Channel, queue: str) -> None:
    channel.send("queue.declare", queue=queue, **FLAGS)
    channel.refuses(
        406,
        f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is "
        f"'false'",
        "queue.declare",
    )


def test_declaring_a_shared_queue_again_as_exclusive_is_locked(channel: Channel, queue: str) -> None:
    channel.send("queue.declare", queue=queue, exclusive=True, durable=True)
    channel.refuses(405, locked(queue), "queue.declare")


def test_declaring_an_exclusive_queue_again_as_shared_is_locked(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), exclusive=True)
    channel.send("queue.declare", queue=queue)
    channel.refuses(405, locked(queue), "queue.declare")


def test_durable_makes_no_difference_to_an_exclusive_queue(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), exclusive=True, durable=True)
    assert channel.call("queue.declare", queue=queue, exclusive=True)["queue"] == queue


def test_unknown_arguments_are_not_compared(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), arguments={"x-mine": 1})
    for arguments in ({}, {"x-mine": "two"}, {"other": [1, {"a": None}]}):
        assert channel.call("queue.declare", queue=queue, arguments=arguments)["queue"] == queue


@pytest.mark.parametrize("kind", ["b", "s", "I", "l"])
def test_an_integer_argument_is_the_same_in_every_width(channel: Channel, names: Names, kind: str) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-length": Typed("I", 10)})
    again = channel.call("queue.declare", queue=queue, arguments={"x-max-length": Typed(kind, 10)})
    assert again["queue"] == queue


ARGUMENTS: list[tuple[str, Any, str, str]] = [
    ("x-max-length", 10, "10", "signedint"),
    ("x-max-length-bytes", 10, "10", "signedint"),
    ("x-message-ttl", 60000, "60000", "signedint"),
    ("x-expires", 60000, "60000", "signedint"),
    ("x-max-priority", 5, "5", "signedint"),
    ("x-max-priority", Typed("b", 5), "5", "byte"),
    ("x-max-length", Typed("s", 5), "5", "short"),
    ("x-max-length", Typed("l", 5), "5", "long"),
    ("x-max-length", Typed("B", 5), "5", "unsignedbyte"),
    ("x-max-length", Typed("u", 5), "5", "unsignedshort"),
    ("x-max-length", Typed("i", 5), "5", "unsignedint"),
    ("x-dead-letter-exchange", "dlx", "dlx", "longstr"),
    ("x-overflow", "reject-publish", "reject-publish", "longstr"),
    ("x-single-active-consumer", True, "true", "bool"),
    ("x-queue-mode", "lazy", "lazy", "longstr"),
]


@pytest.mark.parametrize(("key", "value", "shown", "kind"), ARGUMENTS, ids=str)
def test_declaring_again_without_an_argument_is_refused(
    channel: Channel, names: Names, key: str, value: Any, shown: str, kind: str
) -> None:
    queue = channel.declare(names.queue(), arguments={key: value})
    channel.send("queue.declare", queue=queue)
    channel.refuses(
        406,
        f"inequivalent arg '{key}' for queue '{queue}' in vhost '/': received none but current is the value "
        f"'{shown}' of type '{kind}'",
        "queue.declare",
    )


@pytest.mark.parametrize(("key", "value", "shown", "kind"), ARGUMENTS, ids=str)
def test_declaring_again_with_an_argument_more_is_refused(
    channel: Channel, queue: str, key: str, value: Any, shown: str, kind: str
) -> None:
    channel.send("queue.declare", queue=queue, arguments={key: value})
    channel.refuses(
        406,
        f"inequivalent arg '{key}' for queue '{queue}' in vhost '/': received the value '{shown}' of "
        f"type '{kind}' "
        "but current is none",
        "queue.declare",
    )


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("x-max-length", 10, 20),
        ("x-max-length-bytes", 10, 20),
        ("x-message-ttl", 10000, 20000),
        ("x-expires", 60000, 70000),
        ("x-max-priority", 3, 4),
        ("x-dead-letter-exchange", "one", "two"),
        ("x-overflow", "drop-head", "reject-publish"),
        ("x-queue-mode", "default", "lazy"),
    ],
)
def test_declaring_again_with_another_argument_value_is_refused(
    channel: Channel, names: Names, key: str, old: Any, new: Any
) -> None:
    queue = channel.declare(names.queue(), arguments={key: old})
    channel.send("queue.declare", queue=queue, arguments={key: new})
    channel.refuses(
        406,
        f"inequivalent arg '{key}' for queue '{queue}' in vhost '/': received '{new}' but current is '{old}'",
        "queue.declare",
    )


def test_no_queue_type_is_the_classic_type(channel: Channel, queue: str, names: Names) -> None:
    assert channel.call("queue.declare", queue=queue, arguments={"x-queue-type": "classic"})["queue"] == queue
    other = channel.declare(names.queue(), arguments={"x-queue-type": "classic"})
    assert channel.call("queue.declare", queue=other)["queue"] == other


# arguments


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("x-max-length", -1, "{value_negative,-1}"),
        ("x-max-length", "3", '"expected integer, got longstr"'),
        ("x-max-length", 3.0, '"expected integer, got double"'),
        ("x-max-length", True, '"expected integer, got bool"'),
        ("x-max-length", None, '"expected integer, got void"'),
        ("x-max-length", {}, '"expected integer, got table"'),
        ("x-max-length", [], '"expected integer, got array"'),
        ("x-max-length", Typed("T", 3), '"expected integer, got timestamp"'),
        ("x-max-length", Typed("x", "3"), '"expected integer, got binary"'),
        ("x-max-length", Typed("f", 3.0), '"expected integer, got float"'),
        ("x-max-length", Typed("D", (0, 3)), '"expected integer, got decimal"'),
        ("x-max-length-bytes", -1, "{value_negative,-1}"),
        ("x-max-length-bytes", "3", '"expected integer, got longstr"'),
        ("x-expires", 0, "{value_zero,0}"),
        ("x-expires", -1, "{value_negative,-1}"),
        ("x-expires", "1", '"expected integer, got longstr"'),
        ("x-expires", 315360000001, "{value_too_large,315360000001}"),
        ("x-message-ttl", -1, "{value_negative,-1}"),
        ("x-message-ttl", "1", '"expected integer, got longstr"'),
        ("x-message-ttl", 315360000001, "{value_too_large,315360000001}"),
        ("x-max-priority", 256, "{max_value_exceeded,256}"),
        ("x-max-priority", -1, "{value_negative,-1}"),
        ("x-max-priority", "5", '"expected integer, got longstr"'),
        ("x-overflow", "foo", "invalid_overflow"),
        ("x-overflow", 1, "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-routing-key", 1, "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", 1, "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", "true", "{unacceptable_type,longstr}"),
        ("x-queue-mode", "foo", "\"unsupported queue mode 'foo'\""),
        ("x-queue-mode", 1, "{unacceptable_type,signedint}"),
        ("x-queue-version", 3, "\"unsupported queue version '3'\""),
        ("x-queue-version", "a", '"expected integer, got longstr"'),
        ("x-queue-type", 3, "{unacceptable_type,signedint}"),
        ("x-queue-type", "nope", "\"unsupported queue type 'nope'\""),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    channel: Channel, names: Names, key: str, value: Any, complaint: str
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={key: value})
    channel.refuses(
        406, f"invalid arg '{key}' for queue '{queue}' in vhost '/': {complaint}", "queue.declare"
    )
    assert is_gone(channel, queue)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_dead_letter_routing_key_that_no_method_can_carry_is_refused(
    channel: Channel, names: Names, kind: str, differs_from_rabbitmq: Callable[..., str]
) -> None:
    queue = names.queue()
    arguments = {"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k" * 256}
    channel.send("queue.declare", queue=queue, durable=True, arguments=arguments)
    answer = differs_from_rabbitmq(
        "takes it, and whoever is sent the dead letter loses its connection with 541",
        rabbitmq="",
        ours='"expected at most 255 octets, got 256"',
    )
    if not answer:
        channel.expect("queue.declare-ok")
        return
    channel.refuses(
        406,
        f"invalid arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '/': {answer}",
        "queue.declare",
    )
    assert is_gone(channel, queue)


def test_a_dead_letter_routing_key_of_255_octets_is_one(channel: Channel, names: Names) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "é" * 127 + "k"}
    assert channel.declare(names.queue(), arguments=arguments)


@pytest.mark.parametrize("key", ["x-dead-letter-exchange"])
def test_a_dead_letter_exchange_that_is_no_string_is_refused(
    channel: Channel, names: Names, key: str
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={key: 1})
    channel.refuses(
        406, f"invalid type 'signedint' for arg '{key}' in queue '{queue}' in vhost '/'", "queue.declare"
    )


OF_ANOTHER_TYPE: list[tuple[str, str]] = [
    ("classic", "x-quorum-initial-group-size"),
    ("classic", "x-max-in-memory-length"),
    ("classic", "x-dead-letter-strategy"),
    ("classic", "x-queue-leader-locator"),
    ("classic", "x-max-age"),
    ("quorum", "x-max-priority"),
    ("quorum", "x-queue-mode"),
    ("quorum", "x-queue-version"),
    ("quorum", "x-queue-master-locator"),
    ("quorum", "x-stream-max-segment-size-bytes"),
]


@pytest.mark.parametrize(("kind", "key"), OF_ANOTHER_TYPE)
def test_an_argument_of_another_queue_type_is_refused(
    channel: Channel, names: Names, kind: str, key: str
) -> None:
    queue = names.queue()
    arguments = {"x-queue-type": kind, key: 3}
    channel.send("queue.declare", queue=queue, durable=True, arguments=arguments)
    channel.refuses(
        406,
        f"invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type rabbit_{kind}_queue",
        "queue.declare",
    )


def test_a_classic_queue_has_a_delivery_limit(
    channel: Channel, names: Names, differs_from_rabbitmq: Callable[..., Any]
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={"x-delivery-limit": 3})
    refusal = (
        f"invalid arg 'x-delivery-limit' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue"
    )
    differs_from_rabbitmq(
        "poison messages are no speciality of quorum queues",
        rabbitmq=lambda: channel.refuses(406, refusal, "queue.declare"),
        ours=lambda: channel.expect("queue.declare-ok"),
    )()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x-queue-type": "nope", "x-expires": -1}, "x-queue-type"),
        ({"x-max-length": -1, "x-expires": -1}, "x-expires"),
        ({"x-overflow": "nope", "x-max-length": -1, "x-message-ttl": -1}, "x-message-ttl"),
        ({"x-max-age": 3, "x-max-length": -1}, "x-max-length"),
        ({"x-queue-type": "quorum", "x-max-priority": "high", "x-max-length": -1}, "x-max-length"),
        ({"x-quorum-initial-group-size": 3, "x-max-age": 3}, "x-quorum-initial-group-size"),
        ({"x-max-age": 3, "x-quorum-initial-group-size": 3}, "x-max-age"),
    ],
    ids=str,
)
def test_of_several_bad_arguments_one_is_told(
    channel: Channel, names: Names, arguments: dict[str, Any], told: str
) -> None:
    channel.send("queue.declare", queue=names.queue(), durable=True, arguments=arguments)
    close = channel.receive()
    assert close["reply_text"].startswith(f"PRECONDITION_FAILED - invalid arg '{told}' for queue")
    channel.send("channel.close-ok")
    channel.open()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({}, "non-durable"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
        ({"exclusive": True}, "exclusive-owner"),
        ({"auto_delete": True, "exclusive": True}, "auto-delete"),
    ],
    ids=str,
)
def test_a_quorum_queue_is_durable_and_shared(
    channel: Channel, names: Names, flags: dict[str, bool], complaint: str
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={"x-queue-type": "quorum"}, **flags)
    channel.refuses(406, f"invalid property '{complaint}' for queue '{queue}' in vhost '/'", "queue.declare")
    assert is_gone(channel, queue)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("x-quorum-initial-group-size", 0, "{value_zero,0}"),
        ("x-quorum-initial-group-size", -1, "{value_negative,-1}"),
        ("x-quorum-initial-group-size", "a", '"expected integer, got longstr"'),
        ("x-max-in-memory-length", -1, "{value_negative,-1}"),
        ("x-max-in-memory-bytes", "x", '"expected integer, got longstr"'),
        ("x-dead-letter-strategy", "twice", "invalid_dlx_strategy"),
        ("x-dead-letter-strategy", 1, "{unacceptable_type,signedint}"),
        ("x-queue-leader-locator", "here", "invalid_queue_locator_arg"),
        ("x-queue-leader-locator", 1, "{unacceptable_type,signedint}"),
    ],
)
def test_an_argument_of_a_quorum_queue_that_makes_no_sense_is_refused(
    channel: Channel, names: Names, key: str, value: Any, complaint: str
) -> None:
    queue = names.queue()
    arguments = {"x-queue-type": "quorum", key: value}
    channel.send("queue.declare", queue=queue, durable=True, arguments=arguments)
    channel.refuses(
        406, f"invalid arg '{key}' for queue '{queue}' in vhost '/': {complaint}", "queue.declare"
    )


def test_arguments_are_compared_in_the_order_of_the_table(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-length": 10, "x-expires": 600000})
    arguments = {"x-max-length": 11, "x-expires": 600001}
    channel.send("queue.declare", queue=queue, arguments=arguments)
    channel.refuses(
        406,
        f"inequivalent arg 'x-expires' for queue '{queue}' in vhost '/': received '600001' but current is "
        f"'600000'",
        "queue.declare",
    )


def test_an_argument_of_another_type_is_not_compared(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-length": 10})
    arguments = {"x-max-length": 10, "x-max-age": "1h"}
    assert channel.call("queue.declare", queue=queue, arguments=arguments)["queue"] == queue


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x-max-length", 0),
        ("x-max-length", 2**40),
        ("x-max-length-bytes", 0),
        ("x-message-ttl", 0),
        ("x-message-ttl", 315360000000),
        ("x-expires", 315360000000),
        ("x-max-priority", 0),
        ("x-max-priority", 255),
        ("x-overflow", "drop-head"),
        ("x-overflow", "reject-publish"),
        ("x-overflow", "reject-publish-dlx"),
        ("x-single-active-consumer", False),
        ("x-queue-mode", "default"),
        ("x-queue-mode", "lazy"),
        ("x-queue-version", 1),
        ("x-queue-version", 2),
        ("x-dead-letter-exchange", "not there"),
        ("x-dead-letter-exchange", ""),
        ("x-queue-master-locator", "client-local"),
        ("x-queue-master-locator", "min-masters"),
        ("x-unheard-of", [1, 2.5, None, {"a": Typed("T", 1)}]),
    ],
)
def test_an_argument_at_the_edge_of_sense_is_accepted(
    channel: Channel, names: Names, key: str, value: Any
) -> None:
    queue = channel.declare(names.queue(), arguments={key: value})
    assert channel.call("queue.declare", queue=queue, arguments={key: value})["queue"] == queue
