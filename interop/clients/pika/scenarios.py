"""pika's BlockingConnection in the common scenarios."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
from harness import (
    CA,
    HOST,
    LARGE,
    OTHER_CA,
    PATIENCE,
    PORT,
    PREFIX,
    TLS_PORT,
    control,
    fibonacci,
    main,
    same,
    until,
)
from pika import BasicProperties, BlockingConnection, ConnectionParameters, DeliveryMode
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

PERSISTENT = BasicProperties(delivery_mode=DeliveryMode.Persistent)


def connect(**changes: Any) -> BlockingConnection:
    return BlockingConnection(ConnectionParameters(**({"host": HOST, "port": PORT} | changes)))


@contextlib.contextmanager
def channels(count: int = 1) -> Iterator[Any]:
    with connect() as connection:
        opened = [connection.channel() for _ in range(count)]
        yield opened[0] if count == 1 else opened


def exclusive(channel: BlockingChannel, **arguments: Any) -> str:
    return str(channel.queue_declare("", exclusive=True, arguments=arguments or None).method.queue)


def take(channel: BlockingChannel, queue: str, count: int = 1) -> list[tuple[Any, BasicProperties, bytes]]:
    """The next messages of a consumer, acknowledged by themselves."""
    found = []
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE):
        assert method is not None, f"{len(found)} of {count} messages arrived"
        found.append((method, properties, body))
        if len(found) == count:
            break
    channel.cancel()
    return found


def bodies(channel: BlockingChannel, queue: str, count: int) -> list[bytes]:
    return [body for _, _, body in take(channel, queue, count)]


def ready(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def hello() -> None:
    with channels() as channel:
        queue = exclusive(channel)
        channel.basic_publish("", queue, b"Hello World!")
        same(bodies(channel, queue, 1), [b"Hello World!"])


def work_queues() -> None:
    with connect() as connection:
        first, second = connection.channel(), connection.channel()
        queue = exclusive(first)
        seen: list[tuple[str, Any, bytes]] = []
        for name, channel in (("first", first), ("second", second)):
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(
                queue, lambda _, method, __, body, name=name: seen.append((name, method, body))
            )
        for task in (b"one", b"two"):
            second.basic_publish("", queue, task, PERSISTENT)
        wait_for(connection, lambda: len(seen) == 2)
        same({(name, body) for name, _, body in seen}, {("first", b"one"), ("second", b"two")})
        first.close()
        second.basic_ack(next(method.delivery_tag for name, method, _ in seen if name == "second"))
        wait_for(connection, lambda: len(seen) == 3)
        name, method, body = seen[-1]
        same((name, method.redelivered, body), ("second", True, b"one"))
        second.basic_ack(method.delivery_tag)


def wait_for(connection: BlockingConnection, condition: Any) -> None:
    """Serve the connection until the condition holds."""

    def holds() -> Any:
        connection.process_data_events(0.05)
        return condition()

    until(holds, "what the consumers wait for")


def publish_subscribe() -> None:
    with channels() as channel:
        exchange = f"{PREFIX}-logs"
        channel.exchange_declare(exchange, "fanout", auto_delete=True)
        queues = [exclusive(channel), exclusive(channel)]
        for queue in queues:
            channel.queue_bind(queue, exchange)
        channel.basic_publish(exchange, "", b"news")
        same([bodies(channel, queue, 1) for queue in queues], [[b"news"]] * 2)


def routed(kind: str, bindings: list[list[str]], keys: list[str]) -> list[list[bytes]]:
    with channels() as channel:
        exchange = f"{PREFIX}-{kind}"
        channel.exchange_declare(exchange, kind, auto_delete=True)
        queues = [exclusive(channel) for _ in bindings]
        for queue, patterns in zip(queues, bindings, strict=True):
            for pattern in patterns:
                channel.queue_bind(queue, exchange, pattern)
        channel.confirm_delivery()
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())
        return [bodies(channel, queue, ready(channel, queue)) for queue in queues]


def routing() -> None:
    found = routed("direct", [["error"], ["info", "warning", "error"]], ["info", "error", "debug", "warning"])
    same(found, [[b"error"], [b"info", b"error", b"warning"]])


def topics() -> None:
    keys = ["kern.critical", "cron.info", "cron.critical", "kern.a.b"]
    found = routed("topic", [["kern.*"], ["*.critical"], ["#"]], keys)
    same(found, [[b"kern.critical"], [b"kern.critical", b"cron.critical"], [key.encode() for key in keys]])


def rpc() -> None:
    with channels(2) as (server, client):
        queue = exclusive(server)

        def answer(channel: BlockingChannel, method: Any, properties: BasicProperties, body: bytes) -> None:
            reply = BasicProperties(correlation_id=properties.correlation_id)
            channel.basic_publish("", properties.reply_to, str(fibonacci(int(body))).encode(), reply)
            channel.basic_ack(method.delivery_tag)

        server.basic_consume(queue, answer)
        for callback in (exclusive(client), "amq.rabbitmq.reply-to"):
            answers: dict[str, bytes] = {}
            client.basic_consume(
                callback,
                lambda _, __, properties, body, found=answers: found.update(
                    {properties.correlation_id: body}
                ),
                auto_ack=True,
            )
            for n in ("5", "10"):
                asked = BasicProperties(reply_to=callback, correlation_id=n)
                client.basic_publish("", queue, n.encode(), asked)
            wait_for(client.connection, lambda found=answers: len(found) == 2)
            same(answers, {"5": b"5", "10": b"55"})


def confirms() -> str:
    with channels() as channel:
        queue = exclusive(channel)
        channel.confirm_delivery()
        for number in range(50):
            channel.basic_publish("", queue, str(number).encode())
        same(ready(channel, queue), 50)
    return "one by one: BlockingConnection waits for each"


def confirm_window() -> str:
    """The window needs pika's asynchronous connection, as BlockingConnection waits for each."""
    queue, total, window = f"{PREFIX}-window", 1000, 100
    acked: set[int] = set()
    nacked: set[int] = set()
    published = 0
    most = 0

    def fill() -> None:
        nonlocal published, most
        while published < total and published - len(acked) < window:
            channel.basic_publish("", queue, b"x" * 100, PERSISTENT)
            published += 1
            most = max(most, published - len(acked))

    def confirmed(frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        settled = acked if isinstance(frame.method, pika.spec.Basic.Ack) else nacked
        settled.update(set(range(1, tag + 1)) - acked if multiple else {tag})
        fill()
        if len(acked) + len(nacked) == total:
            connection.close()

    def opened(_: Any) -> None:
        channel.queue_declare(
            queue, durable=True, callback=lambda _: channel.confirm_delivery(confirmed, start)
        )

    def start(_: Any) -> None:
        fill()

    def on_connected(connected: pika.SelectConnection) -> None:
        nonlocal channel
        channel = connected.channel(on_open_callback=opened)

    channel: Any = None
    connection = pika.SelectConnection(
        ConnectionParameters(HOST, PORT),
        on_open_callback=on_connected,
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
    )
    connection.ioloop.start()
    same((len(acked), len(nacked)), (total, 0))
    with channels() as check:
        same(ready(check, queue), total)
        check.queue_delete(queue)
    return f"SelectConnection, at most {most} unconfirmed"


def mandatory() -> None:
    with channels() as channel:
        queue = exclusive(channel)
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"routed", mandatory=True)
        try:
            channel.basic_publish(
                "", f"{PREFIX}-nowhere", b"lost", BasicProperties(message_id="m1"), mandatory=True
            )
        except UnroutableError as error:
            (returned,) = error.messages
            same((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
            same((returned.body, returned.properties.message_id), (b"lost", "m1"))
        else:
            raise AssertionError("an unroutable message was not returned")
        same(bodies(channel, queue, 1), [b"routed"])


def prefetch() -> None:
    with channels(2) as (channel, look):
        queue = exclusive(channel)
        channel.basic_qos(prefetch_count=3)
        tags: list[int] = []
        for number in range(10):
            look.basic_publish("", queue, str(number).encode())
        channel.basic_consume(queue, lambda _, method, __, ___: tags.append(method.delivery_tag))
        for held in (3, 6, 9, 10):
            wait_for(channel.connection, lambda held=held: len(tags) == held)
            same(ready(look, queue), 10 - held)
            channel.basic_ack(tags[-1], multiple=True)
        channel.cancel()
        same(ready(look, queue), 0)


def dead_letter() -> None:
    with channels() as channel:
        grave = exclusive(channel)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
        queue = exclusive(channel, **arguments)
        for number in range(2):
            channel.basic_publish("", queue, str(number).encode())
        method, _, _ = channel.basic_get(queue)
        channel.basic_nack(method.delivery_tag, requeue=True)
        method, _, body = until_there(channel, queue)
        same((method.redelivered, body), (True, b"0"))
        second, _, _ = channel.basic_get(queue)
        channel.basic_nack(second.delivery_tag, multiple=True, requeue=False)
        for _, properties, body in take(channel, grave, 2):
            death = properties.headers["x-death"][0]
            same((death["reason"], death["queue"], death["count"]), ("rejected", queue, 1), str(body))


def until_there(channel: BlockingChannel, queue: str) -> Any:
    """The first message of the queue, by basic.get, once there is one."""

    def got() -> Any:
        found = channel.basic_get(queue)
        return found if found[0] else None

    return until(got, f"a message in {queue}")


def priorities() -> None:
    with channels() as channel:
        queue = exclusive(channel, **{"x-max-priority": 10})
        for priority in (1, 5, 9, 3):
            channel.basic_publish("", queue, str(priority).encode(), BasicProperties(priority=priority))
        same(bodies(channel, queue, 4), [b"9", b"5", b"3", b"1"])


def ttl() -> None:
    with channels() as channel:
        grave = exclusive(channel)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
        by_message, by_queue = exclusive(channel, **dead), exclusive(channel, **dead, **{"x-message-ttl": 40})
        channel.basic_publish("", by_message, b"message", BasicProperties(expiration="40"))
        channel.basic_publish("", by_queue, b"queue")
        found = {
            body: properties.headers["x-death"][0]["reason"]
            for _, properties, body in take(channel, grave, 2)
        }
        same(found, {b"message": "expired", b"queue": "expired"})
        channel.basic_publish("", by_message, b"stays")
        same(bodies(channel, by_message, 1), [b"stays"])


def large_and_empty() -> None:
    with channels() as channel:
        queue = exclusive(channel)
        for body in (LARGE, b""):
            channel.basic_publish("", queue, body)
        received = bodies(channel, queue, 2)
        same(received[0] == LARGE, True)
        same(received[1], b"")


VALUES = {
    "bool": True,
    "int": -(2**31),
    "long": 2**62,
    "decimal": Decimal("12.34"),
    "string": "text é",
    "bytes": b"\x00\xff",
    "timestamp": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "table": {"nested": {"deep": 1}},
    "array": [1, "two", [3], {"four": 4}],
    "void": None,
}


def table_values() -> str:
    with channels() as channel:
        queue = exclusive(channel)
        channel.basic_publish("", queue, b"", BasicProperties(headers=VALUES))
        ((_, properties, _),) = take(channel, queue)
        received = dict(properties.headers)
        received["timestamp"] = received["timestamp"].replace(tzinfo=UTC)
        same(received, VALUES)
    return f"{', '.join(VALUES)}; it sends no floats"


def headers_to_the_byte() -> str:
    relay = int(control("relay"))
    properties = BasicProperties(
        "text/plain",
        "utf-8",
        VALUES,
        2,
        3,
        "correlation",
        "reply",
        "60000",
        "id",
        1700000000,
        "kind",
        "guest",
        "app",
    )
    with connect(port=relay) as connection:
        channel = connection.channel()
        queue = exclusive(channel)
        channel.basic_publish("", queue, b"body", properties)
        take(channel, queue)
        return f"{control('headers', relay)} header"


def consumer_cancel() -> None:
    with channels(2) as (channel, other):
        queue = exclusive(channel)
        told: list[Any] = []
        channel.add_on_cancel_callback(told.append)
        tag = channel.basic_consume(queue, lambda *_: None)
        other.queue_delete(queue)
        wait_for(channel.connection, lambda: told)
        same(told[0].method.consumer_tag, tag)


def blocked() -> str:
    told: list[str] = []
    with connect() as connection:
        connection.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
        channel = connection.channel()
        queue = exclusive(channel)
        control("alarm", "on")

        def publish() -> bool:
            channel.basic_publish("", queue, b"x")
            connection.process_data_events(0.1)
            return bool(told)

        until(publish, "connection.blocked")
        control("alarm", "off")
        wait_for(connection, lambda: len(told) == 2)
        same(told[1], "unblocked")
    return told[0]


def recovery() -> str:
    """pika leaves recovery to the program: a loop that connects, declares and consumes again."""
    exchange, queue = f"{PREFIX}-recovery", f"{PREFIX}-recovery"
    seen: list[bytes] = []

    def open_all() -> BlockingChannel:
        channel = connect(connection_attempts=50, retry_delay=0.1).channel()
        channel.exchange_declare(exchange, "direct", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, "key")
        channel.confirm_delivery()
        return channel

    channel = open_all()
    channel.basic_publish(exchange, "key", b"before", PERSISTENT)
    control("restart")
    try:
        channel.connection.process_data_events(5)
    except AMQPConnectionError:
        channel = open_all()
    else:
        raise AssertionError("the connection outlived the broker")
    channel.basic_publish(exchange, "key", b"after", PERSISTENT)
    seen = bodies(channel, queue, 2)
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    channel.connection.close()
    same(seen, [b"before", b"after"])
    return "by the program"


def heartbeats() -> str:
    relay = int(control("relay"))
    connection = connect(port=relay, heartbeat=1)
    channel = connection.channel()
    connection.process_data_events(3.5)
    same(channel.is_open, True)
    control("freeze", relay)
    try:
        connection.process_data_events(PATIENCE)
    except (AMQPHeartbeatTimeout, AMQPConnectionError) as error:
        control("dropped", relay)
        return type(error).__name__
    raise AssertionError("the silence was not noticed")


def tls() -> None:
    def options(authority: str) -> pika.SSLOptions:
        return pika.SSLOptions(ssl.create_default_context(cafile=authority), "localhost")

    with connect(port=TLS_PORT, ssl_options=options(CA)) as connection:
        channel = connection.channel()
        queue = exclusive(channel)
        channel.basic_publish("", queue, b"secret")
        same(bodies(channel, queue, 1), [b"secret"])
    try:
        connect(port=TLS_PORT, ssl_options=options(OTHER_CA))
    except (AMQPConnectionError, ssl.SSLError):
        return
    raise AssertionError("a broker of an unknown authority was trusted")


def errors() -> str:
    with connect() as connection, connect() as other:
        queue = f"{PREFIX}-errors"
        connection.channel().queue_declare(queue, exclusive=True)
        codes = []
        for spoil, opener in (
            (lambda channel: channel.queue_declare(f"{PREFIX}-missing", passive=True), connection),
            (lambda channel: channel.queue_declare(queue, exclusive=True, auto_delete=True), connection),
            (lambda channel: (channel.basic_ack(42), channel.queue_declare(queue, passive=True)), connection),
            (lambda channel: channel.queue_declare(queue, passive=True), other),
        ):
            try:
                spoil(opener.channel())
            except ChannelClosedByBroker as error:
                codes.append(error.reply_code)
        same(codes, [404, 406, 406, 405])
    try:
        connect(credentials=pika.PlainCredentials("guest", "wrong"))
    except (ProbableAuthenticationError, ConnectionClosedByBroker) as error:
        same("403" in str(error), True, str(error))
    try:
        connect(virtual_host="missing")
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        same("530" in str(error), True, str(error))
        return "ChannelClosedByBroker, ProbableAuthenticationError, " + type(error).__name__
    raise AssertionError("a missing vhost was opened")


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
