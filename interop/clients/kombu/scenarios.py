"""kombu over py-amqp in the common scenarios; where kombu has no word for something, its py-amqp channel is used."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import amqp
from harness import (
    CA,
    HOST,
    LARGE,
    OTHER_CA,
    PATIENCE,
    PORT,
    PREFIX,
    TLS_PORT,
    URL,
    control,
    fibonacci,
    main,
    same,
    until,
)
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu.mixins import ConsumerMixin

RAW = {"content_type": "application/octet-stream", "content_encoding": "binary"}


def connect(**options: Any) -> Connection:
    return Connection(URL, **options)


@contextlib.contextmanager
def channels(count: int = 1, **options: Any) -> Iterator[Any]:
    with connect(**options) as connection:
        opened = [connection.channel() for _ in range(count)]
        yield opened[0] if count == 1 else opened


def exclusive(channel: Any, **arguments: Any) -> str:
    declared = channel.queue_declare("", exclusive=True, auto_delete=False, arguments=arguments or None)
    return str(declared.queue)


def send(channel: Any, key: str, body: bytes, exchange: str = "", **properties: Any) -> None:
    Producer(channel).publish(
        body, exchange=exchange, routing_key=key, **({"delivery_mode": 1} | RAW | properties)
    )


def drain(connection: Any, condition: Callable[[], Any], what: str) -> None:
    """Serve the connection until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        with contextlib.suppress(socket.timeout):
            connection.drain_events(timeout=0.05)


def consume(channel: Any, queue: str, no_ack: bool = False) -> list[Message]:
    """A list that deliveries are added to while the connection is drained."""
    found: list[Message] = []
    named = Queue(queue, channel=channel, no_declare=True)
    Consumer(channel, [named], on_message=found.append, no_ack=no_ack, accept=None).consume()
    return found


def take(channel: Any, queue: str, count: int = 1) -> list[Message]:
    found: list[Message] = []
    named = Queue(queue, channel=channel, no_declare=True)
    with Consumer(channel, [named], on_message=found.append, no_ack=True):
        drain(channel.connection, lambda: len(found) >= count, f"{count} messages in {queue}")
    return found


def body(message: Message) -> bytes:
    content = message.body
    return content if isinstance(content, bytes) else bytes(content.encode())


def bodies(channel: Any, queue: str, count: int) -> list[bytes]:
    return [body(message) for message in take(channel, queue, count)]


