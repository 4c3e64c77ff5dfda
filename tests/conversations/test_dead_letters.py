"""Dead letters: why a message dies, what is written on it, octet by octet, and where it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client, Reply
from .codec import Table, Typed, encode_header, encode_value
from .conftest import Connect, Names

# The broker's time is within a millisecond of the wall clock, and counts whole ones; seconds.
CLOCKS_APART = 0.002

Declare = Callable[..., str]
Differs = Callable[..., Any]
LastDeath = Callable[..., dict[str, Typed]]


def strings(*values: str) -> Typed:
    return Typed("A", [Typed("S", value) for value in values])


def death(
    queue: str,
    reason: str,
    *,
    count: int = 1,
    exchange: str = "",
    keys: tuple[str, ...] | None = None,
    expiration: str | None = None,
    moment: Typed,
    by_name: bool = False,
) -> Typed:
    """An entry of x-death with its fields in wire order: that of a first death, or by their names."""
    fields = {
        "count": Typed("l", count),
        "reason": Typed("S", reason),
        "queue": Typed("S", queue),
        "time": moment,
        "exchange": Typed("S", exchange),
        "routing-keys": strings(*(keys or (queue,))),
    }
    if expiration is not None:
        fields["original-expiration"] = Typed("S", expiration)
    return Typed("F", {key: fields[key] for key in (sorted(fields) if by_name else fields)})


def first_death(queue: str, reason: str, exchange: str = "") -> dict[str, Typed]:
    return {
        "x-first-death-exchange": Typed("S", exchange),
        "x-first-death-queue": Typed("S", queue),
        "x-first-death-reason": Typed("S", reason),
    }


@pytest.fixture
def last_death(differs_from_rabbitmq: Differs) -> LastDeath:
    def last_death(queue: str, reason: str, exchange: str = "") -> dict[str, Typed]:
        told = {
            "x-last-death-exchange": Typed("S", exchange),
            "x-last-death-queue": Typed("S", queue),
            "x-last-death-reason": Typed("S", reason),
        }
        headers: dict[str, Typed] = differs_from_rabbitmq(
            "the last death is told since 3.13", rabbitmq={}, ours=told
        )
        return headers

    return last_death


def deaths(message: Reply) -> list[Table]:
    """The entries of a message's x-death, the newest first."""
    header = message.properties["headers"]["x-death"]
    assert (header.kind, {entry.kind for entry in header.value}) == ("A", {"F"})
    return [entry.value for entry in header.value]


def short(message: Reply) -> list[tuple[str, str, int]]:
    """Queue, reason and count of each entry."""
    return [tuple(entry[key].value for key in ("queue", "reason", "count")) for entry in deaths(message)]


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    """The queue where the dead letters of `source` go."""
    return channel.declare(names.queue("dead"))


@pytest.fixture
def declare(channel: Channel, names: Names) -> Declare:
    """Declare a queue with a dead-letter exchange, and a dead-letter routing key unless that is None."""

    def declare(key: str | None, exchange: str = "", stem: str = "source", **arguments: Any) -> str:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        given["x-dead-letter-exchange"] = exchange
        if key is not None:
            given["x-dead-letter-routing-key"] = key
        return channel.declare(names.queue(stem), arguments=given)

    return declare


@pytest.fixture
def source(declare: Declare, dead: str) -> str:
    return declare(dead)


@pytest.fixture
def reject(channel: Channel) -> Callable[[str], None]:
    """Take the next message of a queue and refuse it for good."""

    def reject(queue: str) -> None:
        message = channel.arrival(queue, no_ack=False)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"])

    return reject


# why a message dies


@pytest.mark.parametrize("how", ["basic.reject", "basic.nack"])
def test_a_message_got_and_refused_for_good_is_dead_lettered(
    channel: Channel, source: str, dead: str, how: str
) -> None:
    channel.publish("m", routing_key=source)
    message = channel.arrival(source, no_ack=False)
    channel.send(how, delivery_tag=message["delivery_tag"])
    assert short(channel.arrival(dead)) == [(source, "rejected", 1)]
    assert channel.counts(source) == (0, 0)


@pytest.mark.parametrize("how", ["basic.reject", "basic.nack"])
def test_a_message_consumed_and_refused_for_good_is_dead_lettered(
    channel: Channel, source: str, dead: str, how: str
) -> None:
    channel.consume(source)
    channel.publish("m", routing_key=source)
    message = channel.expect("basic.deliver")
    channel.send(how, delivery_tag=message["delivery_tag"])
    assert short(channel.arrival(dead)) == [(source, "rejected", 1)]


