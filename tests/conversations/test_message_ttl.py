"""Messages that live for a time only: the queue's TTL, the message's expiration, and both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Connect, Names
from .pace import Pace, in_pace

LONG = 60000
SHORT = 50


@pytest.fixture
def with_ttl(channel: Channel, names: Names) -> Callable[..., str]:
    """Declare a queue with a TTL, whose dead letters go to another queue if one is named."""

    def declare(ttl: Any, dead: str | None = None, **arguments: Any) -> str:
        given = {} if ttl is None else {"x-message-ttl": ttl}
        if dead is not None:
            given |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        return channel.declare(names.queue("ttl"), arguments=given | arguments)

    return declare


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


@pytest.fixture
def let_pass(channel: Channel, names: Names) -> Callable[[int], None]:
    """Wait until whatever has been published so far with a TTL of so many milliseconds has expired: a
    message published now has.
    """
    arguments = {"x-message-ttl": SHORT, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": ""}

    def let_pass(ttl: int) -> None:
        over = channel.declare(names.queue("over"))
        arguments["x-dead-letter-routing-key"] = over
        clock = channel.declare(names.queue("clock"), arguments=arguments | {"x-message-ttl": ttl})
        channel.publish("tick", routing_key=clock)
        channel.arrival(over)

    return let_pass


# how long a message lives


@pytest.mark.parametrize(
    ("ttl", "expiration", "dies"),
    [
        (SHORT, None, True),
        (None, str(SHORT), True),
        (SHORT, str(LONG), True),
        (LONG, str(SHORT), True),
        (SHORT, str(SHORT), True),
        (SHORT, "315360000000", True),
        (315360000000, str(SHORT), True),
        (LONG, None, False),
        (None, str(LONG), False),
        (LONG, str(LONG), False),
        (315360000000, "315360000000", False),
    ],
)
def test_the_shorter_of_both_times_counts(
    channel: Channel,
    with_ttl: Callable[..., str],
    dead: str,
    let_pass: Callable[[int], None],
    ttl: int | None,
    expiration: str | None,
    dies: bool,
) -> None:
    queue = with_ttl(ttl, dead)
    properties: dict[str, Any] = {} if expiration is None else {"expiration": expiration}
    channel.publish("m", routing_key=queue, **properties)
    if dies:
        assert channel.arrivals(dead, 1) == ["m"]
        assert channel.counts(queue) == (0, 0)
    else:
        let_pass(SHORT)
        assert channel.counts(dead) == (0, 0)
        assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize("kind", ["b", "B", "s", "u", "I", "i", "l"])
def test_a_ttl_may_be_an_integer_of_any_width(
    channel: Channel, with_ttl: Callable[..., str], dead: str, kind: str
) -> None:
    channel.publish("m", routing_key=with_ttl(Typed(kind, SHORT), dead))
    assert channel.arrivals(dead, 1) == ["m"]


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_messages_expire_in_every_kind_of_queue(
    channel: Channel, names: Names, dead: str, mode: int, durable: bool
) -> None:
    arguments = {"x-message-ttl": SHORT, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = channel.declare(names.queue(), durable=durable, arguments=arguments)
    channel.publish("m", routing_key=queue, delivery_mode=mode)
    assert channel.arrivals(dead, 1) == ["m"]
    assert channel.counts(queue) == (0, 0)


def test_a_message_that_expires_without_a_dead_letter_exchange_is_gone(
    channel: Channel, with_ttl: Callable[..., str], let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(SHORT)
    channel.publish("m", routing_key=queue)
    let_pass(SHORT)
    channel.counts_become(queue, 0, 0)
    assert channel.get(queue) is None


def test_a_message_lives_in_each_queue_as_long_as_that_lets_it(
    channel: Channel, with_ttl: Callable[..., str], exchange: Callable[..., str], dead: str
) -> None:
    fanout = exchange("fanout")
    brief, long, forever = with_ttl(SHORT, dead), with_ttl(LONG), with_ttl(None)
    for queue in (brief, long, forever):
        channel.bind(queue, fanout)
    channel.publish("m", exchange=fanout)
    assert channel.arrivals(dead, 1) == ["m"]
    assert [channel.drain(queue) for queue in (brief, long, forever)] == [[], ["m"], ["m"]]


def test_messages_of_equal_ttl_expire_in_their_order(
    channel: Channel, with_ttl: Callable[..., str], dead: str
) -> None:
    queue = with_ttl(SHORT, dead)
    bodies = [str(number) for number in range(200)]
    for body in bodies:
        channel.publish(body, routing_key=queue)
    assert channel.arrivals(dead, 200) == bodies


def test_messages_expire_one_after_another_and_the_others_stay(
    channel: Channel, with_ttl: Callable[..., str], dead: str
) -> None:
    queue = with_ttl(None, dead)
    for expiration in ("40", "80", "120", str(LONG)):
        channel.publish(expiration, routing_key=queue, expiration=expiration)
    channel.publish("no expiration", routing_key=queue)
    assert channel.arrivals(dead, 3) == ["40", "80", "120"]
    assert channel.drain(queue) == [str(LONG), "no expiration"]


@pytest.mark.parametrize("expiration", [None, str(LONG)])
def test_the_expiration_is_delivered_as_it_was_published(
    channel: Channel, with_ttl: Callable[..., str], expiration: str | None
) -> None:
    queue = with_ttl(30000)
    properties: dict[str, Any] = {} if expiration is None else {"expiration": expiration}
    channel.publish("m", routing_key=queue, **properties)
    assert channel.arrival(queue).properties == properties


# expirations that make no sense


BAD_EXPIRATIONS = {
    "": "no_integer",
    "abc": "no_integer",
    " 10": "no_integer",
    "٣": "no_integer",
    "-": "no_integer",
    "10 ": '{leftover_string," "}',
    "10ms": '{leftover_string,"ms"}',
    "1.5": '{leftover_string,".5"}',
    "1e3": '{leftover_string,"e3"}',
    "0x10": '{leftover_string,"x10"}',
    "-1": "{value_negative,-1}",
    "315360000001": "{value_too_large,315360000001}",
}


@pytest.mark.parametrize(("expiration", "complaint"), BAD_EXPIRATIONS.items())
@pytest.mark.parametrize("routable", [True, False])
def test_an_expiration_that_is_no_time_is_refused(
    channel: Channel, queue: str, expiration: str, complaint: str, routable: bool
) -> None:
    channel.publish("m", routing_key=queue if routable else "nowhere", expiration=expiration)
    channel.refuses(406, f"invalid expiration '{expiration}': {complaint}", "basic.publish")
    assert channel.counts(queue) == (0, 0)


@pytest.mark.parametrize("expiration", ["60000", "+60000", "00060000", "315360000000"])
def test_an_expiration_at_the_edge_of_sense_is_accepted(
    channel: Channel, queue: str, expiration: str
) -> None:
    channel.publish("m", routing_key=queue, expiration=expiration)
    assert channel.arrival(queue).properties == {"expiration": expiration}


def test_a_missing_exchange_and_a_foreign_user_are_found_before_a_bad_expiration(channel: Channel) -> None:
    channel.publish("m", exchange="not there", expiration="abc")
    channel.refuses(404, "no exchange 'not there' in vhost '/'", "basic.publish")
    channel.publish("m", routing_key="k", expiration="abc", user_id="nobody")
    channel.refuses(
        406, "user_id property set to 'nobody' but authenticated user was 'guest'", "basic.publish"
    )


def test_a_bad_expiration_is_found_before_a_bad_cc(channel: Channel) -> None:
    channel.publish("m", routing_key="k", expiration="abc", headers={"CC": 3})
    channel.refuses(406, "invalid expiration 'abc': no_integer", "basic.publish")


def test_a_bad_expiration_is_refused_at_once_in_a_transaction(channel: Channel) -> None:
    channel.call("tx.select")
    channel.publish("m", routing_key="k", expiration="abc")
    channel.refuses(406, "invalid expiration 'abc': no_integer", "basic.publish")


def test_a_bad_expiration_leaves_the_message_unconfirmed(channel: Channel, queue: str) -> None:
    channel.call("confirm.select")
    channel.publish("m", routing_key=queue, expiration="abc")
    channel.refuses(406, "invalid expiration 'abc': no_integer", "basic.publish")


# a short life behind a long one


def test_a_message_that_expired_behind_a_longer_one_is_never_got(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(None, dead)
    for body, expiration in (("a", LONG), ("b", SHORT), ("c", LONG), ("d", SHORT)):
        channel.publish(body, routing_key=queue, expiration=str(expiration))
    let_pass(SHORT)
    assert channel.drain(queue) == ["a", "c"]
    assert channel.arrivals(dead, 2) == ["b", "d"]


def test_a_message_that_expired_behind_a_longer_one_is_never_delivered(
    channel: Channel,
    client: Client,
    with_ttl: Callable[..., str],
    dead: str,
    let_pass: Callable[[int], None],
) -> None:
    queue = with_ttl(None, dead)
    for body, expiration in (("a", LONG), ("b", SHORT), ("c", LONG), ("d", SHORT), ("e", LONG)):
        channel.publish(body, routing_key=queue, expiration=str(expiration))
    let_pass(SHORT)
    consumer = client.channel()
    consumer.consume(queue, no_ack=True)
    assert [delivery.body for delivery in consumer.deliveries(3)] == [b"a", b"c", b"e"]
    consumer.hears_nothing(queue)
    assert channel.arrivals(dead, 2) == ["b", "d"]


def test_a_message_that_expired_behind_one_without_a_time_is_never_got(
    channel: Channel, with_ttl: Callable[..., str], let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(None)
    channel.publish("a", routing_key=queue)
    channel.publish("b", routing_key=queue, expiration=str(SHORT))
    channel.publish("c", routing_key=queue)
    let_pass(SHORT)
    assert channel.drain(queue) == ["a", "c"]


def test_a_message_that_expired_behind_a_longer_one_counts_until_its_turn_comes(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    """Only the head of the queue is looked at."""
    queue = with_ttl(None, dead)
    for body, expiration in (("a", LONG), ("b", SHORT), ("c", SHORT)):
        channel.publish(body, routing_key=queue, expiration=str(expiration))
    let_pass(SHORT)
    assert channel.counts(queue) == (3, 0)
    assert channel.counts(dead) == (0, 0)
    taken = channel.get(queue, no_ack=False)
    assert taken is not None
    assert (taken.body, taken["message_count"]) == (b"a", 0)
    channel.counts_become(queue, 0, 0)
    assert channel.arrivals(dead, 2) == ["b", "c"]


def test_a_purge_counts_what_expired_behind_a_longer_one(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(None, dead)
    channel.publish("a", routing_key=queue, expiration=str(LONG))
    channel.publish("b", routing_key=queue, expiration=str(SHORT))
    let_pass(SHORT)
    assert channel.call("queue.purge", queue=queue) == {"message_count": 2}
    assert channel.counts(dead) == (0, 0)


def test_the_dead_letters_of_mixed_times_come_in_the_order_of_the_queue(
    channel: Channel, with_ttl: Callable[..., str], dead: str
) -> None:
    queue = with_ttl(None, dead)
    for expiration in (120, 30, 60, 180, 40):
        channel.publish(str(expiration), routing_key=queue, expiration=str(expiration))
    assert channel.arrivals(dead, 5) == ["120", "30", "60", "180", "40"]


def test_a_queue_whose_messages_have_all_expired_is_empty(
    channel: Channel, with_ttl: Callable[..., str], dead: str
) -> None:
    queue = with_ttl(SHORT, dead)
    for _ in range(3):
        channel.publish("m", routing_key=queue)
    channel.arrivals(dead, 3)
    assert channel.call("queue.delete", queue=queue, if_empty=True) == {"message_count": 0}


# no time at all


@pytest.fixture(params=["ttl", "expiration", "both"])
def at_once(
    request: pytest.FixtureRequest, with_ttl: Callable[..., str], dead: str
) -> tuple[str, dict[str, Any]]:
    """A queue, and the properties of a message that may not wait in it."""
    queue = with_ttl(None if request.param == "expiration" else 0, dead)
    return queue, {} if request.param == "ttl" else {"expiration": "0"}


def test_without_a_consumer_a_message_that_may_not_wait_dies(
    channel: Channel, at_once: tuple[str, dict[str, Any]], dead: str
) -> None:
    queue, properties = at_once
    channel.publish("m", routing_key=queue, **properties)
    assert channel.get(queue) is None
    assert channel.arrivals(dead, 1) == ["m"]


def test_a_consumer_that_waits_gets_a_message_that_may_not_wait(
    channel: Channel, client: Client, at_once: tuple[str, dict[str, Any]], dead: str
) -> None:
    queue, properties = at_once
    consumer = client.channel()
    consumer.consume(queue)
    for body in "abc":
        channel.publish(body, routing_key=queue, **properties)
    deliveries = consumer.deliveries(3)
    assert [(delivery.body, delivery["redelivered"]) for delivery in deliveries] == [
        (b"a", False),
        (b"b", False),
        (b"c", False),
    ]
    consumer.send("basic.ack", delivery_tag=3, multiple=True)
    consumer.hears_nothing(queue)
    assert channel.counts(dead) == (0, 0)


def test_a_consumer_that_is_full_does_not_save_a_message_that_may_not_wait(
    channel: Channel, client: Client, at_once: tuple[str, dict[str, Any]], dead: str
) -> None:
    queue, properties = at_once
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    for body in "ab":
        channel.publish(body, routing_key=queue, **properties)
    assert consumer.expect("basic.deliver").body == b"a"
    assert channel.arrivals(dead, 1) == ["b"]
    consumer.send("basic.ack", delivery_tag=1)
    consumer.hears_nothing(queue)
    channel.publish("c", routing_key=queue, **properties)
    assert consumer.expect("basic.deliver").body == b"c"


def test_a_message_that_may_not_wait_dies_when_it_is_requeued_though_a_consumer_waits(
    channel: Channel, client: Client, at_once: tuple[str, dict[str, Any]], dead: str
) -> None:
    queue, properties = at_once
    consumer = client.channel()
    consumer.consume(queue)
    channel.publish("m", routing_key=queue, **properties)
    delivery = consumer.expect("basic.deliver")
    consumer.send("basic.reject", delivery_tag=delivery["delivery_tag"], requeue=True)
    assert channel.arrivals(dead, 1) == ["m"]
    consumer.hears_nothing(queue)


@pytest.mark.parametrize("waiting", [True, False])
def test_a_message_that_may_not_wait_is_confirmed_either_way(
    channel: Channel, client: Client, at_once: tuple[str, dict[str, Any]], waiting: bool
) -> None:
    queue, properties = at_once
    if waiting:
        client.channel().consume(queue, no_ack=True)
    channel.call("confirm.select")
    for number in (1, 2, 3):
        channel.publish("m", routing_key=queue, mandatory=True, **properties)
        assert channel.outcomes(1, number) == ["ack"]


# what has been handed out


def test_a_message_that_is_out_does_not_expire(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(SHORT, dead)
    channel.consume(queue)
    channel.publish("m", routing_key=queue)
    delivery = channel.expect("basic.deliver")
    let_pass(SHORT)
    assert channel.counts(dead) == (0, 0)
    channel.send("basic.ack", delivery_tag=delivery["delivery_tag"])
    channel.hears_nothing(queue)
    assert channel.counts(dead) == (0, 0)


def test_a_message_refused_after_its_time_died_of_the_refusal(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(SHORT, dead)
    channel.consume(queue)
    channel.publish("m", routing_key=queue)
    delivery = channel.expect("basic.deliver")
    let_pass(SHORT)
    channel.send("basic.reject", delivery_tag=delivery["delivery_tag"])
    headers = channel.arrival(dead).properties["headers"]
    assert headers["x-first-death-reason"] == Typed("S", "rejected")


@pytest.mark.parametrize("how", ["reject", "nack", "recover", "channel", "connection"])
@pytest.mark.parametrize("waiting", [True, False])
def test_a_message_given_back_after_its_time_expires(
    channel: Channel,
    connect: Connect,
    with_ttl: Callable[..., str],
    dead: str,
    let_pass: Callable[[int], None],
    how: str,
    waiting: bool,
) -> None:
    """Even if a consumer waits for it."""
    queue = with_ttl(SHORT, dead)
    client = connect()
    consumer, other = client.channel(), connect().channel()
    consumer.consume(queue)
    channel.publish("m", routing_key=queue)
    tag = consumer.expect("basic.deliver")["delivery_tag"]
    if waiting:
        other.consume(queue)
    let_pass(SHORT)
    if how == "reject":
        consumer.send("basic.reject", delivery_tag=tag, requeue=True)
    elif how == "nack":
        consumer.send("basic.nack", delivery_tag=tag, requeue=True)
    elif how == "recover":
        consumer.call("basic.recover", requeue=True)
    else:
        {"channel": consumer.close, "connection": client.close}[how]()
    message = channel.arrival(dead)
    assert message.properties["headers"]["x-first-death-reason"] == Typed("S", "expired")
    assert message["redelivered"] is False
    other.hears_nothing(queue)


def test_a_message_given_back_before_its_time_expires_at_its_time(
    connect: Connect, names: Names, with_ttl: Callable[..., str], let_pass: Callable[[int], None]
) -> None:
    """A time counted anew from the second requeue would end after that of the message that follows it."""

    def attempt(pace: Pace) -> None:
        channel = connect().channel()
        dead = channel.declare(names.queue("dead"))
        queue, after = (with_ttl(8 * SHORT, dead) for _ in range(2))
        pace.step()
        channel.publish("first", routing_key=queue)
        let_pass(SHORT)
        channel.publish("second", routing_key=after)
        for _ in range(2):
            channel.consume(queue)
            delivery = channel.expect("basic.deliver")
            channel.call("basic.cancel", consumer_tag="c")
            channel.send("basic.reject", delivery_tag=delivery["delivery_tag"], requeue=True)
        channel.hears_nothing(queue)
        pace.step()
        assert channel.arrivals(dead, 2) == ["first", "second"]
        assert channel.counts(queue) == (0, 0)

    in_pace(attempt, 8 * SHORT / 1000)


def test_messages_given_back_in_the_middle_expire_in_their_turn(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(None, dead)
    channel.call("basic.qos", prefetch_count=2)
    channel.consume(queue)
    for body, expiration in (("a", LONG), ("b", SHORT), ("c", LONG)):
        channel.publish(body, routing_key=queue, expiration=str(expiration))
    assert [delivery.body for delivery in channel.deliveries(2)] == [b"a", b"b"]
    channel.call("basic.cancel", consumer_tag="c")
    let_pass(SHORT)
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert channel.drain(queue) == ["a", "c"]
    assert channel.arrivals(dead, 1) == ["b"]


# transactions and declaring again


def test_the_time_of_a_message_in_a_transaction_begins_with_the_commit(
    channel: Channel,
    client: Client,
    with_ttl: Callable[..., str],
    dead: str,
    let_pass: Callable[[int], None],
) -> None:
    """So it outlives a message that was published after it but before the commit."""
    queue, other = with_ttl(300, dead), with_ttl(300, dead)
    tx = client.channel()
    tx.call("tx.select")
    tx.publish("in the transaction", routing_key=queue)
    tx.hears_nothing()
    let_pass(200)
    channel.publish("in between", routing_key=other)
    let_pass(100)
    tx.call("tx.commit")
    assert channel.arrivals(dead, 2) == ["in between", "in the transaction"]


def test_declaring_again_does_not_begin_the_time_anew(
    channel: Channel, with_ttl: Callable[..., str], dead: str
) -> None:
    queue = with_ttl(100, dead)
    channel.publish("m", routing_key=queue)
    arguments = {"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    while channel.counts(dead) == (0, 0):
        channel.call("queue.declare", queue=queue, arguments=arguments)
    assert channel.drain(dead) == ["m"]


def test_a_purge_forgets_the_times(
    channel: Channel, with_ttl: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = with_ttl(SHORT, dead)
    with channel.client.at_once():
        for _ in range(3):
            channel.publish("m", routing_key=queue)
        channel.send("queue.purge", queue=queue)
    channel.expect("queue.purge-ok", message_count=3)
    let_pass(SHORT)
    channel.publish("n", routing_key=queue)
    assert channel.arrivals(dead, 1) == ["n"]
    assert channel.counts(dead) == (0, 0)
