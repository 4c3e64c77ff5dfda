"""Queues: declare and declare again, names, arguments, purge, delete, exclusive and auto-delete queues."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .client import Channel, Client, eventually
from .codec import Typed
from .conftest import Connect, Names


def locked(queue: str) -> str:
    return (
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally declared on "
        "another connection or the exclusive property value does not match that of the original declaration."
    )


def is_gone(channel: Channel, queue: str) -> bool:
    channel.send("queue.declare", queue=queue, passive=True)
    if channel.receive().name == "queue.declare-ok":
        return False
    channel.send("channel.close-ok")
    channel.open()
    return True


# declare


def test_a_new_queue_is_empty_and_has_no_consumers(channel: Channel, names: Names) -> None:
    queue = names.queue()
    reply = channel.call("queue.declare", queue=queue)
    assert reply == {"queue": queue, "message_count": 0, "consumer_count": 0}


def test_declare_ok_counts_ready_messages_and_consumers(channel: Channel, queue: str) -> None:
    for body in "abc":
        channel.publish(body, routing_key=queue)
    channel.counts_become(queue, 3, 0)
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    channel.expect("basic.deliver")
    assert channel.call("queue.declare", queue=queue) == {"queue": queue, "message_count": 2, "consumer_count": 1}


def test_declare_without_a_name_makes_one_up(channel: Channel, names: Names) -> None:
    reply = channel.call("queue.declare", exclusive=True)
    assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", reply["queue"])
    assert channel.call("queue.declare", exclusive=True)["queue"] != reply["queue"]


def test_declare_with_nowait_has_no_reply(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, nowait=True)
    assert channel.counts(queue) == (0, 0)


def test_a_refused_declare_with_nowait_still_closes_the_channel(channel: Channel, queue: str) -> None:
    channel.send("queue.declare", queue=queue, durable=True, nowait=True)
    channel.refuses(
        406,
        f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is 'false'",
        "queue.declare",
    )


def test_passive_declare_of_a_missing_queue_is_not_found(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, passive=True)
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "queue.declare")


def test_passive_declare_with_nowait_of_a_missing_queue_is_not_found(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, passive=True, nowait=True)
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "queue.declare")


def test_passive_declare_with_nowait_of_a_queue_has_no_reply(channel: Channel, queue: str) -> None:
    channel.send("queue.declare", queue=queue, passive=True, nowait=True)
    channel.hears_nothing()


def test_passive_declare_without_a_name_is_not_found(channel: Channel) -> None:
    channel.send("queue.declare", passive=True)
    channel.refuses(404, "no queue '' in vhost '/'", "queue.declare")


def test_passive_declare_compares_nothing_but_the_name(channel: Channel, queue: str) -> None:
    reply = channel.call(
        "queue.declare",
        queue=queue,
        passive=True,
        durable=True,
        auto_delete=True,
        arguments={"x-max-length": "nonsense"},
    )
    assert reply["queue"] == queue


@pytest.mark.parametrize("name", ["amq.foo", "amq.gen-mine", "amq."])
def test_a_name_with_the_reserved_prefix_is_refused(channel: Channel, name: str) -> None:
    channel.send("queue.declare", queue=name)
    channel.refuses(403, f"queue name '{name}' contains reserved prefix 'amq.*'", "queue.declare")


def test_passive_declare_may_name_the_reserved_prefix(channel: Channel) -> None:
    channel.send("queue.declare", queue="amq.foo", passive=True)
    channel.refuses(404, "no queue 'amq.foo' in vhost '/'", "queue.declare")


def test_a_server_named_queue_can_be_declared_again_only_passively(channel: Channel, names: Names) -> None:
    queue = channel.declare("")
    names.queues.append(queue)
    assert channel.counts(queue) == (0, 0)
    channel.send("queue.declare", queue=queue)
    channel.refuses(403, f"queue name '{queue}' contains reserved prefix 'amq.*'", "queue.declare")


@pytest.mark.parametrize(
    "name",
    ["n\u00f6pe \u4e2d\u6587", "o'q\"\\", "a b\tc", "nul\x00inside", "x" * 200, "q*&#.!"],
    ids=["unicode", "quotes", "blank", "nul", "long", "signs"],
)
def test_a_queue_name_may_be_almost_anything(channel: Channel, names: Names, name: str) -> None:
    queue = names.queue(name)
    channel.declare(queue)
    channel.send("queue.declare", queue=queue, durable=True)
    text = f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is 'false'"
    cut = text.encode()[: 252 - len("PRECONDITION_FAILED - ")].decode()
    channel.refuses(406, text if len(text.encode()) < 230 else cut + "...", "queue.declare")


def test_a_queue_name_of_255_octets_is_allowed_and_cuts_the_reply_text_to_255(channel: Channel, names: Names) -> None:
    queue = names.queue().ljust(255, "x")
    names.queues.append(queue)
    channel.declare(queue)
    channel.send("queue.declare", queue=queue, durable=True)
    text = f"inequivalent arg 'durable' for queue '{queue}"[: 252 - len("PRECONDITION_FAILED - ")] + "..."
    channel.refuses(406, text, "queue.declare")


def test_line_ends_are_stripped_from_a_queue_name(channel: Channel, names: Names) -> None:
    queue = names.queue()
    reply = channel.call("queue.declare", queue=f"\r{queue[:3]}\n{queue[3:]}\r\n")
    assert reply["queue"] == queue
    assert channel.counts(f"{queue}\n") == (0, 0)


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
        f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is 'false'",
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


@pytest.mark.parametrize(("key", "value", "shown", "kind"), ARGUMENTS, ids=lambda x: str(x))
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


@pytest.mark.parametrize(("key", "value", "shown", "kind"), ARGUMENTS, ids=lambda x: str(x))
def test_declaring_again_with_an_argument_more_is_refused(
    channel: Channel, queue: str, key: str, value: Any, shown: str, kind: str
) -> None:
    channel.send("queue.declare", queue=queue, arguments={key: value})
    channel.refuses(
        406,
        f"inequivalent arg '{key}' for queue '{queue}' in vhost '/': received the value '{shown}' of type '{kind}' "
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
    channel.refuses(406, f"invalid arg '{key}' for queue '{queue}' in vhost '/': {complaint}", "queue.declare")
    assert is_gone(channel, queue)


@pytest.mark.parametrize("key", ["x-dead-letter-exchange"])
def test_a_dead_letter_exchange_that_is_no_string_is_refused(channel: Channel, names: Names, key: str) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={key: 1})
    channel.refuses(406, f"invalid type 'signedint' for arg '{key}' in queue '{queue}' in vhost '/'", "queue.declare")


@pytest.mark.parametrize("key", ["x-delivery-limit", "x-quorum-initial-group-size", "x-max-age"])
def test_an_argument_of_another_queue_type_is_refused(channel: Channel, names: Names, key: str) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments={key: 3})
    channel.refuses(
        406, f"invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue", "queue.declare"
    )


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
def test_an_argument_at_the_edge_of_sense_is_accepted(channel: Channel, names: Names, key: str, value: Any) -> None:
    queue = channel.declare(names.queue(), arguments={key: value})
    assert channel.call("queue.declare", queue=queue, arguments={key: value})["queue"] == queue


# the queue a channel declared last


def test_an_empty_name_is_the_queue_declared_last(channel: Channel, names: Names) -> None:
    channel.declare(names.queue())
    last = channel.declare(names.queue())
    channel.publish("m", routing_key=last)
    assert (message := channel.get("")) is not None
    assert message["routing_key"] == last


def test_passive_declare_counts_as_declaring(channel: Channel, names: Names) -> None:
    first = channel.declare(names.queue())
    channel.declare(names.queue())
    channel.counts(first)
    channel.publish("m", routing_key=first)
    assert channel.get("") is not None


def test_a_channel_does_not_know_what_another_declared(channel: Channel, client: Client, queue: str) -> None:
    other = client.channel()
    other.send("basic.get")
    other.refuses(404, "no previously declared queue", "basic.get")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("queue.bind", {"exchange": "amq.direct"}),
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("queue.unbind", {"exchange": "amq.direct"}),
        ("queue.purge", {}),
        ("queue.delete", {}),
        ("basic.get", {}),
        ("basic.consume", {}),
    ],
)
def test_an_empty_name_means_nothing_before_a_declare(channel: Channel, method: str, arguments: dict[str, Any]) -> None:
    channel.send(method, **arguments)
    channel.refuses(404, "no previously declared queue", method)


def test_the_queue_declared_last_is_forgotten_with_the_channel(channel: Channel, queue: str) -> None:
    channel.close()
    channel.open()
    channel.send("basic.get")
    channel.refuses(404, "no previously declared queue", "basic.get")


def test_the_queue_declared_last_may_be_gone(channel: Channel, queue: str) -> None:
    channel.call("queue.delete", queue=queue)
    channel.send("basic.get")
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "basic.get")


# purge


def test_purge_counts_the_ready_messages_it_removed(channel: Channel, queue: str) -> None:
    for body in "abcd":
        channel.publish(body, routing_key=queue)
    unacked = channel.get(queue, no_ack=False)
    assert channel.call("queue.purge", queue=queue) == {"message_count": 3}
    assert unacked is not None
    channel.send("basic.reject", delivery_tag=unacked["delivery_tag"], requeue=True)
    assert channel.drain(queue) == ["a"]


def test_purge_of_an_empty_queue_removes_nothing(channel: Channel, queue: str) -> None:
    assert channel.call("queue.purge", queue=queue) == {"message_count": 0}


def test_purge_with_nowait_has_no_reply(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    channel.send("queue.purge", queue=queue, nowait=True)
    assert channel.get(queue) is None


def test_purge_of_a_missing_queue_is_not_found(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("queue.purge", queue=queue)
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "queue.purge")


# delete


def test_delete_counts_the_ready_messages_lost(channel: Channel, queue: str) -> None:
    for body in "abc":
        channel.publish(body, routing_key=queue)
    channel.get(queue, no_ack=False)
    assert channel.call("queue.delete", queue=queue) == {"message_count": 2}
    assert is_gone(channel, queue)


def test_delete_of_a_missing_queue_is_fine(channel: Channel, names: Names) -> None:
    assert channel.call("queue.delete", queue=names.queue()) == {"message_count": 0}
    assert channel.call("queue.delete", queue=names.queue(), if_unused=True, if_empty=True) == {"message_count": 0}


def test_delete_with_nowait_has_no_reply(channel: Channel, queue: str) -> None:
    channel.send("queue.delete", queue=queue, nowait=True)
    channel.hears_nothing()
    assert is_gone(channel, queue)


def test_delete_if_empty_is_refused_for_a_queue_with_messages(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    channel.send("queue.delete", queue=queue, if_empty=True)
    channel.refuses(406, f"queue '{queue}' in vhost '/' not empty", "queue.delete")
    assert channel.drain(queue) == ["m"]
    assert channel.call("queue.delete", queue=queue, if_empty=True) == {"message_count": 0}


def test_delete_if_unused_is_refused_for_a_queue_with_consumers(channel: Channel, queue: str) -> None:
    channel.consume(queue)
    channel.send("queue.delete", queue=queue, if_unused=True)
    channel.refuses(406, f"queue '{queue}' in vhost '/' in use", "queue.delete")
    assert channel.call("queue.delete", queue=queue, if_unused=True) == {"message_count": 0}


def test_a_queue_in_use_and_not_empty_is_first_of_all_not_empty(channel: Channel, queue: str) -> None:
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    channel.publish("a", routing_key=queue)
    channel.publish("b", routing_key=queue)
    channel.expect("basic.deliver")
    channel.counts_become(queue, 1, 1)
    channel.send("queue.delete", queue=queue, if_unused=True, if_empty=True)
    channel.refuses(406, f"queue '{queue}' in vhost '/' not empty", "queue.delete")


def test_deleting_a_queue_cancels_its_consumers(channel: Channel, client: Client, queue: str) -> None:
    other = client.channel()
    other.consume(queue, "theirs")
    channel.call("queue.delete", queue=queue)
    assert other.expect("basic.cancel").arguments == {"consumer_tag": "theirs", "nowait": True}


def test_the_deleting_channel_hears_delete_ok_and_the_cancel_of_its_own_consumer(channel: Channel, queue: str) -> None:
    channel.consume(queue, "mine")
    channel.send("queue.delete", queue=queue)
    replies = {reply.name: reply.arguments for reply in (channel.receive(), channel.receive())}
    assert replies == {
        "queue.delete-ok": {"message_count": 0},
        "basic.cancel": {"consumer_tag": "mine", "nowait": True},
    }


def test_a_client_that_did_not_ask_for_cancel_notices_gets_none(channel: Channel, connect: Connect, queue: str) -> None:
    other = connect(capabilities={}).channel()
    other.consume(queue, "theirs")
    channel.call("queue.delete", queue=queue)
    other.hears_nothing()


def test_the_tag_of_a_cancelled_consumer_is_free_again(channel: Channel, client: Client, names: Names) -> None:
    queue = channel.declare(names.queue())
    other = client.channel()
    other.consume(queue, "t")
    channel.call("queue.delete", queue=queue)
    other.expect("basic.cancel")
    channel.declare(queue)
    other.consume(queue, "t")


def test_settling_a_message_of_a_deleted_queue_is_fine(channel: Channel, queue: str) -> None:
    channel.publish("a", routing_key=queue)
    channel.publish("b", routing_key=queue)
    for _ in range(2):
        assert channel.get(queue, no_ack=False) is not None
    channel.call("queue.delete", queue=queue)
    channel.send("basic.ack", delivery_tag=1)
    channel.send("basic.reject", delivery_tag=2, requeue=True)
    channel.hears_nothing()


# exclusive


def test_an_exclusive_queue_goes_with_its_connection(channel: Channel, connect: Connect, names: Names) -> None:
    owner = connect()
    queue = owner.channel().declare(names.queue(), exclusive=True)
    owner.close()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_exclusive_queue_goes_with_a_connection_that_just_drops(
    channel: Channel, connect: Connect, names: Names
) -> None:
    owner = connect()
    queue = owner.channel().declare(names.queue(), exclusive=True)
    owner.drop()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_exclusive_queue_outlives_the_channel_that_declared_it(client: Client, names: Names) -> None:
    channel = client.channel()
    queue = channel.declare(names.queue(), exclusive=True)
    channel.close()
    assert client.channel().counts(queue) == (0, 0)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("queue.declare", {}),
        ("queue.declare", {"exclusive": True}),
        ("queue.declare", {"passive": True}),
        ("queue.bind", {"exchange": "amq.direct"}),
        ("queue.purge", {}),
        ("queue.delete", {}),
        ("basic.get", {}),
        ("basic.consume", {}),
    ],
)
def test_another_connection_is_locked_out_of_an_exclusive_queue(
    channel: Channel, connect: Connect, names: Names, method: str, arguments: dict[str, Any]
) -> None:
    queue = connect().channel().declare(names.queue(), exclusive=True)
    channel.send(method, queue=queue, **arguments)
    channel.refuses(405, locked(queue), method)


@pytest.mark.parametrize("bound", [True, False])
def test_another_connection_may_unbind_an_exclusive_queue_only_from_what_it_is_not_bound_to(
    channel: Channel, connect: Connect, names: Names, bound: bool
) -> None:
    owner = connect().channel()
    queue = owner.declare(names.queue(), exclusive=True)
    if bound:
        owner.bind(queue, "amq.direct", "k")
    channel.send("queue.unbind", queue=queue, exchange="amq.direct", routing_key="k")
    if bound:
        channel.refuses(405, locked(queue), "queue.unbind")
    else:
        channel.expect("queue.unbind-ok")


def test_anyone_may_publish_to_an_exclusive_queue(channel: Channel, connect: Connect, names: Names) -> None:
    owner = connect().channel()
    queue = owner.declare(names.queue(), exclusive=True)
    channel.publish("m", routing_key=queue)
    owner.counts_become(queue, 1, 0)


def test_the_owner_may_delete_an_exclusive_queue_at_once(client: Client, names: Names) -> None:
    channel = client.channel()
    queue = channel.declare(names.queue(), exclusive=True)
    client.channel().call("queue.delete", queue=queue)
    assert is_gone(channel, queue)


# auto-delete


def test_an_auto_delete_queue_waits_for_its_first_consumer(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    channel.publish("m", routing_key=queue)
    assert channel.get(queue) is not None
    assert channel.counts(queue) == (0, 0)


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel: Channel, client: Client, names: Names) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    channel.consume(queue, "one")
    channel.consume(queue, "two")
    channel.call("basic.cancel", consumer_tag="one")
    assert channel.counts(queue) == (0, 1)
    channel.call("basic.cancel", consumer_tag="two")
    eventually(lambda: is_gone(channel, queue), True)


def test_an_auto_delete_queue_goes_with_the_channel_of_its_last_consumer(
    channel: Channel, client: Client, names: Names
) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    other = client.channel()
    other.consume(queue)
    other.close()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_auto_delete_queue_goes_with_the_connection_of_its_last_consumer(
    channel: Channel, connect: Connect, names: Names
) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    other = connect()
    other.channel().consume(queue)
    other.drop()
    eventually(lambda: is_gone(channel, queue), True)
