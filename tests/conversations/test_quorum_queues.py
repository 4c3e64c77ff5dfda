"""Queues of type quorum as one node has them: what may be declared, how often a message comes back, and in
which order.

Such a queue answers later than a classic one: what has been published, requeued or refused is looked for
until it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client, Reply, eventually
from .codec import Table, Typed, encode_header
from .conftest import Connect, Names

Declare = Callable[..., str]
Differs = Callable[..., Any]

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def quorum(channel: Channel, names: Names) -> Declare:
    """Declare a quorum queue."""

    def declare(**arguments: Any) -> str:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        return channel.declare(names.queue("quorum"), durable=True, arguments=QUORUM | given)

    return declare


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


def to(dead: str) -> dict[str, str]:
    return {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": dead}


def fill(channel: Channel, queue: str, bodies: list[str] | str, **properties: Any) -> None:
    """Publish, and see to it that all is in the queue."""
    before = channel.counts(queue)[0]
    for body in bodies:
        channel.publish(body, routing_key=queue, **properties)
    has_ready(channel, queue, before + len(bodies))


def has_ready(channel: Channel, queue: str, count: int) -> None:
    eventually(lambda: channel.counts(queue)[0], count)


def count_of(message: Reply) -> int | None:
    """The message's x-delivery-count, if it has one."""
    header = message.properties.get("headers", {}).get("x-delivery-count")
    if header is None:
        return None
    assert header.kind == "l"
    return int(header.value)


def last_death(message: Reply) -> Table:
    entry: Table = message.properties["headers"]["x-death"].value[0].value
    return entry


def reason(message: Reply) -> str:
    return str(last_death(message)["reason"].value)


# what may be declared


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({}, "non-durable"),
        ({"durable": True, "auto_delete": True}, "auto-delete"),
        ({"durable": True, "exclusive": True}, "exclusive-owner"),
    ],
    ids=str,
)
def test_a_queue_that_is_not_there_to_stay_is_refused(
    channel: Channel, names: Names, flags: dict[str, bool], word: str
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, arguments=QUORUM, **flags)
    channel.refuses(406, f"invalid property '{word}' for queue '{queue}' in vhost '/'", "queue.declare")