def ready(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def hello() -> None:
    name = f"{PREFIX}-hello"
    with connect() as connection:
        with connection.SimpleQueue(name) as queue:
            queue.put({"hello": "world"})
            message = queue.get(timeout=PATIENCE)
            same(message.payload, {"hello": "world"})
            message.ack()
        connection.channel().queue_delete(name)


def work_queues() -> None:
    with channels(2) as (first, second):
        queue = exclusive(first)
        for channel in (first, second):
            channel.basic_qos(0, 1, False)
        of_first, of_second = consume(first, queue), consume(second, queue)
        for task in (b"one", b"two"):
            send(second, queue, task, delivery_mode=2)
        drain(second.connection, lambda: of_first and of_second, "a task for each")
        same([body(of_first[0]), body(of_second[0])], [b"one", b"two"])
        first.close()
        of_second[0].ack()
        drain(second.connection, lambda: len(of_second) == 2, "the task of the closed channel")
        again = of_second[1]
        same((body(again), again.delivery_info["redelivered"]), (b"one", True))
        again.ack()


def routed(kind: str, bindings: list[list[str]], keys: list[str], expected: list[list[bytes]]) -> None:
    with channels() as channel:
        exchange = Exchange(f"{PREFIX}-{kind}", kind, channel=channel, durable=False, auto_delete=True)
        exchange.declare()
        queues = [exclusive(channel) for _ in bindings]
        for queue, patterns in zip(queues, bindings, strict=True):
            for pattern in patterns:
                Queue(queue, channel=channel).bind_to(exchange, pattern)
        for key in keys:
            send(channel, key, key.encode(), exchange.name)
        same(
            [bodies(channel, queue, len(each)) for queue, each in zip(queues, expected, strict=True)],
            expected,
        )
        same([ready(channel, queue) for queue in queues], [0] * len(queues))


def publish_subscribe() -> None:
    routed("fanout", [[""], [""]], ["news"], [[b"news"], [b"news"]])


def routing() -> None:
    keys = ["info", "error", "debug", "warning"]
    expected = [[b"error"], [b"info", b"error", b"warning"]]
    routed("direct", [["error"], ["info", "warning", "error"]], keys, expected)


def topics() -> None:
    keys = ["kern.critical", "cron.info", "cron.critical", "kern.a.b"]
    expected = [[b"kern.critical"], [b"kern.critical", b"cron.critical"], [key.encode() for key in keys]]
    routed("topic", [["kern.*"], ["*.critical"], ["#"]], keys, expected)


def rpc() -> None:
    with channels(2) as (server, client):
        queue = exclusive(server)

        def answer(message: Message) -> None:
            result = str(fibonacci(int(body(message)))).encode()
            asked = message.properties
            send(server, asked["reply_to"], result, correlation_id=asked["correlation_id"])
            message.ack()

        Consumer(server, [Queue(queue, no_declare=True)], on_message=answer).consume()
        for callback in (exclusive(client), "amq.rabbitmq.reply-to"):
            answers = consume(client, callback, no_ack=True)
            for n in ("5", "10"):
                send(client, queue, n.encode(), reply_to=callback, correlation_id=n)
            drain(client.connection, lambda found=answers: len(found) == 2, "two answers")
            same(
                {each.properties["correlation_id"]: body(each) for each in answers}, {"5": b"5", "10": b"55"}
            )


def confirms() -> str:
    with channels(transport_options={"confirm_publish": True}) as channel:
        queue = exclusive(channel)
        for _ in range(50):
            send(channel, queue, b"single")
        same(ready(channel, queue), 50)
    return "one by one: with confirm_publish each publish waits for its confirm"


def confirm_window() -> str:
    """py-amqp alone: events of basic.ack instead of waiting for each."""
    connection = amqp.Connection(f"{HOST}:{PORT}", confirm_publish=False)
    connection.connect()
    channel = connection.channel()
    queue = f"{PREFIX}-window"
    channel.queue_declare(queue, durable=True, auto_delete=False)
    channel.confirm_select()
    confirmed = 0

    def acked(tag: int, multiple: bool) -> None:
        nonlocal confirmed
        confirmed = tag if multiple else confirmed + 1

    channel.events["basic_ack"].add(acked)
    for published in range(1000):
        drain(connection, lambda published=published: published - confirmed < 100, "room in the window")
        channel.basic_publish(amqp.Message(b"x" * 100, delivery_mode=2), routing_key=queue)
    drain(connection, lambda: confirmed == 1000, "the last confirms")
    same(ready(channel, queue), 1000)
    channel.queue_delete(queue)
    connection.close()
    return "py-amqp's events, at most 100 unconfirmed"


def mandatory() -> str:
    returned: list[tuple[Any, ...]] = []
    events: list[str] = []
    with connect() as connection:
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(lambda *_: events.append("ack"))
        producer = Producer(channel, on_return=lambda *back: (returned.append(back), events.append("return")))
        queue = exclusive(channel)
        producer.publish(b"routed", routing_key=queue, mandatory=True, **RAW)
        drain(connection, lambda: events, "a confirm")
        producer.publish(b"lost", routing_key=f"{PREFIX}-nowhere", mandatory=True, message_id="m1", **RAW)
        drain(connection, lambda: len(events) == 3, "the return and its confirm")
        same(events, ["ack", "return", "ack"])
        ((error, _, _, message),) = returned
        same((error.reply_code, error.reply_text), (312, "NO_ROUTE"))
        same((message.body, message.properties["message_id"]), (b"lost", "m1"))
    return type(error).__name__


def prefetch() -> None:
    with channels(2) as (channel, look):
        queue = exclusive(channel)
        for number in range(10):
            send(look, queue, str(number).encode())
        until(lambda: ready(look, queue) == 10, "ten messages")
        channel.basic_qos(0, 3, False)
        held = consume(channel, queue)
        for count in (3, 6, 9, 10):
            drain(channel.connection, lambda count=count: len(held) == count, f"{count} deliveries")
            same(ready(look, queue), 10 - count)
            held[-1].ack(multiple=True)
        channel.close()
        same(ready(look, queue), 0)


def got(channel: Any, queue: str) -> Message:
    return until(lambda: Queue(queue, channel=channel).get(no_ack=False), f"a message in {queue}")


def death(message: Message) -> dict[str, Any]:
    return dict(message.headers["x-death"][0])


def dead_letter() -> None:
    with channels() as channel:
        grave = exclusive(channel)
        queue = exclusive(channel, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
        for number in (b"0", b"1"):
            send(channel, queue, number)
        got(channel, queue).requeue()
        again = got(channel, queue)
        same((again.delivery_info["redelivered"], body(again)), (True, b"0"))
        got(channel, queue).reject()
        again.reject()
        for message in take(channel, grave, 2):
            found = death(message)
            same((found["reason"], found["queue"], found["count"]), ("rejected", queue, 1))


def priorities() -> None:
    with channels() as channel:
        queue = exclusive(channel, **{"x-max-priority": 10})
        for priority in (1, 5, 9, 3):
            send(channel, queue, str(priority).encode(), priority=priority)
        until(lambda: ready(channel, queue) == 4, "four messages")
        same(bodies(channel, queue, 4), [b"9", b"5", b"3", b"1"])


def ttl() -> None:
    with channels() as channel:
        grave = exclusive(channel)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
        by_message, by_queue = exclusive(channel, **dead), exclusive(channel, **dead, **{"x-message-ttl": 40})
        send(channel, by_message, b"message", expiration=0.04)
        send(channel, by_queue, b"queue")
        found = {body(message): death(message)["reason"] for message in take(channel, grave, 2)}
        same(found, {b"message": "expired", b"queue": "expired"})
        send(channel, by_message, b"stays")
        same(bodies(channel, by_message, 1), [b"stays"])


def large_and_empty() -> None:
    with channels() as channel:
        queue = exclusive(channel)
        send(channel, queue, LARGE)
        send(channel, queue, b"")
        received = bodies(channel, queue, 2)
        same((received[0] == LARGE, received[1]), (True, b""))


VALUES = {
    "bool": True,
    "int": -(2**31),
    "long": 2**62,
    "double": 2.5,
    "decimal": Decimal("12.34"),
    "string": "text é",
    "timestamp": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - py-amqp's timestamps have no zone
    "table": {"nested": {"deep": 1}},
    "array": [1, "two", [3], {"four": 4}],
    "void": None,
}


def table_values() -> str:
    with channels() as channel:
        queue = exclusive(channel)
        send(channel, queue, b"", headers=VALUES)
        same(take(channel, queue)[0].headers, VALUES)
    return f"{', '.join(VALUES)}; it sends octets as strings"


def headers_to_the_byte() -> str:
    relay = control("relay")
    with Connection(URL.replace(str(PORT), relay)) as connection:
        channel = connection.channel()
        queue = exclusive(channel)
        send(
            channel,
            queue,
            b"body",
            headers=VALUES,
            delivery_mode=2,
            priority=3,
            correlation_id="correlation",
            reply_to="reply",
            expiration=60,
            message_id="id",
            timestamp=1700000000,
            type="kind",
            user_id="guest",
            app_id="app",
        )
        take(channel, queue)
        return f"{control('headers', relay)} header"


def consumer_cancel() -> str:
    with channels(2) as (channel, other):
        queue = exclusive(channel)
        told: list[str] = []
        channel.basic_consume(queue, callback=lambda _: None, on_cancel=told.append, consumer_tag="doomed")
        other.queue_delete(queue)
        try:
            drain(channel.connection, lambda: told, "the notification")
        except amqp.exceptions.ConsumerCancelled as error:
            return type(error).__name__
        same(told, ["doomed"])
    return "on_cancel"


def blocked() -> str:
    told: list[str] = []
    options = {"on_blocked": told.append, "on_unblocked": lambda: told.append("unblocked")}
    with channels(transport_options=options) as channel:
        queue = exclusive(channel)
        control("alarm", "on")
        send(channel, queue, b"x")
        drain(channel.connection, lambda: told, "connection.blocked")
        control("alarm", "off")
        drain(channel.connection, lambda: len(told) == 2, "connection.unblocked")
        same(told[1], "unblocked")
    return str(told[0])


class Listener(ConsumerMixin):
    """kombu's own loop: it connects, declares and consumes again when the connection is lost."""

    def __init__(self, connection: Connection, queue: Queue, seen: list[bytes]) -> None:
        self.connection = connection
        self.queue = queue
        self.seen = seen
        self.restarted = False

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        channel.basic_qos(0, 1, False)
        return [consumer(queues=[self.queue], on_message=self.on_message)]

    def on_message(self, message: Message) -> None:
        if not self.restarted:
            same(body(message), b"before")  # and not acknowledged
            control("restart")
            self.restarted = True
            return
        self.seen.append(body(message))
        message.ack()
        if len(self.seen) == 1:
            publish_safely(self.queue, b"after")
        self.should_stop = len(self.seen) == 2


def publish_safely(queue: Queue, content: bytes) -> None:
    """Publish with kombu's own retries on a connection of its own."""
    with connect(transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        policy = {"max_retries": 50, "interval_start": 0.1, "interval_step": 0.1}
        producer.publish(
            content,
            exchange=queue.exchange,
            routing_key="key",
            declare=[queue],
            retry=True,
            retry_policy=policy,
            delivery_mode=2,
            **RAW,
        )


def recovery() -> str:
    name = f"{PREFIX}-recovery"
    queue = Queue(name, Exchange(name, "direct"), "key")
    seen: list[bytes] = []
    publish_safely(queue, b"before")
    with connect() as connection:
        Listener(connection, queue, seen).run()
    with channels() as channel:
        channel.queue_delete(name)
        channel.exchange_delete(name)
    same(seen, [b"before", b"after"])
    return "by the library (ConsumerMixin): connection, topology and consumer"


def heartbeats() -> str:
    relay = control("relay")
    connection = Connection(URL.replace(str(PORT), relay), heartbeat=1)
    connection.connect()

    def live(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.heartbeat_check(rate=2)
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=0.25)

    live(3.5)
    control("freeze", relay)
    try:
        live(PATIENCE)
    except (ConnectionError, amqp.exceptions.ConnectionForced, OSError) as error:
        control("dropped", relay)
        return f"{type(error).__name__}: {error}"
    raise AssertionError("the silence was not noticed")


def tls() -> str:
    def over(authority: str) -> Connection:
        options = {"ca_certs": authority, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "localhost"}
        return Connection(f"amqp://guest:guest@{HOST}:{TLS_PORT}//", ssl=options)

    with over(CA) as connection:
        channel = connection.channel()
        queue = exclusive(channel)
        send(channel, queue, b"secret")
        same(bodies(channel, queue, 1), [b"secret"])
    return type(error_of(over(OTHER_CA).connect)).__name__


def error_of(work: Callable[[], Any]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("it was not refused")


def unknown_tag(channel: Any) -> None:
    channel.basic_ack(42)
    drain(channel.connection, lambda: False, "the channel's error")


def errors() -> str:
    name = f"{PREFIX}-errors"
    with connect() as connection, connect() as other:
        connection.channel().queue_declare(name, exclusive=True, auto_delete=False)
        names = set()
        attempts: list[tuple[int, Any, Callable[[Any], Any]]] = [
            (404, connection, lambda channel: channel.queue_declare(f"{PREFIX}-missing", passive=True)),
            (406, connection, lambda channel: channel.queue_declare(name, exclusive=True, auto_delete=True)),
            (406, connection, unknown_tag),
            (405, other, lambda channel: channel.queue_declare(name, passive=True)),
        ]
        for code, opener, work in attempts:
            channel = opener.channel()
            error = error_of(lambda work=work, channel=channel: work(channel))
            same(getattr(error, "reply_code", None), code, repr(error))
            names.add(type(error).__name__)
    for url, code in ((URL.replace("guest:guest", "guest:wrong"), 403), (URL + "missing", 530)):
        error = error_of(Connection(url).connect)
        same(getattr(error, "reply_code", None), code, repr(error))
        names.add(type(error).__name__)
    return ", ".join(sorted(names))


if __name__ == "__main__":
    main(
        {
            "tutorial-1-hello": hello,
            "tutorial-2-work-queues": work_queues,
            "tutorial-3-publish-subscribe": publish_subscribe,
            "tutorial-4-routing": routing,
            "tutorial-5-topics": topics,
            "tutorial-6-rpc": rpc,
            "tutorial-7-confirms": confirms,
            "confirm-window": confirm_window,
            "mandatory-return": mandatory,
            "prefetch-multiple-ack": prefetch,
            "nack-dead-letter": dead_letter,
            "priorities": priorities,
            "ttl": ttl,
            "large-and-empty": large_and_empty,
            "table-values": table_values,
            "headers-to-the-byte": headers_to_the_byte,
            "consumer-cancel": consumer_cancel,
            "connection-blocked": blocked,
            "recovery": recovery,
            "heartbeats": heartbeats,
            "tls": tls,
            "errors": errors,
        }
    )
