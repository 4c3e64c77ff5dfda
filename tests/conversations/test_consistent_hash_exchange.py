"""Consistent-hash exchanges: what may be hashed, weights, and one queue for each value.

RabbitMQ needs its plugin rabbitmq_consistent_hash_exchange. Which queue gets a value is not compared, as every
broker hashes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel
from .codec import Typed
from .conftest import Names
from .spread import spread

Declare = Callable[..., str]
Differs = Callable[..., Any]
KIND = "x-consistent-hash"


@pytest.fixture
def queues(channel: Channel, names: Names) -> list[str]:
    return [channel.declare(names.queue()) for _ in range(3)]


def bound(channel: Channel, exchange: str, queues: list[str], *weights: int) -> str:
    for queue, weight in zip(queues, weights or (1,) * len(queues), strict=True):
        channel.bind(queue, exchange, str(weight))
    return exchange


# declaring


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"hash-header": "user"},
        {"hash-header": ""},
        {"hash-property": "message_id"},
        {"hash-property": "correlation_id"},
        {"hash-property": "timestamp"},
        {"something": "else"},
    ],
)
def test_it_can_be_declared_twice(channel: Channel, exchange: Declare, arguments: dict[str, Any]) -> None:
    name = exchange(KIND, arguments=arguments)
    channel.call("exchange.declare", exchange=name, type=KIND, arguments=arguments)


def test_what_is_hashed_is_not_compared_at_a_redeclaration(channel: Channel, exchange: Declare) -> None:
    name = exchange(KIND, arguments={"hash-header": "user"})
    for other in ({}, {"hash-header": "other"}, {"hash-property": "app_id"}, {"hash-header": 5}):
        channel.call("exchange.declare", exchange=name, type=KIND, arguments=other)


def test_its_type_is_quoted_when_another_one_is_asked_for(channel: Channel, exchange: Declare) -> None:
    name = exchange(KIND)
    channel.send("exchange.declare", exchange=name, type="x-random")
    channel.refuses(
        406,
        f"inequivalent arg 'type' for exchange '{name}' in vhost '/': received ''x-random'' but current is "
        "''x-consistent-hash''",
        "exchange.declare",
    )
    channel.send("exchange.declare", exchange=name, type="direct")
    channel.refuses(
        406,
        f"inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'direct' but current is "
        "''x-consistent-hash''",
        "exchange.declare",
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hash-property": "app_id"}, "Unsupported property: app_id"),
        ({"hash-property": ""}, "Unsupported property: "),
        ({"hash-property": "Message_id"}, "Unsupported property: Message_id"),
        (
            {"hash-header": "a", "hash-property": "message_id"},
            "hash-header and hash-property are mutually exclusive",
        ),
        (
            {"hash-header": "a", "hash-property": "app_id"},
            "hash-header and hash-property are mutually exclusive",
        ),
    ],
)
def test_what_cannot_be_hashed_is_refused(
    channel: Channel, names: Names, arguments: dict[str, Any], text: str
) -> None:
    name = names.exchange()
    channel.send("exchange.declare", exchange=name, type=KIND, arguments=arguments)
    channel.refuses(406, text, "exchange.declare")
    channel.send("exchange.declare", exchange=name, passive=True)
    channel.refuses(404, f"no exchange '{name}' in vhost '/'", "exchange.declare")


@pytest.mark.parametrize("argument", ["hash-header", "hash-property"])
@pytest.mark.parametrize(("value", "kind"), [(5, "signedint"), (True, "bool"), (None, "void")])
def test_a_name_that_is_no_string_is_refused(
    channel: Channel, names: Names, differs_from_rabbitmq: Differs, argument: str, value: Any, kind: str
) -> None:
    name = names.exchange()
    channel.send("exchange.declare", exchange=name, type=KIND, arguments={argument: value})
    crashes = differs_from_rabbitmq("the plugin's process crashes", rabbitmq=True, ours=False)
    if crashes:
        channel.client.ends(541)
        return
    text = f"invalid type '{kind}' for arg '{argument}' in exchange '{name}' in vhost '/'"
    channel.refuses(406, text, "exchange.declare")


# binding


@pytest.mark.parametrize("weight", ["1", "10", "007", "+5", "99999"])
def test_a_weight_is_a_positive_number(channel: Channel, exchange: Declare, queue: str, weight: str) -> None:
    name = exchange(KIND)
    channel.bind(queue, name, weight)
    channel.publish("m", exchange=name, routing_key="k")
    assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize(
    ("weight", "text"),
    [
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
        ("-0", "The binding key must be greater than 0"),
        ("", "The binding key must be an integer: <<>>"),
        ("abc", 'The binding key must be an integer: <<"abc">>'),
        ("1.0", 'The binding key must be an integer: <<"1.0">>'),
        ("1_0", 'The binding key must be an integer: <<"1_0">>'),
        (" 5", 'The binding key must be an integer: <<" 5">>'),
        ("+", 'The binding key must be an integer: <<"+">>'),
        ("+-1", 'The binding key must be an integer: <<"+-1">>'),
        ("٣", 'The binding key must be an integer: <<"٣">>'),
        ("1\x01", "The binding key must be an integer: <<49,1>>"),
    ],
)
@pytest.mark.parametrize("destination", ["queue", "exchange"])
def test_any_other_weight_is_refused(
    channel: Channel, exchange: Declare, queue: str, weight: str, text: str, destination: str
) -> None:
    source = exchange(KIND)
    if destination == "queue":
        channel.send("queue.bind", queue=queue, exchange=source, routing_key=weight)
    else:
        channel.send("exchange.bind", destination="amq.fanout", source=source, routing_key=weight)
    channel.refuses(406, text, f"{destination}.bind")


def test_weights_divide_what_comes(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    name = bound(channel, exchange(KIND), queues, 1, 1, 2)
    for number in range(2000):
        channel.publish(exchange=name, routing_key=f"user.{number}")
    first, second, third = spread(channel, queues, 2000)
    assert first == pytest.approx(500, rel=0.25)
    assert second == pytest.approx(500, rel=0.25)
    assert third == pytest.approx(1000, rel=0.15)


def test_a_second_weight_for_a_queue_does_not_count(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = bound(channel, exchange(KIND), queues)
    channel.bind(queues[0], name, "50")
    for number in range(900):
        channel.publish(exchange=name, routing_key=str(number))
    assert spread(channel, queues, 900) == [pytest.approx(300, rel=0.3)] * 3


def test_a_queue_keeps_its_share_while_one_of_its_bindings_is_left(
    channel: Channel, exchange: Declare, queues: list[str], differs_from_rabbitmq: Differs
) -> None:
    name = bound(channel, exchange(KIND), queues[:2], 1, 1)
    channel.bind(queues[0], name, "50")
    channel.call("queue.unbind", queue=queues[0], exchange=name, routing_key="50")
    for number in range(400):
        channel.publish(exchange=name, routing_key=str(number))
    share = differs_from_rabbitmq(
        "the plugin forgets a queue with the first binding of it that goes", rabbitmq=0, ours=200
    )
    assert spread(channel, queues[:2], 400)[0] == pytest.approx(share, rel=0.3)


# routing


def test_a_value_always_goes_the_same_way(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    name = bound(channel, exchange(KIND), queues, 2, 3, 4)
    for number in range(30):
        channel.publish(str(number % 5), exchange=name, routing_key=f"key {number % 5}")
    found = [channel.drain(queue) for queue in queues]
    for value in "01234":
        assert sorted(bodies.count(value) for bodies in found) == [0, 0, 6]


@pytest.mark.parametrize(
    ("arguments", "properties"),
    [
        ({"hash-header": "user"}, [{"headers": {"user": f"u{number}"}} for number in range(300)]),
        ({"hash-header": "user"}, [{"headers": {"user": number}} for number in range(300)]),
        ({"hash-property": "message_id"}, [{"message_id": f"m{number}"} for number in range(300)]),
        ({"hash-property": "correlation_id"}, [{"correlation_id": f"{number}"} for number in range(300)]),
        ({"hash-property": "timestamp"}, [{"timestamp": number} for number in range(300)]),
    ],
    ids=["header", "number in a header", "message id", "correlation id", "timestamp"],
)
def test_a_header_or_a_property_is_hashed_instead_of_the_key(
    channel: Channel,
    exchange: Declare,
    queues: list[str],
    arguments: dict[str, Any],
    properties: list[dict[str, Any]],
) -> None:
    name = bound(channel, exchange(KIND, arguments=arguments), queues)
    for values in properties:
        channel.publish(exchange=name, routing_key="always the same", **values)
    assert all(count > 50 for count in spread(channel, queues, 300))
    for queue in queues:
        channel.call("queue.purge", queue=queue)
    for number in range(30):
        channel.publish(exchange=name, routing_key=f"another {number}", **properties[0])
    assert sorted(spread(channel, queues, 30)) == [0, 0, 30]


@pytest.mark.parametrize(
    "arguments", [{"hash-header": "user"}, {"hash-property": "message_id"}, {"hash-property": "timestamp"}]
)
def test_messages_without_the_header_or_property_go_to_one_queue(
    channel: Channel, exchange: Declare, queues: list[str], arguments: dict[str, Any]
) -> None:
    name = bound(channel, exchange(KIND, arguments=arguments), queues)
    for number in range(20):
        channel.publish(exchange=name, routing_key=str(number))
    for number in range(10):
        channel.publish(exchange=name, routing_key=str(number), headers={"other": number})
    assert sorted(spread(channel, queues, 30)) == [0, 0, 30]


def test_a_message_goes_to_one_queue_however_many_keys_it_has(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = bound(channel, exchange(KIND), queues)
    for number in range(20):
        channel.publish(exchange=name, routing_key="k", headers={"CC": [f"c{number}"], "BCC": ["b"]})
    assert sorted(spread(channel, queues, 20)) == [0, 0, 20]


def test_it_leads_to_exchanges_too(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    name = exchange(KIND)
    for queue, weight in zip(queues, "113", strict=True):
        inner = exchange("fanout")
        channel.bind(queue, inner)
        channel.call("exchange.bind", destination=inner, source=name, routing_key=weight)
    for number in range(500):
        channel.publish(exchange=name, routing_key=str(number))
    assert spread(channel, queues, 500)[2] == pytest.approx(300, rel=0.25)


def test_it_is_reached_through_exchanges(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    outer = exchange("fanout")
    name = bound(channel, exchange(KIND, internal=True), queues)
    channel.call("exchange.bind", destination=name, source=outer)
    for number in range(300):
        channel.publish(exchange=outer, routing_key=str(number))
    assert spread(channel, queues, 300) == [pytest.approx(100, rel=0.6)] * 3


def test_a_queue_that_goes_leaves_its_share_to_the_others(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = bound(channel, exchange(KIND), queues)
    channel.call("queue.delete", queue=queues[1])
    for number in range(300):
        channel.publish(exchange=name, routing_key=str(number))
    left = [queues[0], queues[2]]
    assert spread(channel, left, 300) == [pytest.approx(150, rel=0.4)] * 2


def test_without_bindings_it_routes_nowhere_but_to_its_alternate(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    channel.publish("m", exchange=exchange(KIND), mandatory=True)
    channel.expect("basic.return", reply_text="NO_ROUTE")
    alternate = exchange("fanout")
    channel.bind(queue, alternate)
    channel.publish("m", exchange=exchange(KIND, arguments={"alternate-exchange": alternate}), mandatory=True)
    assert channel.drain(queue) == ["m"]


def test_a_number_in_a_header_is_hashed_by_value(
    channel: Channel, exchange: Declare, queues: list[str], differs_from_rabbitmq: Differs
) -> None:
    name = bound(channel, exchange(KIND, arguments={"hash-header": "n"}), queues)
    for number in range(40):
        for kind in "bsIl":
            channel.publish(str(number), exchange=name, headers={"n": Typed(kind, number)})
    together = sum(
        bodies.count(str(number)) == 4
        for bodies in [channel.drain(queue) for queue in queues]
        for number in range(40)
    )
    apart = differs_from_rabbitmq(
        "the plugin hashes the integer's width with it, which clients choose as they like",
        rabbitmq=True,
        ours=False,
    )
    assert (together < 40) is apart