def test_a_message_refused_for_now_is_not_dead_lettered(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    channel.publish("m", routing_key=source)
    message = channel.arrival(source, no_ack=False)
    channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    reject(source)
    assert short(channel.arrival(dead)) == [(source, "rejected", 1)]
    assert channel.counts(dead) == (0, 0)


def test_an_acked_message_is_not_dead_lettered(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    for body in "ab":
        channel.publish(body, routing_key=source)
    channel.send("basic.ack", delivery_tag=channel.arrival(source, no_ack=False)["delivery_tag"])
    reject(source)
    assert channel.arrivals(dead, 1) == ["b"]
    assert channel.counts(dead) == (0, 0)


def test_an_expired_message_is_dead_lettered(channel: Channel, declare: Declare, dead: str) -> None:
    source = declare(dead, x_message_ttl=50)
    channel.publish("m", routing_key=source)
    assert short(channel.arrival(dead)) == [(source, "expired", 1)]
    assert channel.counts(source) == (0, 0)


def test_a_message_that_expires_by_its_own_expiration_is_dead_lettered(
    channel: Channel, source: str, dead: str
) -> None:
    channel.publish("m", routing_key=source, expiration="50")
    assert short(channel.arrival(dead)) == [(source, "expired", 1)]


@pytest.mark.parametrize("limit", ["x_max_length", "x_max_length_bytes"])
def test_a_message_dropped_by_a_length_limit_is_dead_lettered(
    channel: Channel, declare: Declare, dead: str, limit: str
) -> None:
    source = declare(dead, **{limit: 2})
    for body in "abcd":
        channel.publish(body, routing_key=source)
    for body in "ab":
        message = channel.arrival(dead)
        assert (message.body.decode(), short(message)) == (body, [(source, "maxlen", 1)])
    assert channel.drain(source) == ["c", "d"]


def test_a_message_refused_by_a_full_queue_is_dead_lettered_if_that_is_asked_for(
    channel: Channel, declare: Declare, dead: str
) -> None:
    source = declare(dead, x_max_length=1, x_overflow="reject-publish-dlx")
    for body in "ab":
        channel.publish(body, routing_key=source)
    message = channel.arrival(dead)
    assert (message.body, short(message)) == (b"b", [(source, "maxlen", 1)])
    assert channel.drain(source) == ["a"]


def test_a_message_refused_by_a_full_queue_is_not_dead_lettered_otherwise(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None]
) -> None:
    source = declare(dead, x_max_length=1, x_overflow="reject-publish")
    for body in "ab":
        channel.publish(body, routing_key=source)
    reject(source)
    assert channel.arrivals(dead, 1) == ["a"]
    assert channel.counts(dead) == (0, 0)


def test_several_refused_at_once_die_in_the_order_of_their_delivery(
    channel: Channel, source: str, dead: str
) -> None:
    for body in "abcde":
        channel.publish(body, routing_key=source)
    tags = [channel.arrival(source, no_ack=False)["delivery_tag"] for _ in range(5)]
    channel.send("basic.reject", delivery_tag=tags[2])
    channel.send("basic.nack", delivery_tag=tags[3], multiple=True)
    channel.send("basic.nack", delivery_tag=0, multiple=True)
    assert channel.arrivals(dead, 5) == ["c", "a", "b", "d", "e"]


def test_several_queues_refused_at_once_keep_the_order_of_each(
    channel: Channel, declare: Declare, dead: str
) -> None:
    """Between the queues RabbitMQ promises none."""
    sources = [declare(dead), declare(dead)]
    for number in range(6):
        channel.publish(str(number), routing_key=sources[number % 2])
    for number in range(6):
        channel.arrival(sources[number % 2], no_ack=False)
    channel.send("basic.nack", delivery_tag=0, multiple=True)
    came = channel.arrivals(dead, 6)
    assert [body for body in came if int(body) % 2 == 0] == ["0", "2", "4"]
    assert [body for body in came if int(body) % 2 == 1] == ["1", "3", "5"]


@pytest.mark.parametrize("method", ["basic.recover", "basic.recover-async"])
def test_a_recover_kills_nothing(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], method: str
) -> None:
    channel.publish("m", routing_key=source)
    channel.arrival(source, no_ack=False)
    channel.send(method, requeue=True)
    if method == "basic.recover":
        channel.expect("basic.recover-ok")
    reject(source)
    assert short(channel.arrival(dead)) == [(source, "rejected", 1)]


@pytest.mark.parametrize("end", ["channel", "connection", "drop"])
def test_what_is_unacked_when_its_consumer_goes_away_lives(
    channel: Channel, connect: Connect, source: str, dead: str, end: str
) -> None:
    channel.publish("m", routing_key=source)
    client = connect()
    other = client.channel()
    other.arrival(source, no_ack=False)
    {"channel": other.close, "connection": client.close, "drop": client.drop}[end]()
    message = channel.arrival(source)
    assert message["redelivered"] is True
    assert "headers" not in message.properties
    assert channel.counts(dead) == (0, 0)


def test_a_cancelled_consumer_may_still_refuse(channel: Channel, source: str, dead: str) -> None:
    channel.consume(source)
    channel.publish("m", routing_key=source)
    message = channel.expect("basic.deliver")
    channel.call("basic.cancel", consumer_tag="c")
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    assert channel.arrivals(dead, 1) == ["m"]


