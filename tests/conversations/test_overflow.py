"""Full queues that refuse what is published to them: x-overflow reject-publish and reject-publish-dlx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Names

REFUSING = ("reject-publish", "reject-publish-dlx")


@pytest.fixture(params=REFUSING)
def overflow(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def confirming(client: Client) -> Channel:
    channel = client.channel()
    channel.call("confirm.select")
    return channel


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


def limits(overflow: str, length: int | None = None, octets: int | None = None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"x-overflow": overflow}
    if length is not None:
        arguments["x-max-length"] = length
    if octets is not None:
        arguments["x-max-length-bytes"] = octets
    return arguments


def to(dead: str) -> dict[str, str]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}


def outcome(confirming: Channel, number: int, body: str, queue: str, **properties: Any) -> str:
    confirming.publish(body, routing_key=queue, **properties)
    return confirming.outcomes(1, number)[0]


# who is told what


def test_a_full_queue_keeps_the_oldest_and_nacks_the_others(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 2))
    assert [outcome(confirming, number, str(number), queue) for number in (1, 2, 3, 4)] == [
        "ack",
        "ack",
        "nack",
        "nack",
    ]
    assert channel.drain(queue) == ["1", "2"]


def test_a_nack_to_a_publisher_says_requeue(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    """To a publisher that means nothing; `multiple` may be set, as nothing before it is left to settle."""
    queue = channel.declare(names.queue(), arguments=limits(overflow, 0))
    confirming.publish("m", routing_key=queue)
    confirming.expect("basic.nack", delivery_tag=1, requeue=True)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_of_a_burst_each_is_settled_once(
    channel: Channel, confirming: Channel, names: Names, overflow: str, mode: int, durable: bool
) -> None:
    queue = channel.declare(names.queue(), durable=durable, arguments=limits(overflow, 5))
    for number in range(50):
        confirming.publish(str(number), routing_key=queue, delivery_mode=mode)
    assert confirming.outcomes(50) == ["ack"] * 5 + ["nack"] * 45
    confirming.hears_nothing(queue)
    assert channel.drain(queue) == [str(number) for number in range(5)]


@pytest.mark.parametrize(
    ("bodies", "outcomes"),
    [
        (["aaa", "bbb", "", "c", ""], ["ack", "ack", "ack", "nack", "ack"]),
        (["aaaaaaa", "aaaaaa", ""], ["nack", "ack", "ack"]),
        (["aaa", "bbbb", "ccc"], ["ack", "nack", "ack"]),
    ],
    ids=str,
)
def test_a_queue_full_of_octets_nacks_what_does_not_fit(
    channel: Channel,
    confirming: Channel,
    names: Names,
    overflow: str,
    bodies: list[str],
    outcomes: list[str],
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, octets=6))
    found = [outcome(confirming, number, body, queue) for number, body in enumerate(bodies, 1)]
    assert found == outcomes
    assert channel.drain(queue) == [
        body for body, result in zip(bodies, outcomes, strict=True) if result == "ack"
    ]


def test_whichever_limit_is_reached_first_refuses(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 3, 4))
    bodies = ["aaa", "bb", "c", "d", "", ""]
    found = [outcome(confirming, number, body, queue) for number, body in enumerate(bodies, 1)]
    assert found == ["ack", "nack", "ack", "nack", "ack", "nack"]
    assert channel.drain(queue) == ["aaa", "c", ""]


@pytest.mark.parametrize("mandatory", [True, False])
def test_without_confirms_a_refused_message_is_gone_without_a_word(
    channel: Channel, names: Names, overflow: str, mandatory: bool
) -> None:
    """Not even a mandatory one is returned: it was routed."""
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1))
    for body in "abc":
        channel.publish(body, routing_key=queue, mandatory=mandatory)
    channel.hears_nothing(queue)
    assert channel.drain(queue) == ["a"]


def test_a_mandatory_message_that_is_refused_is_nacked_and_not_returned(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 0))
    confirming.publish("m", routing_key=queue, mandatory=True)
    confirming.expect("basic.nack", delivery_tag=1)
    confirming.hears_nothing(queue)


def test_the_numbers_of_nacks_and_acks_are_one_sequence(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    full = channel.declare(names.queue(), arguments=limits(overflow, 0))
    free = channel.declare(names.queue())
    targets = [full, free, "nowhere", full, full, free]
    found = [outcome(confirming, number, "m", target) for number, target in enumerate(targets, 1)]
    assert found == ["nack", "ack", "ack", "nack", "nack", "ack"]
    assert channel.drain(free) == ["m", "m"]


def test_a_burst_to_full_and_free_queues_is_settled_rightly(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    full = channel.declare(names.queue(), arguments=limits(overflow, 0))
    free = channel.declare(names.queue())
    for number in range(60):
        confirming.publish("m", routing_key=full if number % 3 == 0 else free)
    assert confirming.outcomes(60) == ["nack", "ack", "ack"] * 20
    confirming.hears_nothing(free)
    assert len(channel.drain(free)) == 40


@pytest.mark.parametrize("full_first", [True, False])
def test_a_message_is_nacked_if_any_of_its_queues_refuses_it_and_the_others_keep_it(
    channel: Channel,
    confirming: Channel,
    names: Names,
    exchange: Callable[..., str],
    overflow: str,
    full_first: bool,
) -> None:
    fanout = exchange("fanout")
    declared = [limits(overflow, 1), {}, {}]
    queues = [
        channel.declare(names.queue(), arguments=arguments)
        for arguments in (declared if full_first else declared[::-1])
    ]
    for queue in queues:
        channel.bind(queue, fanout)
    for number, wanted in ((1, "ack"), (2, "nack"), (3, "nack")):
        confirming.publish(str(number), exchange=fanout, mandatory=True)
        assert confirming.outcomes(1, number) == [wanted]
    confirming.hears_nothing()
    kept = [channel.drain(queue) for queue in queues]
    assert sorted(kept) == [["1"], ["1", "2", "3"], ["1", "2", "3"]]
    assert kept[0 if full_first else 2] == ["1"]


def test_a_message_that_two_queues_refuse_is_nacked_once(
    channel: Channel, confirming: Channel, names: Names, exchange: Callable[..., str], overflow: str
) -> None:
    fanout = exchange("fanout")
    for _ in range(2):
        channel.bind(channel.declare(names.queue(), arguments=limits(overflow, 0)), fanout)
    for number in (1, 2):
        confirming.publish("m", exchange=fanout)
        assert confirming.outcomes(1, number) == ["nack"]
    confirming.hears_nothing()


def test_a_refusal_is_no_reason_to_try_the_alternate_exchange(
    channel: Channel, confirming: Channel, names: Names, exchange: Callable[..., str], overflow: str
) -> None:
    other = exchange("fanout")
    direct = exchange("direct", arguments={"alternate-exchange": other})
    full = channel.declare(names.queue(), arguments=limits(overflow, 0))
    spare = channel.declare(names.queue())
    channel.bind(full, direct, "k")
    channel.bind(spare, other)
    confirming.publish("refused", exchange=direct, routing_key="k")
    confirming.publish("unroutable", exchange=direct, routing_key="other")
    assert confirming.outcomes(2) == ["nack", "ack"]
    assert channel.drain(spare) == ["unroutable"]


def test_a_refusal_by_a_queue_of_the_alternate_exchange_is_a_nack(
    channel: Channel, confirming: Channel, names: Names, exchange: Callable[..., str], overflow: str
) -> None:
    other = exchange("fanout")
    direct = exchange("direct", arguments={"alternate-exchange": other})
    channel.bind(channel.declare(names.queue(), arguments=limits(overflow, 0)), other)
    confirming.publish("m", exchange=direct, routing_key="nowhere", mandatory=True)
    assert confirming.outcomes(1) == ["nack"]


# room


@pytest.mark.parametrize("length", [0, 1])
def test_what_has_been_taken_makes_room(
    channel: Channel, confirming: Channel, names: Names, overflow: str, length: int
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, length))
    results = [outcome(confirming, number, "m", queue) for number in range(1, length + 2)]
    assert results == ["ack"] * length + ["nack"]
    if length:
        assert channel.drain(queue) == ["m"]
        assert outcome(confirming, length + 2, "n", queue) == "ack"


def test_a_purge_makes_room(channel: Channel, confirming: Channel, names: Names, overflow: str) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1))
    assert outcome(confirming, 1, "a", queue) == "ack"
    assert channel.call("queue.purge", queue=queue) == {"message_count": 1}
    assert outcome(confirming, 2, "b", queue) == "ack"
    assert outcome(confirming, 3, "c", queue) == "nack"


def test_what_expires_makes_room(
    channel: Channel, confirming: Channel, names: Names, dead: str, overflow: str
) -> None:
    arguments = limits(overflow, 1) | to(dead) | {"x-message-ttl": 50}
    queue = channel.declare(names.queue(), arguments=arguments)
    assert outcome(confirming, 1, "a", queue) == "ack"
    assert channel.arrivals(dead, 1) == ["a"]
    assert outcome(confirming, 2, "b", queue) == "ack"


def test_what_is_out_takes_no_room(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1))
    assert outcome(confirming, 1, "a", queue) == "ack"
    channel.arrival(queue, no_ack=False)
    assert outcome(confirming, 2, "b", queue) == "ack"
    assert outcome(confirming, 3, "c", queue) == "nack"


def test_a_consumer_that_waits_does_not_help_where_there_is_no_room_at_all(
    channel: Channel, confirming: Channel, client: Client, names: Names, overflow: str
) -> None:
    """Whether a message fits is asked before a consumer is looked for."""
    queue = channel.declare(names.queue(), arguments=limits(overflow, 0))
    consumer = client.channel()
    consumer.consume(queue)
    assert outcome(confirming, 1, "m", queue) == "nack"
    consumer.hears_nothing(queue)


def test_a_message_longer_than_the_limit_is_refused_though_a_consumer_waits(
    channel: Channel, confirming: Channel, client: Client, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, octets=3))
    consumer = client.channel()
    consumer.consume(queue, no_ack=True)
    assert outcome(confirming, 1, "long", queue) == "nack"
    assert outcome(confirming, 2, "fit", queue) == "ack"
    assert consumer.expect("basic.deliver").body == b"fit"


def test_a_consumer_that_waits_keeps_the_queue_free(
    channel: Channel, confirming: Channel, client: Client, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1))
    consumer = client.channel()
    consumer.consume(queue, no_ack=True)
    for number in range(20):
        confirming.publish(str(number), routing_key=queue)
    assert confirming.outcomes(20) == ["ack"] * 20
    assert [int(delivery.body) for delivery in consumer.deliveries(20)] == list(range(20))


@pytest.mark.parametrize("how", ["nack", "recover", "close"])
def test_what_is_given_back_to_a_full_queue_stays_and_the_queue_is_too_long(
    channel: Channel, confirming: Channel, client: Client, names: Names, dead: str, overflow: str, how: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 2) | to(dead))
    other = client.channel()
    for number, body in enumerate("ab", 1):
        assert outcome(confirming, number, body, queue) == "ack"
        other.arrival(queue, no_ack=False)
    for number, body in enumerate("cd", 3):
        assert outcome(confirming, number, body, queue) == "ack"
    if how == "nack":
        other.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    elif how == "recover":
        other.call("basic.recover", requeue=True)
    else:
        other.close()
    channel.counts_become(queue, 4, 0)
    assert outcome(confirming, 5, "e", queue) == "nack"
    assert channel.arrivals(queue, 3) == ["a", "b", "c"]
    assert outcome(confirming, 6, "f", queue) == "ack"
    assert outcome(confirming, 7, "g", queue) == "nack"
    assert channel.drain(queue) == ["d", "f"]


@pytest.mark.parametrize("overflow", REFUSING)
def test_priorities_make_no_room(channel: Channel, confirming: Channel, names: Names, overflow: str) -> None:
    arguments = limits(overflow, 2) | {"x-max-priority": 5}
    queue = channel.declare(names.queue(), arguments=arguments)
    found = [
        outcome(confirming, number, body, queue, priority=priority)
        for number, (body, priority) in enumerate((("low", 0), ("mid", 3), ("high", 5)), 1)
    ]
    assert found == ["ack", "ack", "nack"]
    assert channel.drain(queue) == ["mid", "low"]


# dead letters of what is refused


def test_what_is_refused_is_dead_lettered_with_its_properties(
    channel: Channel, confirming: Channel, names: Names, dead: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits("reject-publish-dlx", 1) | to(dead))
    assert outcome(confirming, 1, "a", queue) == "ack"
    assert (
        outcome(confirming, 2, "b", queue, delivery_mode=2, expiration="60000", headers={"CC": ["cc"]})
        == "nack"
    )
    message = channel.arrival(dead)
    assert (message.body, message["redelivered"], message["routing_key"]) == (b"b", False, dead)
    headers = message.properties["headers"]
    entry = headers["x-death"].value[0].value
    assert {key: entry[key] for key in entry if key != "time"} == {
        "count": Typed("l", 1),
        "reason": Typed("S", "maxlen"),
        "queue": Typed("S", queue),
        "exchange": Typed("S", ""),
        "routing-keys": Typed("A", [Typed("S", queue), Typed("S", "cc")]),
        "original-expiration": Typed("S", "60000"),
    }
    assert headers["x-first-death-reason"] == Typed("S", "maxlen")
    assert message.properties["delivery_mode"] == 2
    assert "expiration" not in message.properties
    assert channel.drain(queue) == ["a"]


def test_refused_messages_are_dead_lettered_in_their_order(channel: Channel, names: Names, dead: str) -> None:
    queue = channel.declare(names.queue(), arguments=limits("reject-publish-dlx", 1) | to(dead))
    for body in "abcde":
        channel.publish(body, routing_key=queue)
    assert channel.arrivals(dead, 4) == ["b", "c", "d", "e"]
    assert channel.drain(queue) == ["a"]


def test_what_is_refused_does_not_come_back_to_its_own_queue(
    channel: Channel, confirming: Channel, names: Names
) -> None:
    arguments = limits("reject-publish-dlx", 1) | {"x-dead-letter-exchange": ""}
    queue = channel.declare(names.queue(), arguments=arguments)
    assert [outcome(confirming, number, str(number), queue) for number in (1, 2)] == ["ack", "nack"]
    assert channel.drain(queue) == ["1"]
    channel.hears_nothing(queue)
    assert channel.counts(queue) == (0, 0)


def test_other_deaths_are_dead_lettered_whatever_the_overflow(
    channel: Channel, names: Names, dead: str, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1) | to(dead))
    channel.publish("m", routing_key=queue)
    message = channel.arrival(queue, no_ack=False)
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    headers = channel.arrival(dead).properties["headers"]
    assert headers["x-first-death-reason"] == Typed("S", "rejected")


def test_an_overflow_without_a_limit_refuses_nothing(
    channel: Channel, confirming: Channel, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow))
    for number in range(1, 11):
        assert outcome(confirming, number, "m", queue) == "ack"
    assert channel.counts(queue) == (10, 0)


# transactions


def test_a_commit_of_which_a_queue_refuses_something_closes_the_channel_and_keeps_the_rest(
    channel: Channel, client: Client, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 2))
    tx = client.channel()
    tx.call("tx.select")
    for body in "abcd":
        tx.publish(body, routing_key=queue)
    tx.send("tx.commit")
    tx.refuses(406, "partial tx completion", "tx.commit")
    assert channel.drain(queue) == ["a", "b"]


def test_a_rolled_back_publish_takes_no_room(
    channel: Channel, client: Client, names: Names, overflow: str
) -> None:
    queue = channel.declare(names.queue(), arguments=limits(overflow, 1))
    tx = client.channel()
    tx.call("tx.select")
    tx.publish("a", routing_key=queue)
    tx.call("tx.rollback")
    tx.publish("b", routing_key=queue)
    tx.call("tx.commit")
    assert channel.drain(queue) == ["b"]