def test_a_queue_without_a_name_is_refused(channel: Channel) -> None:
    channel.send("queue.declare", durable=True, arguments=QUORUM)
    channel.refuses(406, "Cannot declare a server-named queue for type rabbit_quorum_queue", "queue.declare")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x-max-priority", 5),
        ("x-queue-mode", "lazy"),
        ("x-queue-version", 2),
        ("x-queue-master-locator", "min-masters"),
        ("x-max-age", "1D"),
    ],
)
def test_an_argument_of_another_queue_type_is_refused(
    channel: Channel, names: Names, key: str, value: Any
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, durable=True, arguments=QUORUM | {key: value})
    channel.refuses(
        406,
        f"invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type rabbit_quorum_queue",
        "queue.declare",
    )


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("x-overflow", "foo", "invalid_overflow"),
        ("x-overflow", 1, "{unacceptable_type,signedint}"),
        ("x-dead-letter-strategy", "foo", "invalid_dlx_strategy"),
        ("x-dead-letter-strategy", 3, "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
        ("x-quorum-initial-group-size", 0, "{value_zero,0}"),
        ("x-quorum-initial-group-size", -1, "{value_negative,-1}"),
        ("x-quorum-initial-group-size", "3", '"expected integer, got longstr"'),
        ("x-max-in-memory-length", -1, "{value_negative,-1}"),
        ("x-max-in-memory-length", "3", '"expected integer, got longstr"'),
        ("x-max-in-memory-bytes", -1, "{value_negative,-1}"),
        ("x-max-in-memory-bytes", "3", '"expected integer, got longstr"'),
        ("x-queue-leader-locator", "foo", "invalid_queue_locator_arg"),
        ("x-queue-leader-locator", 3, "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", "true", "{unacceptable_type,longstr}"),
        ("x-message-ttl", -1, "{value_negative,-1}"),
        ("x-expires", 0, "{value_zero,0}"),
        ("x-max-length", -1, "{value_negative,-1}"),
        ("x-max-length-bytes", "3", '"expected integer, got longstr"'),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    channel: Channel, names: Names, key: str, value: Any, complaint: str
) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue, durable=True, arguments=QUORUM | {key: value})
    channel.refuses(
        406, f"invalid arg '{key}' for queue '{queue}' in vhost '/': {complaint}", "queue.declare"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-delivery-limit": 0},
        {"x-delivery-limit": 5},
        {"x-overflow": "drop-head"},
        {"x-overflow": "reject-publish"},
        {"x-overflow": "reject-publish-dlx"},
        {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"},
        {"x-dead-letter-exchange": "not there", "x-dead-letter-strategy": "at-most-once"},
        {
            "x-dead-letter-exchange": "",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
        {"x-quorum-initial-group-size": 1},
        {"x-quorum-initial-group-size": 3},
        {"x-queue-leader-locator": "client-local"},
        {"x-queue-leader-locator": "balanced"},
        {"x-max-in-memory-length": 0, "x-max-in-memory-bytes": 0},
        {"x-max-length": 5, "x-max-length-bytes": 10, "x-message-ttl": 10000, "x-expires": 100000},
        {"x-single-active-consumer": True},
        {"x-unheard-of": [1, None]},
    ],
    ids=str,
)
def test_an_argument_of_a_quorum_queue_is_accepted(
    channel: Channel, names: Names, arguments: dict[str, Any]
) -> None:
    queue = channel.declare(names.queue(), durable=True, arguments=QUORUM | arguments)
    again = channel.call("queue.declare", queue=queue, durable=True, arguments=QUORUM | arguments)
    assert again["queue"] == queue
    assert channel.counts(queue) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "flags", "complaint"),
    [
        (
            {},
            {},
            "arg 'x-queue-type' for {}: received none but current is the value 'quorum' of type 'longstr'",
        ),
        (
            {"x-queue-type": "classic"},
            {},
            "arg 'x-queue-type' for {}: received 'classic' but current is 'quorum'",
        ),
        (
            QUORUM,
            {},
            "arg 'x-delivery-limit' for {}: received none but current is the value '3' of type 'signedint'",
        ),
        (
            QUORUM | {"x-delivery-limit": 4},
            {},
            "arg 'x-delivery-limit' for {}: received '4' but current is '3'",
        ),
        (
            QUORUM | {"x-delivery-limit": 3, "x-quorum-initial-group-size": 3},
            {},
            "arg 'x-quorum-initial-group-size' for {}: received the value '3' of type 'signedint' but current "
            "is none",
        ),
        (
            QUORUM | {"x-delivery-limit": 3},
            {"durable": False},
            "arg 'durable' for {}: received 'false' but current is 'true'",
        ),
        (
            QUORUM | {"x-delivery-limit": 3},
            {"auto_delete": True},
            "arg 'auto_delete' for {}: received 'true' but current is 'false'",
        ),
    ],
    ids=str,
)
def test_declaring_again_otherwise_is_refused(
    channel: Channel,
    quorum: Declare,
    arguments: dict[str, Any],
    flags: dict[str, bool],
    complaint: str,
) -> None:
    queue = quorum(x_delivery_limit=3)
    channel.send("queue.declare", queue=queue, arguments=arguments, **({"durable": True} | flags))
    text = complaint.replace("{}", f"queue '{queue}' in vhost '/'")
    channel.refuses(406, f"inequivalent {text}", "queue.declare")


# In the order in which they are compared.
COMPARED: list[tuple[str, Any]] = [
    ("x-dead-letter-exchange", ""),
    ("x-dead-letter-routing-key", "k"),
    ("x-dead-letter-strategy", "at-most-once"),
    ("x-expires", 100_000),
    ("x-max-length", 5),
    ("x-max-length-bytes", 5),
    ("x-max-in-memory-length", 5),
    ("x-max-in-memory-bytes", 5),
    ("x-overflow", "reject-publish"),
    ("x-single-active-consumer", True),
    ("x-queue-type", "classic"),
    ("x-quorum-initial-group-size", 3),
    ("x-delivery-limit", 5),
    ("x-message-ttl", 5),
    ("x-queue-leader-locator", "balanced"),
]


@pytest.mark.parametrize("first", range(len(COMPARED) - 1), ids=[name for name, _ in COMPARED[:-1]])
def test_of_two_arguments_that_are_declared_otherwise_the_first_in_this_order_is_told(
    channel: Channel, quorum: Declare, first: int
) -> None:
    queue = quorum()
    one, other = COMPARED[first : first + 2]
    for arguments in (dict((one, other)), dict((other, one))):
        channel.send("queue.declare", queue=queue, durable=True, arguments=QUORUM | arguments)
        difference = difference_of(*one)
        channel.refuses(
            406,
            f"inequivalent arg '{one[0]}' for queue '{queue}' in vhost '/': {difference}",
            "queue.declare",
        )