def test_a_purge_kills_nothing(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    for body in "ab":
        channel.publish(body, routing_key=source)
    assert channel.call("queue.purge", queue=source) == {"message_count": 2}
    channel.publish("c", routing_key=source)
    reject(source)
    assert channel.arrivals(dead, 1) == ["c"]
    assert channel.counts(dead) == (0, 0)


def test_the_deletion_of_a_queue_kills_nothing(channel: Channel, source: str, dead: str) -> None:
    for body in "abc":
        channel.publish(body, routing_key=source)
    taken = channel.arrival(source, no_ack=False)
    assert channel.call("queue.delete", queue=source) == {"message_count": 2}
    channel.send("basic.reject", delivery_tag=taken["delivery_tag"])
    channel.hears_nothing(dead)
    assert channel.counts(dead) == (0, 0)


def test_a_queue_without_a_dead_letter_exchange_drops(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    message = channel.arrival(queue, no_ack=False)
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    channel.hears_nothing(queue)
    assert channel.counts(queue) == (0, 0)


# what is written on it


KILLERS: dict[str, dict[str, Any]] = {
    "rejected": {},
    "expired": {"x_message_ttl": 30},
    "maxlen": {"x_max_length": 0},
}


@pytest.mark.parametrize("reason", KILLERS)
@pytest.mark.parametrize("expiration", [None, "60000"])
def test_the_headers_of_a_first_death_octet_by_octet(
    channel: Channel,
    declare: Declare,
    dead: str,
    reject: Callable[[str], None],
    reason: str,
    expiration: str | None,
    last_death: LastDeath,
) -> None:
    source = declare(dead, **KILLERS[reason])
    before = int(time.time() - CLOCKS_APART)
    properties: dict[str, Any] = {} if expiration is None else {"expiration": expiration}
    channel.publish("m", routing_key=source, **properties)
    if reason == "rejected":
        reject(source)
    message = channel.arrival(dead)
    moment = deaths(message)[0]["time"]
    assert moment.kind == "T"
    assert before <= moment.value <= time.time() + CLOCKS_APART
    entry = death(source, reason, moment=moment, expiration=expiration)
    headers = {"x-death": Typed("A", [entry])} | first_death(source, reason) | last_death(source, reason)
    assert message.header == encode_header(1, {"headers": headers})
    assert message.arguments | {"delivery_tag": 0} == {
        "delivery_tag": 0,
        "redelivered": False,
        "exchange": "",
        "routing_key": dead,
        "message_count": 0,
    }


def test_the_headers_of_a_dead_letter_are_in_the_order_of_their_names(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    mine = {"z": 1, "x-first-death-a": 2, "b": {"z": 1, "a": 2}, "A": None, "a": 4, "x-e": 5}
    channel.publish("m", routing_key=source, headers=mine)
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert list(headers) == sorted([*mine, "x-death", *first_death("", ""), *last_death("", "")])
    assert list(headers["b"].value) == ["z", "a"]


def test_all_other_properties_stay(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "identity",
        "delivery_mode": 2,
        "priority": 7,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "i",
        "timestamp": 1_700_000_000,
        "type": "t",
        "user_id": "guest",
        "app_id": "a",
        "cluster_id": "k",
    }
    channel.publish("m", routing_key=source, expiration="60000", **properties)
    reject(source)
    found = channel.arrival(dead).properties
    assert found.pop("headers").keys() == {"x-death", *first_death("", ""), *last_death("", "")}
    assert found == properties


@pytest.mark.parametrize("mode", [None, 1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_the_delivery_mode_stays(
    channel: Channel, names: Names, reject: Callable[[str], None], mode: int | None, durable: bool
) -> None:
    dead = channel.declare(names.queue("dead"), durable=durable)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    source = channel.declare(names.queue(), durable=durable, arguments=arguments)
    properties: dict[str, Any] = {} if mode is None else {"delivery_mode": mode}
    channel.publish("m", routing_key=source, **properties)
    reject(source)
    assert channel.arrival(dead).properties.get("delivery_mode") == mode


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_the_body_stays(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], size: int
) -> None:
    body = bytes(number % 251 for number in range(size))
    channel.publish(body, routing_key=source)
    reject(source)
    assert channel.arrival(dead).body == body


def test_a_dead_letter_is_not_marked_redelivered_though_it_was(
    channel: Channel, source: str, dead: str
) -> None:
    channel.publish("m", routing_key=source)
    for requeue in (True, True, False):
        message = channel.arrival(source, no_ack=False)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=requeue)
    assert message["redelivered"] is True
    assert channel.arrival(dead)["redelivered"] is False


def test_a_dead_letter_has_no_expiration_any_more(channel: Channel, declare: Declare, names: Names) -> None:
    dead = channel.declare(names.queue("dead"), arguments={"x-message-ttl": 60000})
    source = declare(dead)
    channel.publish("a", routing_key=source, expiration="30")
    message = channel.arrival(dead, no_ack=False)
    assert "expiration" not in message.properties
    assert deaths(message)[0]["original-expiration"] == Typed("S", "30")
    channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)
    # a second one has come the same way, so the time that the first would have had has passed
    channel.publish("b", routing_key=source, expiration="60")
    channel.counts_become(dead, 2, 0)
    assert channel.drain(dead) == ["a", "b"]


def test_the_expiration_is_remembered_as_it_was_written(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    channel.publish("m", routing_key=source, expiration="00090000")
    reject(source)
    assert deaths(channel.arrival(dead))[0]["original-expiration"] == Typed("S", "00090000")


def test_a_ttl_of_the_queue_is_not_remembered(channel: Channel, declare: Declare, dead: str) -> None:
    source = declare(dead, x_message_ttl=30)
    channel.publish("m", routing_key=source)
    assert "original-expiration" not in deaths(channel.arrival(dead))[0]


def test_the_exchange_and_the_key_of_the_publish_are_remembered(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    channel.bind(source, "amq.topic", "a.#")
    channel.publish("m", exchange="amq.topic", routing_key="a.b")
    reject(source)
    message = channel.arrival(dead)
    entry = deaths(message)[0]
    assert (entry["exchange"], entry["routing-keys"]) == (Typed("S", "amq.topic"), strings("a.b"))
    assert message.properties["headers"]["x-first-death-exchange"] == Typed("S", "amq.topic")
    assert (message["exchange"], message["routing_key"]) == ("", dead)


def test_a_message_of_two_queues_dies_in_each_of_its_own(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    fanout = exchange("fanout")
    sources = [declare(dead), declare(dead)]
    for source in sources:
        channel.bind(source, fanout)
    channel.publish("m", exchange=fanout, routing_key="k", headers={"a": 1})
    reject(sources[0])
    assert short(channel.arrival(dead)) == [(sources[0], "rejected", 1)]
    alive = channel.arrival(sources[1], no_ack=False)
    assert alive.properties == {"headers": {"a": Typed("I", 1)}}
    channel.send("basic.reject", delivery_tag=alive["delivery_tag"])
    assert short(channel.arrival(dead)) == [(sources[1], "rejected", 1)]


# CC and BCC


def test_cc_is_remembered_and_bcc_is_not(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    channel.publish("m", routing_key=source, headers={"CC": ["one", 2, "three"], "BCC": ["four"]})
    reject(source)
    assert deaths(channel.arrival(dead))[0]["routing-keys"] == strings(source, "one", "three")


def test_the_header_cc_goes_if_there_is_a_dead_letter_routing_key(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    channel.publish("m", routing_key=source, headers={"CC": ["one"], "b": 1})
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert list(headers) == ["b", "x-death", *first_death("", ""), *last_death("", "")]


def test_the_header_cc_stays_if_there_is_no_dead_letter_routing_key(
    channel: Channel,
    declare: Declare,
    dead: str,
    reject: Callable[[str], None],
    exchange: Declare,
    last_death: LastDeath,
) -> None:
    fanout = exchange("fanout")
    channel.bind(dead, fanout)
    source = declare(None, fanout)
    channel.publish("m", routing_key=source, headers={"CC": ["one", 2], "BCC": ["three"]})
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert list(headers) == ["CC", "x-death", *first_death("", ""), *last_death("", "")]
    assert headers["CC"] == Typed("A", [Typed("S", "one"), Typed("I", 2)])


@pytest.fixture
def by_key(channel: Channel, names: Names, exchange: Declare) -> tuple[str, dict[str, str]]:
    """A direct exchange, and the queues bound to it by the keys "main", "cc" and "bcc"."""
    direct = exchange("direct")
    queues = {key: channel.declare(names.queue(key)) for key in ("main", "cc", "bcc")}
    for key, queue in queues.items():
        channel.bind(queue, direct, key)
    return direct, queues


COPIES = {"CC": ["cc"], "BCC": ["bcc"]}


def test_without_a_dead_letter_routing_key_all_keys_of_the_publish_count_again(
    channel: Channel, declare: Declare, reject: Callable[[str], None], by_key: tuple[str, dict[str, str]]
) -> None:
    direct, queues = by_key
    source = declare(None, direct)
    channel.bind(source, "amq.fanout")
    channel.publish("m", exchange="amq.fanout", routing_key="main", headers=COPIES)
    reject(source)
    for queue in queues.values():
        message = channel.arrival(queue)
        assert (message["exchange"], message["routing_key"]) == (direct, "main")
        assert deaths(message)[0]["routing-keys"] == strings("main", "cc")
    channel.call("queue.unbind", queue=source, exchange="amq.fanout")


@pytest.mark.parametrize("key", ["main", "cc", "bcc"])
def test_a_dead_letter_routing_key_stands_for_all_keys(
    channel: Channel,
    declare: Declare,
    reject: Callable[[str], None],
    by_key: tuple[str, dict[str, str]],
    key: str,
) -> None:
    direct, queues = by_key
    source = declare(key, direct)
    channel.publish("m", routing_key=source, headers=COPIES)
    reject(source)
    message = channel.arrival(queues.pop(key))
    assert message["routing_key"] == key
    assert deaths(message)[0]["routing-keys"] == strings(source, "cc")
    assert [channel.drain(queue) for queue in queues.values()] == [[], []]


def test_bcc_counts_again_at_every_death_though_nobody_sees_it(
    channel: Channel, declare: Declare, reject: Callable[[str], None], by_key: tuple[str, dict[str, str]]
) -> None:
    direct, queues = by_key
    second = declare(None, direct, "second")
    channel.bind(second, direct, "second")
    first = declare(None, direct, "first")
    channel.publish("m", routing_key=first, headers={"BCC": ["bcc", "second"]})
    for source in (first, second):
        reject(source)
        message = channel.arrival(queues["bcc"])
        assert message["routing_key"] == first
        assert deaths(message)[0]["routing-keys"] == strings(first)
        assert "BCC" not in message.properties["headers"]
    assert channel.counts(second) == (1, 0)


# where it goes


@pytest.mark.parametrize(
    ("kind", "key"), [("direct", "k"), ("topic", "a.*.c"), ("fanout", ""), ("topic", "#")]
)
def test_any_type_of_exchange_takes_dead_letters(
    channel: Channel,
    declare: Declare,
    dead: str,
    reject: Callable[[str], None],
    exchange: Declare,
    kind: str,
    key: str,
) -> None:
    letters = exchange(kind)
    channel.bind(dead, letters, key)
    source = declare("a.b.c" if kind == "topic" else "k", letters)
    channel.publish("m", routing_key=source)
    reject(source)
    message = channel.arrival(dead)
    assert (message.body, message["exchange"]) == (b"m", letters)


@pytest.mark.parametrize("reason", ["rejected", "expired"])
def test_a_headers_exchange_sees_what_was_written_on_the_dead_letter(
    channel: Channel,
    declare: Declare,
    names: Names,
    reject: Callable[[str], None],
    exchange: Declare,
    reason: str,
) -> None:
    letters = exchange("headers")
    queues = {why: channel.declare(names.queue(why)) for why in ("rejected", "expired")}
    for why, queue in queues.items():
        channel.bind(queue, letters, arguments={"x-match": "all-with-x", "x-first-death-reason": why})
    source = declare(None, letters)
    channel.publish("m", routing_key=source, expiration="30" if reason == "expired" else "60000")
    if reason == "rejected":
        reject(source)
    assert channel.arrivals(queues.pop(reason), 1) == ["m"]
    assert [channel.drain(queue) for queue in queues.values()] == [[]]


def test_a_dead_letter_reaches_every_queue_bound_for_it(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None], exchange: Declare
) -> None:
    letters = exchange("fanout")
    queues = [channel.declare(names.queue()) for _ in range(3)]
    for queue in queues:
        channel.bind(queue, letters)
    source = declare(None, letters)
    channel.publish("m", routing_key=source)
    reject(source)
    assert [short(channel.arrival(queue)) for queue in queues] == [[(source, "rejected", 1)]] * 3


def test_a_dead_letter_goes_on_from_exchange_to_exchange(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    first, second = exchange("topic"), exchange("direct")
    channel.call("exchange.bind", source=first, destination=second, routing_key="#")
    channel.bind(dead, second, "k")
    source = declare("k", first)
    channel.publish("m", routing_key=source)
    reject(source)
    assert channel.arrival(dead)["exchange"] == first


def test_a_dead_letter_exchange_may_be_internal(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    letters = exchange("fanout", internal=True)
    channel.bind(dead, letters)
    source = declare(None, letters)
    channel.publish("m", routing_key=source)
    reject(source)
    assert channel.arrivals(dead, 1) == ["m"]


def test_what_the_dead_letter_exchange_cannot_route_goes_to_its_alternate_exchange(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    other = exchange("fanout")
    letters = exchange("direct", arguments={"alternate-exchange": other})
    channel.bind(dead, other)
    source = declare("nowhere", letters)
    channel.publish("m", routing_key=source)
    reject(source)
    message = channel.arrival(dead)
    assert (message["exchange"], message["routing_key"]) == (letters, "nowhere")


def test_a_dead_letter_that_goes_nowhere_is_not_returned(
    channel: Channel, declare: Declare, reject: Callable[[str], None], exchange: Declare
) -> None:
    source = declare("nowhere", exchange("direct"))
    channel.call("confirm.select")
    channel.publish("m", routing_key=source, mandatory=True)
    channel.expect("basic.ack", delivery_tag=1, multiple=False)
    reject(source)
    channel.hears_nothing(source)
    assert channel.counts(source) == (0, 0)


def test_a_dead_letter_exchange_that_is_missing_drops_until_it_is_there(
    channel: Channel, declare: Declare, names: Names, dead: str, reject: Callable[[str], None]
) -> None:
    letters = names.exchange()
    source = declare(None, letters)
    for body in ("dropped", "kept", "dropped too", "kept too"):
        if body.startswith("kept"):
            channel.call("exchange.declare", exchange=letters, type="fanout")
            channel.bind(dead, letters)
        channel.publish(body, routing_key=source)
        reject(source)
        if body.startswith("kept"):
            assert channel.arrivals(dead, 1) == [body]
            channel.call("exchange.delete", exchange=letters)
    assert channel.counts(dead) == (0, 0)


def test_a_dead_letter_queue_that_is_missing_drops(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None]
) -> None:
    dead = names.queue("late")
    source = declare(dead)
    for body in ("dropped", "kept"):
        if body == "kept":
            channel.declare(dead)
        channel.publish(body, routing_key=source)
        reject(source)
        channel.hears_nothing(source)
    assert channel.arrivals(dead, 1) == ["kept"]
    assert channel.counts(dead) == (0, 0)


def test_a_dead_letter_is_delivered_to_a_consumer_that_waits(
    channel: Channel, client: Client, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    undertaker = client.channel()
    undertaker.consume(dead, no_ack=True)
    channel.publish("m", routing_key=source)
    reject(source)
    message = undertaker.expect("basic.deliver", consumer_tag="c", redelivered=False, routing_key=dead)
    assert short(message) == [(source, "rejected", 1)]


def test_a_full_dead_letter_queue_drops_its_own_head(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None]
) -> None:
    dead = channel.declare(names.queue("dead"), arguments={"x-max-length": 1})
    source = declare(dead)
    for body in "ab":
        channel.publish(body, routing_key=source)
        reject(source)
    channel.hears_nothing(source)
    assert channel.arrivals(dead, 1) == ["b"]


def test_a_full_dead_letter_queue_that_refuses_loses_the_dead_letter(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None]
) -> None:
    dead = channel.declare(names.queue("dead"), arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    source = declare(dead)
    for body in "abc":
        channel.publish(body, routing_key=source)
    reject(source)
    channel.counts_become(dead, 1, 0)
    reject(source)
    channel.hears_nothing(source)
    assert channel.arrivals(dead, 1) == ["a"]
    reject(source)
    assert channel.arrivals(dead, 1) == ["c"]


# dying again


def test_a_chain_of_deaths_is_written_newest_first_and_the_first_is_kept(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    second = declare(dead, stem="second", x_message_ttl=30)
    first = declare(second, stem="first")
    channel.publish("m", routing_key=first, expiration="60000", headers={"CC": ["cc"], "a": 1})
    reject(first)
    message = channel.arrival(dead)
    newer, older = deaths(message)
    entries = [
        death(second, "expired", moment=newer["time"], by_name=True),
        death(first, "rejected", keys=(first, "cc"), expiration="60000", moment=older["time"]),
    ]
    assert newer["time"].value >= older["time"].value
    headers = {"a": Typed("I", 1), "x-death": Typed("A", entries)} | first_death(first, "rejected")
    headers |= last_death(second, "expired")
    assert message.header == encode_header(1, {"headers": headers})


def test_a_message_that_dies_again_of_the_same_is_counted(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    """The fields of an entry are in the order of their names from its second death on, its time is that of
    the first.
    """
    source = names.queue("source")
    waiting = declare(source, stem="waiting", x_message_ttl=30)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": waiting}
    channel.declare(source, arguments=arguments)
    channel.publish("m", routing_key=source, expiration="60000")
    for count in (1, 2, 3):
        reject(source)
        message = channel.arrival(source, no_ack=False)
        channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
        newer, older = deaths(message)
        if count == 1:
            moments = (newer["time"], older["time"])
        entries = [
            death(waiting, "expired", count=count, moment=moments[0], by_name=True),
            death(
                source,
                "rejected",
                count=count,
                expiration="60000",
                moment=moments[1],
                by_name=count > 1,
            ),
        ]
        headers = {"x-death": Typed("A", entries)} | first_death(source, "rejected")
        headers |= last_death(waiting, "expired")
        assert message.header == encode_header(1, {"headers": headers})


def test_the_time_of_an_entry_is_that_of_its_first_death(
    channel: Channel, declare: Declare, reject: Callable[[str], None]
) -> None:
    source = declare(None)
    channel.publish("m", routing_key=source)
    reject(source)
    message = channel.arrival(source, no_ack=False)
    moment = deaths(message)[0]["time"].value
    while time.time() < moment + 1:  # until the clock of seconds has moved on
        channel.counts(source)
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    again = deaths(channel.arrival(source))
    assert [(entry["count"].value, entry["time"].value) for entry in again] == [(2, moment)]


def test_a_queue_has_an_entry_for_each_reason(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None]
) -> None:
    source, back = names.queue("source"), names.queue("back")
    for queue, key in ((source, back), (back, source)):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": key}
        channel.declare(queue, arguments=arguments)
    channel.publish("m", routing_key=source, expiration="30")
    reject(back)
    reject(source)
    assert short(channel.arrival(back)) == [
        (source, "rejected", 1),
        (source, "expired", 1),
        (back, "rejected", 1),
    ]


def test_the_entries_of_three_queues_in_a_round_keep_this_order(
    channel: Channel, names: Names, reject: Callable[[str], None]
) -> None:
    """The newest is the first; the others are turned round each time they are looked through."""
    queues = [names.queue(stem) for stem in "abc"]
    for number, queue in enumerate(queues):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queues[(number + 1) % 3]}
        channel.declare(queue, arguments=arguments)
    channel.publish("m", routing_key=queues[0])
    found: list[str] = []
    for number in range(9):
        reject(queues[number % 3])
        target = queues[(number + 1) % 3]
        message = channel.arrival(target, no_ack=False)
        found.append(" ".join(f"{queue[0]}{count}" for queue, _, count in short(message)))
        channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    assert found == [
        "a1",
        "b1 a1",
        "c1 a1 b1",
        "a2 b1 c1",
        "b2 c1 a2",
        "c2 a2 b2",
        "a3 b2 c2",
        "b3 c2 a3",
        "c3 a3 b3",
    ]


def test_the_entries_of_a_long_chain_are_in_this_order(channel: Channel, declare: Declare, dead: str) -> None:
    """The newest is the first; the others are turned round each time they are looked through."""
    queues = [dead]
    for stem in "edcba":
        queues.insert(0, declare(queues[0], stem=stem, x_message_ttl=10))
    channel.publish("m", routing_key=queues[0])
    found = short(channel.arrival(dead))
    assert "".join(queue[0] for queue, _, _ in found) == "ecabd"
    assert [(reason, count) for _, reason, count in found] == [("expired", 1)] * 5


def test_the_key_of_a_second_death_is_the_dead_letter_routing_key_of_the_first(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    letters = exchange("topic")
    second = declare(dead, stem="second")
    channel.bind(second, letters, "new.*")
    first = declare("new.key", letters, "first")
    channel.publish("m", routing_key=first, headers={"CC": ["cc"], "BCC": ["bcc"]})
    reject(first)
    reject(second)
    newer, older = deaths(channel.arrival(dead))
    assert (newer["exchange"], newer["routing-keys"]) == (Typed("S", letters), strings("new.key"))
    assert (older["exchange"], older["routing-keys"]) == (Typed("S", ""), strings(first, "cc"))


# going round in circles


def test_a_message_refused_may_come_back_to_its_own_queue_behind_the_others(
    channel: Channel, declare: Declare, reject: Callable[[str], None]
) -> None:
    source = declare(None)
    for body in "ab":
        channel.publish(body, routing_key=source)
    for _ in range(3):
        reject(source)
    message = channel.arrival(source)
    assert (message.body, short(message)) == (b"b", [(source, "rejected", 1)])
    message = channel.arrival(source)
    assert (message.body, short(message)) == (b"a", [(source, "rejected", 2)])


def test_an_expired_message_does_not_come_back_to_its_own_queue(
    channel: Channel, declare: Declare, names: Names, exchange: Declare
) -> None:
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    source = declare(None, fanout, x_message_ttl=30)
    for queue in (source, witness):
        channel.bind(queue, fanout)
    for body in "mn":  # the second shows that nothing more became of the first
        channel.publish(body, routing_key=source)
        message = channel.arrival(witness)
        assert (message.body.decode(), short(message)) == (body, [(source, "expired", 1)])
    assert channel.counts(source) == (0, 0)
    assert channel.counts(witness) == (0, 0)


def test_a_message_dropped_by_length_does_not_come_back_to_its_own_queue(
    channel: Channel, declare: Declare
) -> None:
    source = declare(None, x_max_length=2)
    for body in "abcd":
        channel.publish(body, routing_key=source)
    assert channel.drain(source) == ["c", "d"]
    channel.hears_nothing(source)
    assert channel.counts(source) == (0, 0)


def test_an_expired_message_does_not_come_back_through_another_queue(
    channel: Channel, declare: Declare, names: Names, exchange: Declare
) -> None:
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    second = declare(None, fanout, "second", x_message_ttl=60)
    first = declare(second, stem="first", x_message_ttl=30)
    for queue in (first, witness):
        channel.bind(queue, fanout)
    for body in "mn":  # the second shows that nothing more became of the first
        channel.publish(body, routing_key=first)
        message = channel.arrival(witness)
        assert message.body.decode() == body
        assert short(message) == [(second, "expired", 1), (first, "expired", 1)]
    assert [channel.counts(queue) for queue in (first, second, witness)] == [(0, 0)] * 3


def test_a_refusal_anywhere_in_the_circle_lets_it_go_round(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None]
) -> None:
    first = names.queue("first")
    second = declare(first, stem="second", x_message_ttl=30)
    channel.declare(first, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second})
    channel.publish("m", routing_key=first)
    for _ in range(4):
        reject(first)
    channel.counts_become(first, 1, 0)
    assert short(channel.arrival(first)) == [(second, "expired", 4), (first, "rejected", 4)]


def test_a_refusal_before_the_circle_does_not_help(
    channel: Channel, declare: Declare, names: Names, reject: Callable[[str], None], exchange: Declare
) -> None:
    """The second queue is entered by a refusal, and then left and come back to by expiry alone."""
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    second = declare(None, fanout, "second", x_message_ttl=30)
    first = declare(second, stem="first")
    for queue in (second, witness):
        channel.bind(queue, fanout)
    for body in "mn":  # the second shows that nothing more became of the first
        channel.publish(body, routing_key=first)
        reject(first)
        message = channel.arrival(witness)
        assert message.body.decode() == body
        assert short(message) == [(second, "expired", 1), (first, "rejected", 1)]
    assert channel.counts(second) == (0, 0)
    assert channel.counts(witness) == (0, 0)


def test_only_the_queues_of_the_circle_are_left_out(
    channel: Channel, declare: Declare, names: Names, exchange: Declare
) -> None:
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    queues = [declare(None, fanout, stem, x_message_ttl=30) for stem in "ab"]
    for queue in (*queues, witness):
        channel.bind(queue, fanout)
    channel.publish("m", routing_key=queues[0])
    assert short(channel.arrival(witness)) == [(queues[0], "expired", 1)]
    assert short(channel.arrival(witness)) == [(queues[1], "expired", 1), (queues[0], "expired", 1)]
    channel.hears_nothing(witness)
    assert [channel.counts(queue) for queue in (*queues, witness)] == [(0, 0)] * 3


# what a client writes itself


def entry(queue: str, reason: str, count: int | None = None, **more: Any) -> dict[str, Any]:
    counted = {} if count is None else {"count": Typed("l", count)}
    return counted | {"reason": reason, "queue": queue} | more


def x_death_after(channel: Channel, source: str, dead: str, x_death: Any) -> bytes:
    """What becomes of an x-death that a client sent, when the message is refused; octet by octet."""
    channel.publish("m", routing_key=source, headers={"x-death": x_death})
    message = channel.arrival(source, no_ack=False)
    assert message.header == encode_header(1, {"headers": {"x-death": x_death}})
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    headers = channel.arrival(dead).properties["headers"]
    assert [name for name in headers if "last" not in name] == ["x-death"]
    return encode_value(headers["x-death"])


def test_an_entry_that_a_client_sent_is_counted_on(channel: Channel, source: str, dead: str) -> None:
    sent = [entry(source, "rejected", 5, zz=1, aa=2)]
    wanted = {
        "aa": 2,
        "count": Typed("l", 6),
        "queue": source,
        "reason": "rejected",
        "zz": 1,
    }
    assert x_death_after(channel, source, dead, sent) == encode_value([wanted])


def test_a_count_that_a_client_sent_becomes_long(channel: Channel, source: str, dead: str) -> None:
    sent = [{"reason": "rejected", "queue": source, "count": Typed("I", 5)}]
    wanted = {"count": Typed("l", 6), "queue": source, "reason": "rejected"}
    assert x_death_after(channel, source, dead, sent) == encode_value([wanted])


def test_an_entry_without_a_count_becomes_the_first(channel: Channel, source: str, dead: str) -> None:
    wanted = {"count": Typed("l", 1), "queue": source, "reason": "rejected"}
    assert x_death_after(channel, source, dead, [entry(source, "rejected")]) == encode_value([wanted])


def test_of_equal_entries_with_a_count_the_first_is_counted_on_and_the_others_go(
    channel: Channel, source: str, dead: str
) -> None:
    sent = [entry(source, "rejected", 5, a=1), entry(source, "rejected", 7, b=1)]
    wanted = {"a": 1, "count": Typed("l", 6), "queue": source, "reason": "rejected"}
    assert x_death_after(channel, source, dead, sent) == encode_value([wanted])


def test_equal_entries_without_a_count_are_counted_together(channel: Channel, source: str, dead: str) -> None:
    sent = [entry("p", "maxlen"), entry("p", "maxlen"), entry("p", "maxlen"), entry(source, "rejected", 4)]
    wanted = [
        {"count": Typed("l", 5), "queue": source, "reason": "rejected"},
        {"count": Typed("l", 3), "reason": "maxlen", "queue": "p"},
    ]
    assert x_death_after(channel, source, dead, sent) == encode_value(wanted)


def test_entries_of_other_queues_and_reasons_stay_behind_the_new_one_turned_round(
    channel: Channel, source: str, dead: str
) -> None:
    sent = [
        entry(source, "expired", 5),
        entry("o", "expired", 7),
        entry(source, "rejected", 2),
        entry("p", "maxlen", 1, time=Typed("T", 3)),
    ]
    wanted = [
        {"count": Typed("l", 3), "queue": source, "reason": "rejected"},
        sent[3],
        sent[1],
        sent[0],
    ]
    assert x_death_after(channel, source, dead, sent) == encode_value(wanted)


def test_an_empty_x_death_is_begun_without_a_first_death(
    channel: Channel, source: str, dead: str, last_death: LastDeath
) -> None:
    channel.publish("m", routing_key=source, headers={"x-death": [], "x-first-death-queue": "mine"})
    message = channel.arrival(source, no_ack=False)
    channel.send("basic.reject", delivery_tag=message["delivery_tag"])
    message = channel.arrival(dead)
    moment = deaths(message)[0]["time"]
    headers = {
        "x-death": Typed("A", [death(source, "rejected", moment=moment, by_name=True)]),
        "x-first-death-queue": "mine",
    } | last_death(source, "rejected")
    assert message.header == encode_header(1, {"headers": headers})


@pytest.mark.parametrize("kind", ["S", "I", "V", "F", "x", "t"])
def test_an_x_death_that_is_no_array_is_begun_anew_without_a_first_death(
    channel: Channel, source: str, dead: str, kind: str, last_death: LastDeath
) -> None:
    value = Typed(kind, {"S": "text", "I": 5, "V": None, "F": {"a": 1}, "x": b"b", "t": True}[kind])
    channel.publish("m", routing_key=source, headers={"x-death": value, "b": 1, "a": 2})
    channel.send("basic.reject", delivery_tag=channel.arrival(source, no_ack=False)["delivery_tag"])
    message = channel.arrival(dead)
    moment = deaths(message)[0]["time"]
    headers = {"a": 2, "b": 1, "x-death": Typed("A", [death(source, "rejected", moment=moment)])}
    headers |= last_death(source, "rejected")
    assert message.header == encode_header(1, {"headers": headers})


def test_a_first_death_that_a_client_sent_is_kept_if_there_is_an_x_death_and_replaced_if_not(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None]
) -> None:
    mine = {f"x-first-death-{what}": "mine" for what in ("queue", "reason")}
    channel.publish("m", routing_key=source, headers=mine | {"x-death": [entry("o", "expired", 1)]})
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert {key: headers[key].value for key in headers if "first" in key} == mine
    channel.publish("m", routing_key=source, headers=mine)
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert {key: headers[key] for key in headers if "first" in key} == first_death(source, "rejected")


@pytest.mark.parametrize("history", [{}, {"x-death": []}, {"x-death": "text"}, {"x-death": [{"queue": "o"}]}])
def test_a_last_death_that_a_client_sent_is_replaced(
    channel: Channel,
    source: str,
    dead: str,
    reject: Callable[[str], None],
    differs_from_rabbitmq: Differs,
    history: dict[str, Any],
) -> None:
    mine = {f"x-last-death-{what}": "mine" for what in ("exchange", "queue", "reason")}
    channel.bind(source, "amq.topic", source)
    channel.publish("m", exchange="amq.topic", routing_key=source, headers=mine | history)
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    told = dict(zip(mine, ("amq.topic", source, "rejected"), strict=True))
    assert {key: headers[key].value for key in headers if "last" in key} == differs_from_rabbitmq(
        "the last death is told since 3.13", rabbitmq=mine, ours=told
    )


def test_the_exchange_of_the_last_death_is_the_one_that_the_message_came_by_this_time(
    channel: Channel, source: str, dead: str, reject: Callable[[str], None], last_death: LastDeath
) -> None:
    """In x-death a repeated death keeps the exchange of the first one."""
    channel.bind(source, "amq.topic", source)
    channel.publish("m", routing_key=source)
    reject(source)
    headers = channel.arrival(dead).properties["headers"]
    assert last_death(source, "rejected").items() <= headers.items()
    channel.publish("m", exchange="amq.topic", routing_key=source, headers=headers)
    reject(source)
    message = channel.arrival(dead)
    headers = message.properties["headers"]
    assert last_death(source, "rejected", "amq.topic").items() <= headers.items()
    assert headers["x-first-death-exchange"] == deaths(message)[0]["exchange"] == Typed("S", "")


@pytest.mark.parametrize(("reason", "comes"), [("expired", False), ("rejected", True), ("maxlen", False)])
def test_an_x_death_that_a_client_sent_makes_a_circle(
    channel: Channel, declare: Declare, names: Names, exchange: Declare, reason: str, comes: bool
) -> None:
    """The message is said to have died before in the queue where its dead letter is to go."""
    fanout, witness = exchange("fanout"), channel.declare(names.queue("witness"))
    dead = channel.declare(names.queue("dead"))
    for queue in (dead, witness):
        channel.bind(queue, fanout)
    source = declare(None, fanout)
    headers = {"x-death": [entry(dead, reason, 1)]}
    channel.publish("m", routing_key=source, headers=headers, expiration="30")
    assert short(channel.arrival(witness))[0] == (source, "expired", 1)
    channel.hears_nothing(dead)
    channel.counts_become(dead, int(comes), 0)


# confirms and transactions


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({"x_message_ttl": 0}, "ack"),
        ({"x_max_length": 0}, "ack"),
        ({"x_max_length_bytes": 0}, "ack"),
        ({"x_max_length": 0, "x_overflow": "reject-publish-dlx"}, "nack"),
        ({"x_max_length_bytes": 0, "x_overflow": "reject-publish-dlx"}, "nack"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_a_publish_whose_message_dies_at_once_is_confirmed(
    channel: Channel, names: Names, arguments: dict[str, Any], outcome: str, mode: int, durable: bool
) -> None:
    channel.call("confirm.select")
    dead = channel.declare(names.queue("dead"), durable=durable)
    given: dict[str, Any] = {key.replace("_", "-"): value for key, value in arguments.items()}
    given |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    source = channel.declare(names.queue("source"), durable=durable, arguments=given)
    channel.publish("m", routing_key=source, delivery_mode=mode)
    assert channel.outcomes(1) == [outcome]
    assert channel.arrivals(dead, 1) == ["m"]
    assert channel.counts(source) == (0, 0)


def test_a_dead_letter_that_is_refused_does_not_refuse_the_publish(
    channel: Channel, declare: Declare, names: Names
) -> None:
    channel.call("confirm.select")
    dead = channel.declare(names.queue("dead"), arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    source = declare(dead, x_message_ttl=0)
    channel.publish("m", routing_key=source)
    assert channel.outcomes(1) == ["ack"]


@pytest.mark.parametrize("end", ["tx.commit", "tx.rollback"])
def test_a_refusal_in_a_transaction_kills_at_the_commit(
    channel: Channel, client: Client, source: str, dead: str, end: str
) -> None:
    channel.publish("m", routing_key=source)
    tx = client.channel()
    tx.call("tx.select")
    message = tx.arrival(source, no_ack=False)
    tx.send("basic.reject", delivery_tag=message["delivery_tag"])
    tx.hears_nothing(source)
    assert channel.counts(dead) == (0, 0)
    tx.call(end)
    if end == "tx.rollback":
        channel.hears_nothing(source)
        assert channel.counts(dead) == (0, 0)
        tx.send("basic.reject", delivery_tag=message["delivery_tag"])
        tx.call("tx.commit")
    assert short(channel.arrival(dead)) == [(source, "rejected", 1)]


# the arguments


def test_the_dead_letter_exchange_and_key_are_compared_on_declaring_again(
    channel: Channel, names: Names
) -> None:
    queue = names.queue()
    arguments = {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": "k"}
    channel.declare(queue, arguments=arguments)
    assert channel.call("queue.declare", queue=queue, arguments=arguments)["queue"] == queue
    channel.send("queue.declare", queue=queue, arguments=arguments | {"x-dead-letter-routing-key": "l"})
    channel.refuses(
        406,
        f"inequivalent arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '/': received 'l' but "
        "current is 'k'",
        "queue.declare",
    )
    channel.send("queue.declare", queue=queue, arguments={"x-dead-letter-exchange": "x"})
    channel.refuses(
        406,
        f"inequivalent arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '/': received none but "
        "current is the value 'k' of type 'longstr'",
        "queue.declare",
    )


def test_an_empty_dead_letter_routing_key_is_a_key(
    channel: Channel, declare: Declare, dead: str, reject: Callable[[str], None], exchange: Declare
) -> None:
    letters = exchange("direct")
    channel.bind(dead, letters, "")
    source = declare("", letters)
    channel.publish("m", routing_key=source, headers={"CC": ["cc"]})
    reject(source)
    message = channel.arrival(dead)
    assert message["routing_key"] == ""
    assert "CC" not in message.properties["headers"]
