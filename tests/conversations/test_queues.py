"""Queues: declare, names, the one a channel declared last, purge, delete."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .client import Channel, Client
from .conftest import Connect, Names


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
    assert channel.call("queue.declare", queue=queue) == {
        "queue": queue,
        "message_count": 2,
        "consumer_count": 1,
    }


def test_declare_without_a_name_makes_one_up(channel: Channel) -> None:
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
        f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is "
        f"'false'",
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
    text = (
        f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'true' but current is 'false'"
    )
    cut = text.encode()[: 252 - len("PRECONDITION_FAILED - ")].decode()
    channel.refuses(406, text if len(text.encode()) < 230 else cut + "...", "queue.declare")


def test_a_queue_name_of_255_octets_is_allowed_and_cuts_the_reply_text_to_255(
    channel: Channel, names: Names
) -> None:
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
def test_an_empty_name_means_nothing_before_a_declare(
    channel: Channel, method: str, arguments: dict[str, Any]
) -> None:
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
    assert channel.call("queue.delete", queue=names.queue(), if_unused=True, if_empty=True) == {
        "message_count": 0
    }


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


def test_the_deleting_channel_hears_delete_ok_and_the_cancel_of_its_own_consumer(
    channel: Channel, queue: str
) -> None:
    channel.consume(queue, "mine")
    channel.send("queue.delete", queue=queue)
    replies = {reply.name: reply.arguments for reply in (channel.receive(), channel.receive())}
    assert replies == {
        "queue.delete-ok": {"message_count": 0},
        "basic.cancel": {"consumer_tag": "mine", "nowait": True},
    }


def test_a_client_that_did_not_ask_for_cancel_notices_gets_none(
    channel: Channel, connect: Connect, queue: str
) -> None:
    other = connect(capabilities={}).channel()
    other.consume(queue, "theirs")
    channel.call("queue.delete", queue=queue)
    other.hears_nothing()


def test_the_tag_of_a_cancelled_consumer_is_free_again(
    channel: Channel, client: Client, names: Names
) -> None:
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


def test_a_name_of_nothing_but_line_ends_is_no_queue(channel: Channel, queue: str) -> None:
    assert channel.call("queue.delete", queue="\r\n") == {"message_count": 0}
    assert channel.counts(queue) == (0, 0)


@pytest.mark.parametrize(("value", "said"), [(60000.0, "6.0e4"), (10.5, "10.5")])
def test_a_float_is_told_as_erlang_writes_it(channel: Channel, names: Names, value: float, said: str) -> None:
    queue = channel.declare(names.queue(), arguments={"x-expires": 60000})
    channel.send("queue.declare", queue=queue, arguments={"x-expires": value})
    channel.refuses(
        406,
        f"inequivalent arg 'x-expires' for queue '{queue}' in vhost '/': received '{said}' but current is '60000'",
        "queue.declare",
    )