def difference_of(name: str, value: Any) -> str:
    """What is said about an argument that a quorum queue without any was not declared with."""
    if name == "x-queue-type":
        return f"received '{value}' but current is 'quorum'"
    kind = "bool" if value is True else "signedint" if isinstance(value, int) else "longstr"
    text = "true" if value is True else value
    return f"received the value '{text}' of type '{kind}' but current is none"


def test_a_delivery_limit_is_the_same_in_every_width(channel: Channel, quorum: Declare) -> None:
    queue = quorum(x_delivery_limit=3)
    for kind in "bsl":
        arguments = QUORUM | {"x-delivery-limit": Typed(kind, 3)}
        assert channel.call("queue.declare", queue=queue, durable=True, arguments=arguments)["queue"] == queue


def test_a_classic_queue_does_not_become_a_quorum_queue(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), durable=True)
    channel.send("queue.declare", queue=queue, durable=True, arguments=QUORUM)
    channel.refuses(
        406,
        f"inequivalent arg 'x-queue-type' for queue '{queue}' in vhost '/': received the value 'quorum' of type "
        "'longstr' but current is none",
        "queue.declare",
    )


@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_deleting_under_a_condition_is_not_implemented(connect: Connect, quorum: Declare, flag: str) -> None:
    queue = quorum()
    client = connect()
    client.channel().send("queue.delete", queue=queue, **{flag: True})
    client.says_goodbye(
        540,
        f"cannot delete queue '{queue}' in vhost '/'. queue.delete operations with {flag.replace('_', '-')} "
        "flag set are not supported by quorum queues",
        "queue.delete",
    )


# publishing


@pytest.mark.parametrize("mode", [None, 1, 2])
def test_messages_of_every_delivery_mode_are_confirmed_and_kept(
    channel: Channel, quorum: Declare, mode: int | None
) -> None:
    channel.call("confirm.select")
    queue = quorum()
    properties: dict[str, Any] = {} if mode is None else {"delivery_mode": mode}
    for number in range(20):
        channel.publish(str(number), routing_key=queue, mandatory=True, **properties)
    assert channel.outcomes(20) == ["ack"] * 20
    assert channel.counts(queue) == (20, 0)
    messages = [channel.arrival(queue) for _ in range(20)]
    assert [message.body.decode() for message in messages] == [str(number) for number in range(20)]
    assert {message.properties.get("delivery_mode") for message in messages} == {mode}


def test_a_message_for_queues_of_both_types_is_confirmed_once(
    channel: Channel, quorum: Declare, names: Names, exchange: Declare
) -> None:
    fanout = exchange("fanout")
    queues = [quorum(), channel.declare(names.queue()), quorum()]
    for queue in queues:
        channel.bind(queue, fanout)
    channel.call("confirm.select")
    for number in range(10):
        channel.publish(str(number), exchange=fanout)
    assert channel.outcomes(10) == ["ack"] * 10
    channel.hears_nothing(queues[0])
    for queue in queues:
        assert channel.arrivals(queue, 10) == [str(number) for number in range(10)]


def test_message_priorities_make_no_difference(channel: Channel, quorum: Declare) -> None:
    queue = quorum()
    for body, priority in (("a", 0), ("b", 9), ("c", 5)):
        channel.publish(body, routing_key=queue, priority=priority)
    messages = [channel.arrival(queue) for _ in "abc"]
    assert [(message.body, message.properties["priority"]) for message in messages] == [
        (b"a", 0),
        (b"b", 9),
        (b"c", 5),
    ]


@pytest.mark.parametrize("end", ["tx.commit", "tx.rollback"])
def test_a_transaction_publishes_at_the_commit(
    channel: Channel, client: Client, quorum: Declare, end: str
) -> None:
    queue = quorum()
    tx = client.channel()
    tx.call("tx.select")
    tx.publish("in the transaction", routing_key=queue)
    tx.hears_nothing()
    tx.call(end)
    channel.publish("after it", routing_key=queue)
    came = ["in the transaction"] if end == "tx.commit" else []
    assert channel.arrivals(queue, len(came) + 1) == [*came, "after it"]


# the count of deliveries


def test_a_message_that_is_got_has_its_count_from_the_first_time_on(
    channel: Channel, quorum: Declare
) -> None:
    queue = quorum()
    channel.publish("m", routing_key=queue)
    for count in range(4):
        message = channel.arrival(queue, no_ack=False)
        assert message.header == encode_header(1, {"headers": {"x-delivery-count": Typed("l", count)}})
        assert message["redelivered"] is (count > 0)
        channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)


def test_a_message_that_is_consumed_has_its_count_from_the_second_time_on(
    channel: Channel, quorum: Declare
) -> None:
    queue = quorum()
    channel.consume(queue)
    channel.publish("m", routing_key=queue)
    for count in range(4):
        message = channel.expect("basic.deliver", redelivered=count > 0)
        assert count_of(message) == (count or None)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)


