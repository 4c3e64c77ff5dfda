"""Times, limits, priorities and dead letters on one queue: who comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client, Reply, eventually
from .conftest import Connect, Names


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


@pytest.fixture
def declare(channel: Channel, names: Names, dead: str) -> Callable[..., str]:
    """Declare a queue whose dead letters go to `dead`."""

    def declare(flags: dict[str, bool] | None = None, **arguments: Any) -> str:
        given: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        given |= {name.replace("_", "-"): value for name, value in arguments.items()}
        return channel.declare(names.queue("source"), arguments=given, **(flags or {}))

    return declare


@pytest.fixture
def let_pass(channel: Channel, names: Names) -> Callable[[int], None]:
    """Wait until whatever has been published so far with a TTL of so many milliseconds has expired."""

    def let_pass(ttl: int) -> None:
        over = channel.declare(names.queue("over"))
        arguments = {"x-message-ttl": ttl, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": over}
        channel.publish("tick", routing_key=channel.declare(names.queue("clock"), arguments=arguments))
        channel.arrival(over)

    return let_pass


def reasons(message: Reply) -> list[tuple[str, str]]:
    """Queue and reason of each death, the newest first."""
    deaths = message.properties["headers"]["x-death"].value
    return [(death.value["queue"].value, death.value["reason"].value) for death in deaths]


def reason(message: Reply) -> str:
    return reasons(message)[0][1]


# times and limits


@pytest.mark.parametrize(
    "limit",
    [{"x_max_length": 0}, {"x_max_length_bytes": 0}, {"x_max_length": 0, "x_overflow": "reject-publish-dlx"}],
    ids=str,
)
def test_where_there_is_neither_room_nor_time_a_message_dies_for_want_of_room(
    channel: Channel, declare: Callable[..., str], dead: str, limit: dict[str, Any]
) -> None:
    queue = declare(x_message_ttl=0, **limit)
    channel.publish("m", routing_key=queue)
    assert reason(channel.arrival(dead)) == "maxlen"


def test_where_there_is_neither_room_nor_time_a_requeued_message_dies_for_want_of_room(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_message_ttl=0, x_max_length=0)
    consumer = client.channel()
    consumer.consume(queue)
    channel.publish("m", routing_key=queue)
    tag = consumer.expect("basic.deliver")["delivery_tag"]
    consumer.send("basic.reject", delivery_tag=tag, requeue=True)
    assert reason(channel.arrival(dead)) == "maxlen"


def test_a_message_given_back_to_a_full_queue_after_its_time_dies_for_want_of_room(
    channel: Channel, declare: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    queue = declare(x_max_length=1)
    channel.consume(queue)
    channel.publish("a", routing_key=queue, expiration="50")
    tag = channel.expect("basic.deliver")["delivery_tag"]
    channel.call("basic.cancel", consumer_tag="c")
    channel.publish("b", routing_key=queue)
    let_pass(50)
    channel.send("basic.reject", delivery_tag=tag, requeue=True)
    message = channel.arrival(dead)
    assert (message.body, reason(message)) == (b"a", "maxlen")
    assert channel.drain(queue) == ["b"]


def test_what_expired_behind_a_longer_one_still_takes_room(
    channel: Channel, declare: Callable[..., str], dead: str, let_pass: Callable[[int], None]
) -> None:
    """The head is dropped for a new message; then the expired one is the head, and expires."""
    queue = declare(x_max_length=2)
    channel.publish("long", routing_key=queue, expiration="60000")
    channel.publish("short", routing_key=queue, expiration="50")
    let_pass(50)
    channel.publish("new", routing_key=queue)
    found = [channel.arrival(dead) for _ in range(2)]
    assert [(message.body, reason(message)) for message in found] == [
        (b"long", "maxlen"),
        (b"short", "expired"),
    ]
    assert channel.drain(queue) == ["new"]


def test_what_expired_behind_a_longer_one_still_takes_room_in_a_queue_that_refuses(
    channel: Channel, client: Client, declare: Callable[..., str], let_pass: Callable[[int], None]
) -> None:
    publisher = client.channel()
    publisher.call("confirm.select")
    queue = declare(x_max_length=2, x_overflow="reject-publish")
    publisher.publish("long", routing_key=queue, expiration="60000")
    publisher.publish("short", routing_key=queue, expiration="50")
    assert publisher.outcomes(2) == ["ack", "ack"]
    let_pass(50)
    publisher.publish("new", routing_key=queue)
    assert publisher.outcomes(1, 3) == ["nack"]
    assert channel.drain(queue) == ["long"]


def test_a_limit_drops_what_would_have_expired_later(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length=2, x_message_ttl=200)
    with channel.client.at_once():
        for body in "abcd":
            channel.publish(body, routing_key=queue)
    found = [channel.arrival(dead) for _ in range(4)]
    assert [(message.body, reason(message)) for message in found] == [
        (b"a", "maxlen"),
        (b"b", "maxlen"),
        (b"c", "expired"),
        (b"d", "expired"),
    ]


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish", "reject-publish-dlx"])
def test_messages_that_expire_make_room(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str, overflow: str
) -> None:
    publisher = client.channel()
    publisher.call("confirm.select")
    queue = declare(x_max_length=1, x_message_ttl=50, x_overflow=overflow)
    for number in (1, 2, 3):
        publisher.publish(str(number), routing_key=queue)
        assert publisher.outcomes(1, number) == ["ack"]
        message = channel.arrival(dead)
        assert (message.body, reason(message)) == (str(number).encode(), "expired")


def test_a_message_that_may_not_wait_takes_no_room(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    publisher = client.channel()
    publisher.call("confirm.select")
    queue = declare(x_max_length=1, x_message_ttl=0, x_overflow="reject-publish")
    for number in (1, 2, 3):
        publisher.publish("m", routing_key=queue)
        assert publisher.outcomes(1, number) == ["ack"]
        assert reason(channel.arrival(dead)) == "expired"


# times and priorities


def test_of_messages_that_may_not_wait_priority_saves_none(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_priority=5, x_message_ttl=0)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    for body, priority in (("a", 0), ("b", 5), ("c", 1)):
        channel.publish(body, routing_key=queue, priority=priority)
    assert consumer.expect("basic.deliver").body == b"a"
    assert channel.arrivals(dead, 2) == ["b", "c"]


def test_a_limit_with_priorities_and_times_drops_by_priority_and_expires_by_priority(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_priority=5, x_max_length=3, x_message_ttl=200)
    with channel.client.at_once():
        for body, priority in (("a", 0), ("b", 1), ("c", 5), ("d", 2)):
            channel.publish(body, routing_key=queue, priority=priority)
    found = [channel.arrival(dead) for _ in range(4)]
    assert [(message.body, reason(message)) for message in found] == [
        (b"c", "maxlen"),
        (b"d", "expired"),
        (b"b", "expired"),
        (b"a", "expired"),
    ]


# getting


@pytest.mark.parametrize("arguments", [{"x_message_ttl": 0}, {"x_max_length": 0}], ids=str)
def test_there_is_never_anything_to_get_where_nothing_may_stay(
    channel: Channel, declare: Callable[..., str], dead: str, arguments: dict[str, int]
) -> None:
    queue = declare(**arguments)
    for number in range(20):
        channel.publish(str(number), routing_key=queue)
        assert channel.get(queue) is None
    assert channel.arrivals(dead, 20) == [str(number) for number in range(20)]


def test_a_message_is_either_got_or_dead_however_close_its_time(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    """Which of both is a matter of luck; that it is one of both is not."""
    queue = declare(x_message_ttl=20)
    channel.call("confirm.select")
    published = [str(number) for number in range(60)]
    got: list[str] = []
    for number, body in enumerate(published, 1):
        channel.publish(body, routing_key=queue)
        channel.outcomes(1, number)
        if number % 3 == 0 and (message := channel.get(queue)) is not None:
            got.append(message.body.decode())
    died = channel.arrivals(dead, len(published) - len(got))
    assert sorted(got + died, key=int) == published
    assert got == sorted(got, key=int)
    assert died == sorted(died, key=int)
    assert (channel.counts(queue), channel.counts(dead)) == ((0, 0), (0, 0))


# consumers


def test_the_single_active_consumer_is_the_one_who_saves_a_message(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_single_active_consumer=True, x_message_ttl=0)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    for tag in ("active", "waiting"):
        consumer.consume(queue, tag)
    for body in "ab":
        channel.publish(body, routing_key=queue)
    assert consumer.expect("basic.deliver", consumer_tag="active").body == b"a"
    assert channel.arrivals(dead, 1) == ["b"]
    consumer.call("basic.cancel", consumer_tag="active")
    channel.publish("c", routing_key=queue)
    assert consumer.expect("basic.deliver", consumer_tag="waiting").body == b"c"


def test_a_consumer_of_lower_priority_saves_a_message_if_the_higher_is_full(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_message_ttl=0)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue, "low", arguments={"x-priority": 1})
    consumer.consume(queue, "high", arguments={"x-priority": 2})
    for body in "abc":
        channel.publish(body, routing_key=queue)
    found = [(delivery["consumer_tag"], delivery.body) for delivery in consumer.deliveries(2)]
    assert found == [("high", b"a"), ("low", b"b")]
    assert channel.arrivals(dead, 1) == ["c"]


# dead letters that die again


def test_dead_letters_of_a_full_queue_fill_the_next(
    channel: Channel, declare: Callable[..., str], names: Names, dead: str
) -> None:
    second = declare(x_max_length=2)
    first = declare(x_max_length=1, x_dead_letter_routing_key=second)
    for body in "abcdef":
        channel.publish(body, routing_key=first)
    found = [channel.arrival(dead) for _ in range(3)]
    assert [message.body for message in found] == [b"a", b"b", b"c"]
    assert [reasons(message) for message in found] == [[(second, "maxlen"), (first, "maxlen")]] * 3
    assert (channel.drain(first), channel.drain(second)) == (["f"], ["d", "e"])


def test_dead_letters_that_a_full_queue_refuses_die_again_if_that_is_asked_for(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    second = declare(x_max_length=1, x_overflow="reject-publish-dlx")
    first = declare(x_max_length=1, x_dead_letter_routing_key=second)
    for body in "abcd":
        channel.publish(body, routing_key=first)
    found = [channel.arrival(dead) for _ in range(2)]
    assert [(message.body, reasons(message)) for message in found] == [
        (b"b", [(second, "maxlen"), (first, "maxlen")]),
        (b"c", [(second, "maxlen"), (first, "maxlen")]),
    ]
    assert (channel.drain(first), channel.drain(second)) == (["d"], ["a"])


def test_two_full_queues_do_not_hand_a_message_to_and_fro(
    channel: Channel, names: Names, declare: Callable[..., str]
) -> None:
    first = names.queue("first")
    second = declare(x_max_length=1, x_dead_letter_routing_key=first)
    arguments = {"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": second}
    channel.declare(first, arguments=arguments)
    for body in "abcd":
        channel.publish(body, routing_key=first)
    channel.counts_become(second, 1, 0)
    eventually(lambda: body_at_the_head(channel, second), "c")
    assert (channel.drain(first), channel.drain(second)) == (["d"], ["c"])


def body_at_the_head(channel: Channel, queue: str) -> str:
    """Look at the first message, and give it back; nothing if there is none."""
    message = channel.get(queue, no_ack=False)
    if message is None:
        return ""
    channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=True)
    return message.body.decode()


def test_a_retry_queue_brings_a_refused_message_back_after_its_time(
    channel: Channel, client: Client, names: Names
) -> None:
    """The usual way to try again later: refused, waited, and counted."""
    work, retry = names.queue("work"), names.queue("retry")
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 50}
    channel.declare(retry, arguments=back)
    channel.declare(work, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry})
    worker = client.channel()
    worker.consume(work)
    channel.publish("m", routing_key=work, message_id="i", delivery_mode=2)
    for tries in range(4):
        delivery = worker.expect("basic.deliver", redelivered=False, routing_key=work)
        assert delivery.properties["message_id"] == "i"
        deaths = delivery.properties["headers"]["x-death"].value if tries else []
        assert [
            (death.value["queue"].value, death.value["reason"].value, death.value["count"].value)
            for death in deaths
        ] == [(retry, "expired", tries), (work, "rejected", tries)][: 2 * min(tries, 1)]
        worker.send("basic.reject", delivery_tag=delivery["delivery_tag"])


def test_a_retry_queue_with_a_time_for_each_message(channel: Channel, client: Client, names: Names) -> None:
    work = channel.declare(names.queue("work"))
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work}
    retry = channel.declare(names.queue("retry"), arguments=back)
    worker = client.channel()
    worker.consume(work, no_ack=True)
    for body, expiration in (("a", "40"), ("b", "80"), ("c", "120")):
        channel.publish(body, routing_key=retry, expiration=expiration)
    found = worker.deliveries(3)
    assert [delivery.body for delivery in found] == [b"a", b"b", b"c"]
    assert [
        delivery.properties["headers"]["x-death"].value[0].value["original-expiration"].value
        for delivery in found
    ] == ["40", "80", "120"]


# queues that go


@pytest.mark.parametrize("how", ["delete", "exclusive", "auto-delete", "expires"])
def test_messages_of_a_queue_that_goes_are_no_dead_letters(
    channel: Channel, connect: Connect, names: Names, declare: Callable[..., str], dead: str, how: str
) -> None:
    owner = connect()
    other = owner.channel()
    arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    if how == "expires":
        arguments["x-expires"] = 50
    flags = {"exclusive": how == "exclusive", "auto_delete": how == "auto-delete"}
    queue = other.declare(names.queue("going"), arguments=arguments, **flags)
    for body in "abc":
        channel.publish(body, routing_key=queue)
    channel.hears_nothing()
    if how == "delete":
        other.call("queue.delete", queue=queue)
    elif how == "auto-delete":
        other.call("basic.qos", prefetch_count=1)
        other.consume(queue)
        other.expect("basic.deliver")
        other.close()
    elif how == "exclusive":
        owner.close()
    eventually(lambda: lives(channel, queue), wanted=False)
    witness = declare(x_message_ttl=0)
    channel.publish("later", routing_key=witness)
    assert channel.arrivals(dead, 1) == ["later"]
    assert channel.counts(dead) == (0, 0)


def lives(channel: Channel, queue: str) -> bool:
    channel.send("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    reply = channel.receive()
    if reply.name == "channel.close":
        channel.send("channel.close-ok")
        channel.open()
        return bool(reply["reply_code"] == 405)
    return True


# transactions and alternate exchanges


def test_a_transaction_publishes_into_times_limits_and_priorities(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_priority=5, x_max_length=2, x_message_ttl=200)
    tx = client.channel()
    tx.call("tx.select")
    for body, priority in (("a", 0), ("b", 5), ("c", 1)):
        tx.publish(body, routing_key=queue, priority=priority)
    tx.hears_nothing()
    assert channel.counts(dead) == (0, 0)
    assert tx.call("tx.commit") == {}
    found = [channel.arrival(dead) for _ in range(3)]
    assert [(message.body, reason(message)) for message in found] == [
        (b"b", "maxlen"),
        (b"c", "expired"),
        (b"a", "expired"),
    ]


def test_dead_letters_go_through_the_alternate_exchange_of_their_exchange_only(
    channel: Channel,
    names: Names,
    exchange: Callable[..., str],
    dead: str,
) -> None:
    """A publish that the alternate exchange took is remembered with the exchange it was published to."""
    other = exchange("fanout")
    first = exchange("direct", arguments={"alternate-exchange": other})
    arguments = {"x-dead-letter-exchange": first, "x-dead-letter-routing-key": "dead", "x-message-ttl": 50}
    source = channel.declare(names.queue("source"), arguments=arguments)
    channel.bind(source, other)
    channel.bind(dead, first, "dead")
    channel.publish("m", exchange=first, routing_key="unknown")
    message = channel.arrival(dead)
    death = message.properties["headers"]["x-death"].value[0].value
    assert (death["exchange"].value, [key.value for key in death["routing-keys"].value]) == (
        first,
        ["unknown"],
    )
    assert (message["exchange"], message["routing_key"]) == (first, "dead")


def test_a_mandatory_message_that_dies_at_once_is_not_returned(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    publisher = client.channel()
    publisher.call("confirm.select")
    for number, arguments in enumerate(({"x_message_ttl": 0}, {"x_max_length": 0}), 1):
        publisher.publish("m", routing_key=declare(**arguments), mandatory=True)
        assert publisher.outcomes(1, number) == ["ack"]
        assert channel.arrivals(dead, 1) == ["m"]
    publisher.hears_nothing(dead)


def test_all_at_once_in_a_burst_every_message_is_accounted_for(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    """Two hundred messages of mixed priorities through a queue of ten with a consumer that refuses half."""
    queue = declare(x_max_priority=3, x_max_length=10)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=5)
    consumer.consume(queue)
    channel.call("confirm.select")
    for number in range(200):
        channel.publish(str(number), routing_key=queue, priority=number % 5)
    assert channel.outcomes(200) == ["ack"] * 200
    acked: list[int] = []
    refused: list[int] = []
    while channel.counts(queue)[0] or len(acked) + len(refused) < 15:
        delivery = consumer.expect("basic.deliver")
        keep = len(acked) <= len(refused)
        (acked if keep else refused).append(int(delivery.body))
        consumer.send("basic.ack" if keep else "basic.reject", delivery_tag=delivery["delivery_tag"])
    died = [channel.arrival(dead) for _ in range(200 - len(acked))]
    by_reason = {why: [int(m.body) for m in died if reason(m) == why] for why in ("rejected", "maxlen")}
    assert by_reason["rejected"] == refused
    assert sorted([*acked, *refused, *by_reason["maxlen"]]) == list(range(200))
    assert channel.counts(dead) == (0, 0)
