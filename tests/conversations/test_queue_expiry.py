"""Queues that go when nobody has used them for a time: what counts as use, and what happens then.

Whether a queue is still there is asked by binding it, which is no use of it; a passive declare would be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .client import DEADLINE, Channel, Client, eventually
from .codec import Typed
from .conftest import Connect, Names
from .pace import Pace, in_pace

BRIEF = 100
# long enough to come back to a queue in time
CALM = 500
# What the broker counts in, seconds: a time that begins within one may end a part of it sooner.
TICK = 0.001

Use = Callable[[Channel, str], object]


def lives(channel: Channel, queue: str) -> bool:
    """Whether the queue exists, asked in a way that does not prolong its life."""
    time.sleep(0.002)  # leave the processor to the broker
    channel.send("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    reply = channel.receive()
    if reply.name == "queue.bind-ok":
        return True
    assert reply["reply_text"] == f"NOT_FOUND - no queue '{queue}' in vhost '/'"
    channel.send("channel.close-ok")
    channel.open()
    return False


def goes(channel: Channel, queue: str) -> None:
    eventually(lambda: lives(channel, queue), wanted=False)


@pytest.fixture
def expiring(channel: Channel, names: Names) -> Callable[..., str]:
    def declare(after: Any = BRIEF, arguments: dict[str, Any] | None = None, **flags: bool) -> str:
        given = {"x-expires": after} | (arguments or {})
        return channel.declare(names.queue("expiring"), arguments=given, **flags)

    return declare


@pytest.fixture
def aside(client: Client) -> Channel:
    """A channel for what may be refused."""
    return client.channel()


@pytest.fixture
def used_at_once(names: Names) -> Callable[..., str]:
    """Declare a queue that expires, and send more to be done with it before any time has passed; the replies
    to that are still to come.
    """

    def declare(channel: Channel, more: Callable[[str], object], after: int = CALM, **flags: bool) -> str:
        queue = names.queue("expiring")
        with channel.client.at_once():
            channel.send("queue.declare", queue=queue, arguments={"x-expires": after}, **flags)
            more(queue)
        channel.expect("queue.declare-ok", queue=queue, message_count=0, consumer_count=0)
        return queue

    return declare


@pytest.fixture
def consumed(used_at_once: Callable[..., str]) -> Callable[..., str]:
    """The same, with these consumers from the beginning."""

    def declare(channel: Channel, *tags: str) -> str:
        def consume(queue: str) -> None:
            for tag in tags or ("c",):
                channel.send("basic.consume", queue=queue, consumer_tag=tag)

        queue = used_at_once(channel, consume)
        for tag in tags or ("c",):
            channel.expect("basic.consume-ok", consumer_tag=tag)
        return queue

    return declare


# when it goes


@pytest.mark.parametrize(
    "flags", [{}, {"durable": True}, {"exclusive": True}, {"auto_delete": True}], ids=str
)
def test_a_queue_that_nobody_uses_goes(
    channel: Channel, expiring: Callable[..., str], flags: dict[str, bool]
) -> None:
    queue = expiring(**flags)
    goes(channel, queue)


@pytest.mark.parametrize("kind", ["b", "B", "s", "u", "I", "i", "l"])
def test_the_time_may_be_an_integer_of_any_width(
    channel: Channel, expiring: Callable[..., str], kind: str
) -> None:
    queue = expiring(Typed(kind, BRIEF))
    goes(channel, queue)


def test_a_queue_does_not_go_before_its_time(channel: Channel, expiring: Callable[..., str]) -> None:
    began = time.monotonic()
    queue = expiring(400)
    goes(channel, queue)
    assert time.monotonic() - began >= 0.4 - TICK
    other = expiring(60000)
    goes(channel, expiring())
    assert lives(channel, other)


def test_the_messages_of_a_queue_that_goes_are_gone_and_are_no_dead_letters(
    channel: Channel, expiring: Callable[..., str], names: Names
) -> None:
    dead = channel.declare(names.queue("dead"))
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": 5 * BRIEF}
    queue = expiring(arguments=arguments)
    for body in "abc":
        channel.publish(body, routing_key=queue)
    goes(channel, queue)
    witness = channel.declare(names.queue(), arguments=arguments)
    channel.publish("later", routing_key=witness)
    assert channel.arrivals(dead, 1) == ["later"]
    assert channel.counts(dead) == (0, 0)


def test_messages_expire_as_long_as_the_queue_is_there(
    channel: Channel, expiring: Callable[..., str], names: Names
) -> None:
    dead = channel.declare(names.queue("dead"))
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": BRIEF}
    queue = expiring(60000, arguments)
    channel.publish("m", routing_key=queue)
    assert channel.arrivals(dead, 1) == ["m"]
    assert lives(channel, queue)


def test_a_queue_that_went_may_be_declared_anew_with_other_arguments(
    channel: Channel, expiring: Callable[..., str]
) -> None:
    queue = expiring()
    channel.publish("m", routing_key=queue)
    goes(channel, queue)
    assert channel.declare(queue, arguments={"x-max-length": 3}) == queue


def test_a_queue_that_went_is_no_target_any_more(
    channel: Channel, used_at_once: Callable[..., str], exchange: Callable[..., str]
) -> None:
    fanout = exchange("fanout")
    queue = used_at_once(channel, lambda queue: channel.send("queue.bind", queue=queue, exchange=fanout))
    channel.expect("queue.bind-ok")
    goes(channel, queue)
    for target, key in ((fanout, ""), ("", queue)):
        channel.publish("m", exchange=target, routing_key=key, mandatory=True)
        channel.expect("basic.return", reply_code=312, reply_text="NO_ROUTE")


def test_an_auto_delete_exchange_goes_with_the_last_queue_that_goes(
    channel: Channel, used_at_once: Callable[..., str], exchange: Callable[..., str]
) -> None:
    direct = exchange("direct", auto_delete=True)
    queue = used_at_once(channel, lambda queue: channel.send("queue.bind", queue=queue, exchange=direct))
    channel.expect("queue.bind-ok")
    goes(channel, queue)
    channel.send("exchange.declare", exchange=direct, passive=True)
    channel.refuses(404, f"no exchange '{direct}' in vhost '/'", "exchange.declare")


def test_what_is_out_when_the_queue_goes_may_still_be_settled(
    channel: Channel, aside: Channel, used_at_once: Callable[..., str]
) -> None:
    def take_three(queue: str) -> None:
        for body in "abc":
            aside.publish(body, routing_key=queue)
        for _ in "abc":
            aside.send("basic.get", queue=queue)

    queue = used_at_once(aside, take_three)
    assert [aside.expect("basic.get-ok").body for _ in "abc"] == [b"a", b"b", b"c"]
    goes(channel, queue)
    aside.send("basic.ack", delivery_tag=1)
    aside.send("basic.reject", delivery_tag=2)
    aside.send("basic.nack", delivery_tag=3, requeue=True)
    aside.hears_nothing()


# what counts as use


def declare_again(channel: Channel, queue: str) -> object:
    return channel.call("queue.declare", queue=queue, arguments={"x-expires": CALM})


def look(channel: Channel, queue: str) -> object:
    return channel.counts(queue)


def get(channel: Channel, queue: str) -> object:
    return channel.get(queue)


def publish_and_get(channel: Channel, queue: str) -> object:
    channel.publish("m", routing_key=queue)
    return channel.arrival(queue)


def consume_for_a_moment(channel: Channel, queue: str) -> object:
    channel.consume(queue)
    return channel.call("basic.cancel", consumer_tag="c")


@pytest.mark.parametrize(
    "use", [declare_again, look, get, publish_and_get, consume_for_a_moment], ids=lambda use: use.__name__
)
def test_a_queue_that_is_used_stays_until_it_is_not(connect: Connect, names: Names, use: Use) -> None:
    def attempt(pace: Pace) -> None:
        channel = connect().channel()
        queue, unused = (
            channel.declare(names.queue("expiring"), arguments={"x-expires": CALM}) for _ in range(2)
        )
        while lives(channel, unused):
            use(channel, queue)
            pace.step()
        assert lives(channel, queue)
        goes(channel, queue)

    in_pace(attempt, CALM / 1000)


def publish(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)


def purge(channel: Channel, queue: str) -> None:
    tolerant(channel, "queue.purge", queue=queue)


def delete_unless_empty(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    tolerant(channel, "queue.delete", queue=queue, if_empty=True)


def tolerant(channel: Channel, method: str, **arguments: Any) -> None:
    """Call a method that may be refused, as the queue may be gone by then."""
    channel.send(method, **arguments)
    reply = channel.receive()
    if reply.name == "channel.close":
        channel.send("channel.close-ok")
        channel.open()


@pytest.mark.parametrize("act", [publish, purge], ids=lambda act: act.__name__)
def test_what_is_no_use_does_not_keep_a_queue(
    channel: Channel, aside: Channel, expiring: Callable[..., str], act: Use
) -> None:
    queue = expiring()
    until = time.monotonic() + DEADLINE
    while lives(channel, queue):
        assert time.monotonic() < until
        act(aside, queue)


def test_a_bind_and_an_unbind_do_not_keep_a_queue(channel: Channel, expiring: Callable[..., str]) -> None:
    queue = expiring()
    until = time.monotonic() + DEADLINE
    while lives(channel, queue):  # this binds
        assert time.monotonic() < until
        channel.call("queue.unbind", queue=queue, exchange="amq.direct", routing_key=queue)


@pytest.mark.parametrize(
    "settle", [{"name": "basic.ack"}, {"name": "basic.reject", "requeue": True}], ids=str
)
def test_acks_and_requeues_do_not_keep_a_queue(
    channel: Channel, aside: Channel, consumed: Callable[..., str], settle: dict[str, Any]
) -> None:
    aside.call("basic.qos", prefetch_count=500)
    queue = consumed(aside)
    for _ in range(500):
        channel.publish("m", routing_key=queue)
    tags: Iterator[int] = iter([delivery["delivery_tag"] for delivery in aside.deliveries(500)])
    aside.call("basic.cancel", consumer_tag="c")
    while lives(channel, queue):
        aside.send(**settle, delivery_tag=next(tags))
        time.sleep(0.005)


def test_a_refused_declare_does_not_keep_a_queue(
    channel: Channel, aside: Channel, used_at_once: Callable[..., str]
) -> None:
    """Neither one with other arguments nor one with another owner."""
    for exclusive, code in ((False, 406), (True, 405)):
        arguments = {"x-expires": CALM if exclusive else 60000}

        def declare_otherwise(
            queue: str, arguments: dict[str, int] = arguments, exclusive: bool = exclusive
        ) -> None:
            aside.send("queue.declare", queue=queue, arguments=arguments, exclusive=exclusive)

        queue = used_at_once(channel, declare_otherwise)
        while True:
            reply = aside.receive()
            if reply.name == "queue.declare-ok":  # it was gone by then, so this is another
                aside.call("queue.delete", queue=queue)
                break
            assert reply["reply_code"] == code
            aside.send("channel.close-ok")
            aside.open()
            if not lives(channel, queue):
                break
            declare_otherwise(queue)


def test_a_delete_that_is_refused_does_not_keep_a_queue(
    channel: Channel, aside: Channel, expiring: Callable[..., str]
) -> None:
    queue = expiring(2 * BRIEF)
    while lives(channel, queue):
        delete_unless_empty(aside, queue)


def test_dead_letters_that_come_do_not_keep_a_queue(
    channel: Channel, aside: Channel, expiring: Callable[..., str], names: Names
) -> None:
    queue = expiring(3 * BRIEF)
    arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    source = channel.declare(names.queue(), arguments=arguments)
    while lives(channel, queue):
        aside.publish("m", routing_key=source)


# consumers


def test_a_consumer_keeps_a_queue(
    channel: Channel, aside: Channel, expiring: Callable[..., str], consumed: Callable[..., str]
) -> None:
    queue = consumed(aside)
    goes(channel, expiring(CALM))
    assert lives(channel, queue)
    channel.publish("m", routing_key=queue)
    assert aside.expect("basic.deliver").body == b"m"


@pytest.mark.parametrize("end", ["cancel", "channel", "connection", "drop"])
def test_a_queue_goes_its_time_after_its_last_consumer(
    channel: Channel,
    connect: Connect,
    expiring: Callable[..., str],
    consumed: Callable[..., str],
    end: str,
) -> None:
    client = connect()
    consumer = client.channel()
    queue = consumed(consumer, "first", "last")
    goes(channel, expiring(CALM))
    consumer.call("basic.cancel", consumer_tag="first")
    began = time.monotonic()
    if end == "cancel":
        consumer.call("basic.cancel", consumer_tag="last")
    else:
        {"channel": consumer.close, "connection": client.close, "drop": client.drop}[end]()
    goes(channel, queue)
    assert time.monotonic() - began >= CALM / 1000 - TICK


def test_what_is_out_does_not_keep_a_queue(
    channel: Channel, aside: Channel, consumed: Callable[..., str]
) -> None:
    queue = consumed(aside)
    channel.publish("m", routing_key=queue)
    aside.expect("basic.deliver")
    aside.call("basic.cancel", consumer_tag="c")
    goes(channel, queue)


def test_an_auto_delete_queue_goes_with_its_consumer_however_much_time_it_has(
    channel: Channel, aside: Channel, expiring: Callable[..., str]
) -> None:
    queue = expiring(60000, auto_delete=True)
    aside.consume(queue)
    aside.call("basic.cancel", consumer_tag="c")
    goes(channel, queue)


def test_an_exclusive_queue_goes_with_its_connection_however_much_time_it_has(
    channel: Channel, connect: Connect, names: Names
) -> None:
    owner = connect()
    queue = owner.channel().declare(names.queue(), exclusive=True, arguments={"x-expires": 60000})
    owner.close()
    goes(channel, queue)