def test_the_count_stands_among_the_other_headers_in_the_order_of_their_names(
    channel: Channel, quorum: Declare
) -> None:
    queue = quorum()
    channel.publish("m", routing_key=queue, headers={"z": 1, "A": 2, "b": 3}, message_id="i")
    message = channel.arrival(queue)
    headers = {"A": 2, "b": 3, "x-delivery-count": Typed("l", 0), "z": 1}
    assert message.header == encode_header(1, {"headers": headers, "message_id": "i"})


def test_a_count_that_a_client_sent_is_passed_on_until_there_is_one_to_tell(
    channel: Channel, quorum: Declare
) -> None:
    queue = quorum()
    channel.consume(queue)
    sent = {"z": 1, "x-delivery-count": "mine", "b": 2}
    channel.publish("m", routing_key=queue, headers=sent)
    message = channel.expect("basic.deliver")
    assert message.header == encode_header(1, {"headers": sent})
    channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)
    headers = {"b": 2, "x-delivery-count": Typed("l", 1), "z": 1}
    assert channel.expect("basic.deliver").header == encode_header(1, {"headers": headers})


@pytest.mark.parametrize("how", ["nack", "reject", "recover", "channel", "connection", "drop"])
def test_every_way_of_giving_back_counts(
    channel: Channel, connect: Connect, quorum: Declare, how: str
) -> None:
    queue = quorum()
    channel.publish("m", routing_key=queue)
    for count in range(3):
        client = connect()
        other = client.channel()
        message = other.arrival(queue, no_ack=False)
        assert count_of(message) == count
        give_back(client, other, message["delivery_tag"], how)
    assert count_of(channel.arrival(queue)) == 3


def give_back(client: Client, channel: Channel, tag: int, how: str) -> None:
    if how in ("nack", "reject"):
        channel.send(f"basic.{how}", delivery_tag=tag, requeue=True)
        channel.hears_nothing()
    elif how == "recover":
        channel.call("basic.recover", requeue=True)
    else:
        {"channel": channel.close, "connection": client.close, "drop": client.drop}[how]()


def test_cancelling_gives_nothing_back(channel: Channel, client: Client, quorum: Declare) -> None:
    queue = quorum()
    consumer = client.channel()
    consumer.consume(queue)
    fill(channel, queue, "")
    channel.publish("m", routing_key=queue)
    message = consumer.expect("basic.deliver")
    consumer.call("basic.cancel", consumer_tag="c")
    assert channel.get(queue) is None
    consumer.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)
    assert count_of(channel.arrival(queue)) == 1


# the limit of deliveries


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
@pytest.mark.parametrize("how", ["nack", "reject", "recover"])
def test_a_message_is_delivered_once_more_often_than_the_limit(
    channel: Channel, connect: Connect, quorum: Declare, dead: str, limit: int, how: str
) -> None:
    queue = quorum(x_delivery_limit=limit, **to(dead))
    client = connect()
    other = client.channel()
    channel.publish("m", routing_key=queue)
    for count in range(limit + 1):
        message = other.arrival(queue, no_ack=False)
        assert count_of(message) == count
        give_back(client, other, message["delivery_tag"], how)
    assert reason(channel.arrival(dead)) == "delivery_limit"
    assert channel.get(queue) is None


def test_channels_that_close_reach_the_limit_too(
    channel: Channel, client: Client, quorum: Declare, dead: str
) -> None:
    queue = quorum(x_delivery_limit=1, **to(dead))
    channel.publish("m", routing_key=queue)
    for _ in range(2):
        other = client.channel()
        other.arrival(queue, no_ack=False)
        other.close()
    assert reason(channel.arrival(dead)) == "delivery_limit"


def test_the_header_of_a_message_that_came_back_too_often_octet_by_octet(
    channel: Channel, quorum: Declare, dead: str, differs_from_rabbitmq: Differs
) -> None:
    queue = quorum(x_delivery_limit=0, **to(dead))
    channel.publish(
        "m", routing_key=queue, headers={"z": 1, "CC": ["cc"]}, expiration="60000", delivery_mode=1
    )
    message = channel.arrival(queue, no_ack=False)
    channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    message = channel.arrival(dead)
    entry = {
        "count": Typed("l", 1),
        "reason": "delivery_limit",
        "queue": queue,
        "time": last_death(message)["time"],
        "exchange": "",
        "routing-keys": [queue, "cc"],
        "original-expiration": "60000",
    }
    last = {
        "x-last-death-exchange": "",
        "x-last-death-queue": queue,
        "x-last-death-reason": "delivery_limit",
    }
    headers = {
        "x-death": [entry],
        "x-first-death-exchange": "",
        "x-first-death-queue": queue,
        "x-first-death-reason": "delivery_limit",
        **differs_from_rabbitmq("the last death is told since 3.13", rabbitmq={}, ours=last),
        "z": 1,
    }
    assert message.header == encode_header(1, {"headers": headers, "delivery_mode": 1})
    assert message["redelivered"] is False


def test_a_message_that_came_back_too_often_is_gone_without_a_dead_letter_exchange(
    channel: Channel, quorum: Declare
) -> None:
    queue = quorum(x_delivery_limit=1)
    fill(channel, queue, "ab")
    for body in (b"a", b"a", b"b"):
        message = channel.arrival(queue, no_ack=False)
        assert message.body == body
        channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
        if count_of(message) == 0:
            has_ready(channel, queue, 2 if body == b"a" else 1)


def test_each_message_has_a_count_of_its_own(
    channel: Channel, client: Client, quorum: Declare, dead: str
) -> None:
    queue = quorum(x_delivery_limit=2, **to(dead))
    consumer = client.channel()
    consumer.consume(queue)
    for body in "ab":
        channel.publish(body, routing_key=queue)
    came: list[tuple[str, int | None]] = []
    for _ in range(4):  # a, b, and a twice again
        message = consumer.expect("basic.deliver")
        came.append((message.body.decode(), count_of(message)))
        if message.body == b"a":
            consumer.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)
    assert sorted(came, key=str) == sorted([("a", None), ("b", None), ("a", 1), ("a", 2)], key=str)
    assert channel.arrivals(dead, 1) == ["a"]
    assert channel.get(queue) is None


def test_a_message_within_the_limit_may_be_acked(
    channel: Channel, client: Client, quorum: Declare, dead: str
) -> None:
    queue = quorum(x_delivery_limit=2, **to(dead))
    consumer = client.channel()
    consumer.consume(queue)
    channel.publish("m", routing_key=queue)
    for _ in range(2):
        message = consumer.expect("basic.deliver")
        consumer.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    consumer.send("basic.ack", delivery_tag=consumer.expect("basic.deliver")["delivery_tag"])
    consumer.hears_nothing(queue)
    assert (channel.counts(queue)[0], channel.counts(dead)) == (0, (0, 0))


def test_a_message_that_came_back_too_often_does_not_come_back_to_its_own_queue(
    channel: Channel, names: Names, quorum: Declare, exchange: Declare
) -> None:
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    queue = quorum(x_delivery_limit=0, x_dead_letter_exchange=fanout)
    for bound in (queue, witness):
        channel.bind(bound, fanout)
    channel.publish("m", routing_key=queue)
    message = channel.arrival(queue, no_ack=False)
    channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    assert reason(channel.arrival(witness)) == "delivery_limit"
    channel.publish("n", routing_key=queue)
    assert channel.arrivals(queue, 1) == ["n"]
    assert channel.get(queue) is None


# dead letters of the other kinds


def test_a_refused_message_is_dead_lettered_without_its_count(
    channel: Channel, quorum: Declare, dead: str
) -> None:
    queue = quorum(**to(dead))
    channel.publish("m", routing_key=queue)
    for requeue in (True, False):
        message = channel.arrival(queue, no_ack=False)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=requeue)
    message = channel.arrival(dead)
    assert reason(message) == "rejected"
    assert count_of(message) is None


@pytest.mark.parametrize(
    ("arguments", "properties", "why"),
    [
        ({"x_message_ttl": 50}, {}, "expired"),
        ({"x_message_ttl": 0}, {}, "expired"),
        ({}, {"expiration": "50"}, "expired"),
        ({}, {"expiration": "0"}, "expired"),
        ({"x_max_length": 0}, {}, "maxlen"),
        ({"x_max_length_bytes": 0}, {}, "maxlen"),
    ],
    ids=str,
)
def test_messages_die_as_in_a_classic_queue(
    channel: Channel,
    quorum: Declare,
    dead: str,
    arguments: dict[str, int],
    properties: dict[str, Any],
    why: str,
) -> None:
    channel.call("confirm.select")
    queue = quorum(**arguments, **to(dead))
    channel.publish("m", routing_key=queue, **properties)
    assert channel.outcomes(1) == ["ack"]
    message = channel.arrival(dead)
    assert (message.body, reason(message)) == (b"m", why)
    assert last_death(message).get("original-expiration") == (
        Typed("S", properties["expiration"]) if properties else None
    )
    assert channel.get(queue) is None


def test_a_dead_letter_goes_from_quorum_queue_to_quorum_queue(
    channel: Channel, quorum: Declare, dead: str
) -> None:
    second = quorum(**to(dead))
    first = quorum(**to(second))
    channel.publish("m", routing_key=first, headers={"a": 1})
    for queue in (first, second):
        message = channel.arrival(queue, no_ack=False)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    message = channel.arrival(dead)
    headers = message.properties["headers"]
    assert [entry.value["queue"].value for entry in headers["x-death"].value] == [second, first]
    assert headers["x-first-death-queue"] == Typed("S", first)


# the order of what is given back


def given_back(channel: Channel, connect: Connect, queue: str, how: str) -> list[str]:
    """The order after the first four of six messages have been got and given back."""
    fill(channel, queue, "abcdef")
    client = connect()
    other = client.channel()
    assert other.arrivals_kept(queue, 4) == ["a", "b", "c", "d"]
    if how == "nack":
        other.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    else:
        give_back(client, other, 0, how)
    has_ready(channel, queue, 6)
    return channel.arrivals(queue, 6)


@pytest.mark.parametrize("how", ["nack", "recover"])
def test_without_a_delivery_limit_what_is_given_back_goes_to_the_end(
    channel: Channel, connect: Connect, quorum: Declare, how: str
) -> None:
    assert given_back(channel, connect, quorum(), how) == ["e", "f", "a", "b", "c", "d"]


@pytest.mark.parametrize("how", ["nack", "recover"])
def test_with_a_delivery_limit_what_is_given_back_comes_first(
    channel: Channel, connect: Connect, quorum: Declare, how: str
) -> None:
    queue = quorum(x_delivery_limit=10)
    assert given_back(channel, connect, queue, how) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("how", ["channel", "connection", "drop"])
@pytest.mark.parametrize("arguments", [{}, {"x_delivery_limit": 10}], ids=str)
def test_what_a_channel_that_closes_had_comes_first(
    channel: Channel, connect: Connect, quorum: Declare, how: str, arguments: dict[str, int]
) -> None:
    queue = quorum(**arguments)
    assert given_back(channel, connect, queue, how) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("arguments", "order"),
    [({}, ["e", "d", "b", "c"]), ({"x_delivery_limit": 10}, ["d", "b", "c", "e"])],
    ids=str,
)
def test_what_is_given_back_one_by_one_is_in_the_order_of_giving_back(
    channel: Channel, quorum: Declare, arguments: dict[str, int], order: list[str]
) -> None:
    queue = quorum(**arguments)
    fill(channel, queue, "abcde")
    assert channel.arrivals_kept(queue, 4) == ["a", "b", "c", "d"]
    for number, tag in enumerate((4, 2, 3), 1):
        channel.send("basic.reject", delivery_tag=tag, requeue=True)
        has_ready(channel, queue, 1 + number)
    assert channel.arrivals(queue, 4) == order


@pytest.mark.parametrize(
    ("arguments", "order"),
    [({}, ["d", "e", "f", "b"]), ({"x_delivery_limit": 10}, ["b", "d", "e", "f"])],
    ids=str,
)
def test_a_consumer_gets_back_what_it_refused_in_that_order(
    channel: Channel, client: Client, quorum: Declare, arguments: dict[str, int], order: list[str]
) -> None:
    queue = quorum(**arguments)
    fill(channel, queue, "abcdef")
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=3)
    consumer.consume(queue)
    assert [delivery.body for delivery in consumer.deliveries(3)] == [b"a", b"b", b"c"]
    consumer.send("basic.reject", delivery_tag=2, requeue=True)
    came: list[str] = []
    for _ in order:
        message = consumer.expect("basic.deliver")
        came.append(message.body.decode())
        consumer.send("basic.ack", delivery_tag=message["delivery_tag"])
    assert came == order


# limits of length


@pytest.mark.parametrize(
    "overflow", [{}, {"x_overflow": "drop-head"}, {"x_overflow": "reject-publish-dlx"}], ids=str
)
def test_a_limited_queue_keeps_the_newest(
    channel: Channel, quorum: Declare, dead: str, overflow: dict[str, str]
) -> None:
    """Refusing with a dead letter is no strategy of these queues, and counts as the default."""
    channel.call("confirm.select")
    queue = quorum(x_max_length=2, **overflow, **to(dead))
    for body in "abcde":
        channel.publish(body, routing_key=queue)
    assert channel.outcomes(5) == ["ack"] * 5
    assert channel.arrivals(dead, 3) == ["a", "b", "c"]
    assert channel.arrivals(queue, 2) == ["d", "e"]


def test_a_queue_limited_in_octets_keeps_the_newest_that_fit(
    channel: Channel, quorum: Declare, dead: str
) -> None:
    """Of several dropped at once, the order among the dead letters is not certain."""
    queue = quorum(x_max_length_bytes=5, **to(dead))
    for body in ("aa", "bb", "cc", "dddddd", "e"):
        channel.publish(body, routing_key=queue)
    came = channel.arrivals(dead, 4)
    assert (came[0], sorted(came)) == ("aa", ["aa", "bb", "cc", "dddddd"])
    assert channel.arrivals(queue, 1) == ["e"]


@pytest.mark.parametrize("limit", [{"x_max_length": 3}, {"x_max_length_bytes": 3}], ids=str)
def test_a_queue_that_refuses_nacks_when_it_is_full_and_acks_when_there_is_room(
    channel: Channel, client: Client, quorum: Declare, limit: dict[str, int]
) -> None:
    """It may notice a little late: the limit is the least that it takes."""
    publisher = client.channel()
    publisher.call("confirm.select")
    queue = quorum(x_overflow="reject-publish", **limit)
    outcomes: list[str] = []
    while "nack" not in outcomes:
        assert len(outcomes) < 100
        publisher.publish("m", routing_key=queue)
        outcomes += publisher.outcomes(1, len(outcomes) + 1)
    taken = len(outcomes) - 1
    assert taken >= 3
    assert outcomes == ["ack"] * taken + ["nack"]
    has_ready(channel, queue, taken)
    assert channel.arrivals(queue, taken) == ["m"] * taken
    number = len(outcomes)

    def publish_again() -> list[str]:
        nonlocal number
        number += 1
        publisher.publish("n", routing_key=queue)
        return publisher.outcomes(1, number)

    eventually(publish_again, ["ack"])
    assert channel.arrivals(queue, 1) == ["n"]


@pytest.mark.parametrize(
    ("arguments", "gone", "kept"),
    [({}, ["c", "d"], ["a", "b"]), ({"x_delivery_limit": 10}, ["a", "b"], ["c", "d"])],
    ids=str,
)
def test_what_is_given_back_to_a_full_queue_drops_what_is_then_the_head(
    channel: Channel,
    quorum: Declare,
    dead: str,
    arguments: dict[str, int],
    gone: list[str],
    kept: list[str],
) -> None:
    queue = quorum(x_max_length=2, **arguments, **to(dead))
    fill(channel, queue, "ab")
    channel.arrivals_kept(queue, 2)
    fill(channel, queue, "cd")
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert sorted(channel.arrivals(dead, 2)) == gone
    assert channel.arrivals(queue, 2) == kept


# times


def test_a_consumer_that_waits_gets_a_message_that_may_not_wait(
    channel: Channel, client: Client, quorum: Declare, dead: str
) -> None:
    queue = quorum(x_message_ttl=0, **to(dead))
    consumer = client.channel()
    consumer.consume(queue, no_ack=True)
    for number in range(5):
        channel.publish(str(number), routing_key=queue)
        assert consumer.expect("basic.deliver").body == str(number).encode()
    assert channel.counts(dead) == (0, 0)


@pytest.mark.parametrize("arguments", [{}, {"x_delivery_limit": 10}], ids=str)
@pytest.mark.parametrize("ttl", [0, 100])
def test_a_message_given_back_after_its_time_expires_though_a_consumer_waits(
    channel: Channel,
    client: Client,
    quorum: Declare,
    names: Names,
    dead: str,
    arguments: dict[str, int],
    ttl: int,
) -> None:
    queue = quorum(x_message_ttl=ttl, **arguments, **to(dead))
    consumer = client.channel()
    consumer.consume(queue)
    channel.publish("m", routing_key=queue)
    message = consumer.expect("basic.deliver")
    over = channel.declare(names.queue("over"))
    channel.publish("tick", routing_key=quorum(x_message_ttl=ttl, **to(over)))
    channel.arrival(over)
    consumer.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    assert reason(channel.arrival(dead)) == "expired"
    consumer.hears_nothing(queue)


def test_a_message_that_expired_behind_a_longer_one_is_never_got(
    channel: Channel, quorum: Declare, names: Names, dead: str
) -> None:
    queue, over = quorum(**to(dead)), channel.declare(names.queue("over"))
    for body, expiration in (("a", "60000"), ("b", "50"), ("c", "60000")):
        channel.publish(body, routing_key=queue, expiration=expiration)
    channel.publish("tick", routing_key=quorum(x_message_ttl=50, **to(over)))
    channel.arrival(over)
    assert channel.arrivals(queue, 2) == ["a", "c"]
    assert channel.arrivals(dead, 1) == ["b"]
    assert channel.get(queue) is None


def test_an_unused_queue_is_gone_after_its_time(channel: Channel, quorum: Declare) -> None:
    """RabbitMQ looks every five seconds only."""
    queue = quorum(x_expires=100)

    def bind() -> str:
        channel.send("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
        reply = channel.receive()
        if reply.name == "channel.close":
            channel.send("channel.close-ok")
            channel.open()
        return reply.name

    eventually(bind, "channel.close", deadline=15)


# consumers


def test_a_prefetch_of_the_channel_is_refused_with_the_consumer(connect: Connect, quorum: Declare) -> None:
    queue = quorum()
    client = connect()
    channel = client.channel()
    assert channel.call("basic.qos", prefetch_count=5, global_=True) == {}
    channel.send("basic.consume", queue=queue)
    client.says_goodbye(540, f"queue '{queue}' in vhost '/' does not support global qos", "basic.consume")


def test_a_prefetch_of_the_channel_that_was_lifted_is_no_hindrance(channel: Channel, quorum: Declare) -> None:
    queue = quorum()
    for count in (5, 0):
        channel.call("basic.qos", prefetch_count=count, global_=True)
    assert channel.consume(queue) == "c"


def test_a_prefetch_of_the_channel_is_no_hindrance_to_a_get(channel: Channel, quorum: Declare) -> None:
    queue = quorum()
    channel.call("basic.qos", prefetch_count=5, global_=True)
    channel.publish("m", routing_key=queue)
    assert channel.arrivals(queue, 1) == ["m"]


def test_a_consumer_has_so_many_unacked_and_no_more(
    channel: Channel, client: Client, quorum: Declare
) -> None:
    queue = quorum()
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=2)
    consumer.consume(queue)
    for body in "abcd":
        channel.publish(body, routing_key=queue)
    assert [delivery.body for delivery in consumer.deliveries(2)] == [b"a", b"b"]
    consumer.hears_nothing(queue)
    consumer.send("basic.ack", delivery_tag=2, multiple=True)
    assert [delivery.body for delivery in consumer.deliveries(2)] == [b"c", b"d"]


def test_the_higher_priority_of_consumers_is_served_first(
    channel: Channel, client: Client, quorum: Declare
) -> None:
    queue = quorum()
    consumer = client.channel()
    for tag, priority in (("low", 1), ("high", 5)):
        consumer.consume(queue, tag, no_ack=True, arguments={"x-priority": priority})
    for number in range(4):
        channel.publish(str(number), routing_key=queue)
    assert [delivery["consumer_tag"] for delivery in consumer.deliveries(4)] == ["high"] * 4


def test_a_single_active_consumer_is_followed_by_the_next_registered(
    channel: Channel, client: Client, quorum: Declare
) -> None:
    queue = quorum(x_single_active_consumer=True)
    consumer = client.channel()
    for tag in "abc":
        consumer.consume(queue, tag, no_ack=True)
    for tag in "abc":
        for number in range(3):
            channel.publish(str(number), routing_key=queue)
        assert [delivery["consumer_tag"] for delivery in consumer.deliveries(3)] == [tag] * 3
        consumer.call("basic.cancel", consumer_tag=tag)


def test_a_single_active_consumer_leaves_nothing_to_get(channel: Channel, quorum: Declare) -> None:
    queue = quorum(x_single_active_consumer=True)
    channel.send("basic.get", queue=queue)
    channel.refuses(
        405,
        f"cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not supported by "
        "quorum queues with single active consumer",
        "basic.get",
    )


def test_a_consumer_is_told_of_the_deletion_of_its_queue(
    channel: Channel, client: Client, quorum: Declare
) -> None:
    queue = quorum()
    consumer = client.channel()
    consumer.consume(queue)
    fill(channel, queue, "")
    assert channel.call("queue.delete", queue=queue) == {"message_count": 0}
    consumer.expect("basic.cancel", consumer_tag="c", nowait=True)


def test_a_purge_leaves_what_is_out(channel: Channel, quorum: Declare) -> None:
    queue = quorum()
    fill(channel, queue, "abc")
    message = channel.arrival(queue, no_ack=False)
    assert message["message_count"] == 2
    assert channel.call("queue.purge", queue=queue) == {"message_count": 2}
    channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    has_ready(channel, queue, 1)
    assert channel.call("queue.delete", queue=queue) == {"message_count": 1}
