"""AMQP over TLS with real clients, on both event loops; who is not let in, and what the log says of it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pika
import pytest
from pika.exceptions import AMQPError, ConnectionClosedByBroker

from tests.conversations.client import Client
from tests.conversations.codec import METHOD, Frame, encode_method
from tests.server.blocking import PERSISTENT, Inbox, drain, wait_until
from tests.server.broker_process import PROTOCOL_HEADER
from tests.server.secure import (
    CLOSED,
    DEADLINE,
    REFUSED,
    SERVER_NAME,
    Authority,
    SecureBroker,
    StreamTransport,
    hide_uvloop,
)
from tests.server.target import RunningBroker

MIB = 1 << 20


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[SecureBroker]:
    with running(request.param, tmp_path_factory, authority) as secure:
        yield secure


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def hasty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[SecureBroker]:
    """One that does not wait for long: those that belong may be late where the machine is busy."""
    more = '[protocol]\nhandshake_timeout = "2s"'
    with running(request.param, tmp_path_factory, authority, more) as secure:
        yield secure


@contextlib.contextmanager
def running(
    loop: str, tmp_path_factory: pytest.TempPathFactory, authority: Authority, more: str = ""
) -> Iterator[SecureBroker]:
    directory = tmp_path_factory.mktemp(loop)
    with pytest.MonkeyPatch.context() as patch:
        if loop == "asyncio":
            patch.setenv("PYTHONPATH", hide_uvloop(directory / "hidden"))
        with SecureBroker(directory, authority, more=more) as secure:
            yield secure
            assert secure.process.stop() == 0


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


# -- clients that belong


def test_pika_publishes_and_consumes(broker: SecureBroker) -> None:
    bodies = [b"%d" % number for number in range(3000)]
    with broker.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for body in bodies:
            channel.basic_publish("", queue, body)
        assert Inbox(channel, queue, auto_ack=True).wait_for(len(bodies)) == bodies


def test_bodies_of_every_size_come_back_whole(broker: SecureBroker) -> None:
    sizes = [0, 1, 4095, 4096, 16383, 16384, 131064, 131065, 262144, MIB - 1, MIB, 5 * MIB]
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    with broker.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for body in bodies:
            channel.basic_publish("", queue, body)
        assert drain(channel, queue) == bodies


def test_persistent_messages_are_confirmed(broker: SecureBroker) -> None:
    with broker.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("tls.durable", durable=True)
        for number in range(20):
            channel.basic_publish("", "tls.durable", b"%d" % number, PERSISTENT, mandatory=True)
        assert drain(channel, "tls.durable") == [b"%d" % number for number in range(20)]
        channel.queue_delete("tls.durable")


@pytest.mark.anyio
async def test_aio_pika_publishes_and_consumes(broker: SecureBroker) -> None:
    connection = await aio_pika.connect(
        host=SERVER_NAME, port=broker.port, ssl=True, ssl_context=broker.authority.trusting()
    )
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        bodies = [bytes([number]) * 100_000 for number in range(50)]
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body), queue.name)
        async with queue.iterator(timeout=DEADLINE) as messages:
            for body in bodies:
                message = await anext(messages)
                assert message.body == body
                await message.ack()


def test_who_reads_late_gets_everything_in_order(broker: SecureBroker) -> None:
    bodies = [b"%06d" % number + bytes(MIB // 2) for number in range(60)]
    with broker.connect() as publisher, broker.connect() as late:
        queue = late.channel().queue_declare("tls.late", auto_delete=False).method.queue
        consuming = late.channel()
        inbox = Inbox(consuming, queue, auto_ack=True)
        publishing = publisher.channel()
        publishing.confirm_delivery()
        for body in bodies:
            publishing.basic_publish("", queue, body)
        assert inbox.wait_for(len(bodies)) == bodies
        consuming.queue_delete(queue)


def test_frames_in_one_piece_and_octet_by_octet_mean_the_same(broker: SecureBroker) -> None:
    with broker.wrapped() as wrapped:
        for octet in PROTOCOL_HEADER:
            wrapped.sendall(bytes([octet]))
        assert wrapped.recv(1) == b"\x01"


def test_the_plain_listener_is_there_beside_it(broker: SecureBroker) -> None:
    with RunningBroker(broker.process.port).connect() as connection:
        connection.channel().queue_declare("", exclusive=True)


def test_the_log_names_version_and_cipher(broker: SecureBroker) -> None:
    with broker.wrapped() as wrapped:
        name = "{}:{}".format(*wrapped.getsockname())
        cipher = wrapped.cipher()
        assert cipher is not None
        wrapped.sendall(PROTOCOL_HEADER)
        broker.logs(rf"accepted connection {name} -> 127\.0\.0\.1:{broker.port} \(TLSv1\.3, {cipher[0]}\)")


# -- versions and ciphers


def test_the_newest_version_is_preferred_and_nothing_is_compressed(broker: SecureBroker) -> None:
    with broker.wrapped() as wrapped:
        assert wrapped.version() == "TLSv1.3"
        assert wrapped.compression() is None


def test_with_tls_1_2_ciphers_have_forward_secrecy_and_authentication(broker: SecureBroker) -> None:
    context = only(broker.authority.trusting(), ssl.TLSVersion.TLSv1_2)
    with broker.wrapped(context) as wrapped:
        cipher = wrapped.cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE-")
        assert cipher[0].endswith(("GCM-SHA256", "GCM-SHA384", "CHACHA20-POLY1305"))
    with broker.connect(context) as connection:
        connection.channel().queue_declare("", exclusive=True)


def test_the_servers_order_of_ciphers_counts(broker: SecureBroker) -> None:
    chosen = set()
    for names in ("ECDHE+CHACHA20:ECDHE+AESGCM", "ECDHE+AESGCM:ECDHE+CHACHA20"):
        context = only(broker.authority.trusting(), ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(names)
        with broker.wrapped(context) as wrapped:
            chosen.add(wrapped.cipher())
    assert len(chosen) == 1


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_an_old_version_is_refused(broker: SecureBroker, version: str) -> None:
    context = broker.authority.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        only(context, ssl.TLSVersion[version])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(CLOSED):
        broker.wrapped(context)
    broker.logs("closed connection .*: TLS handshake failed: it knows no version of TLS that is accepted")


@pytest.mark.parametrize("cipher", ["ECDHE+SHA256", "ECDHE+SHA1"])
def test_ciphers_without_authenticated_encryption_are_refused(broker: SecureBroker, cipher: str) -> None:
    context = only(broker.authority.trusting(), ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{cipher}:!AESGCM:!CHACHA20:@SECLEVEL=0")
    with pytest.raises(CLOSED):
        broker.wrapped(context)
    broker.logs("TLS handshake failed: it knows no cipher suite that is accepted")


def test_a_client_that_does_not_trust_the_certificate_leaves(broker: SecureBroker) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        broker.wrapped(ssl.create_default_context())
    broker.logs("TLS handshake failed: .*unknown ca")


# -- who does not speak TLS, or does not speak


def test_a_plain_client_on_the_tls_port_is_closed(broker: SecureBroker) -> None:
    with pytest.raises(REFUSED):
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))
    with socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE) as plain:
        plain.sendall(PROTOCOL_HEADER)
        assert is_closed(plain)
    broker.logs("TLS handshake failed: it does not speak TLS")


def test_a_tls_client_on_the_plain_port_gets_no_further(broker: SecureBroker) -> None:
    options = pika.SSLOptions(broker.authority.trusting(), SERVER_NAME)
    with pytest.raises((AMQPError, *CLOSED)):
        pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", broker.process.port, ssl_options=options)
        )
    with RunningBroker(broker.process.port).connect() as connection:
        assert connection.is_open


def test_who_says_nothing_is_closed_in_time(hasty: SecureBroker) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=DEADLINE) as silent:
        name = "{}:{}".format(*silent.getsockname())
        assert is_closed(silent)
    hasty.logs(rf"closed connection {name} -> .*: handshake timeout")


def test_who_stops_within_the_tls_handshake_is_closed_in_time(hasty: SecureBroker) -> None:
    hello = client_hello(hasty.authority.trusting())
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=DEADLINE) as half:
        name = "{}:{}".format(*half.getsockname())
        half.sendall(hello[: len(hello) // 2])
        assert is_closed(half)
    hasty.logs(rf"closed connection {name} -> .*: handshake timeout")


def test_who_has_made_the_tls_handshake_alone_is_closed_in_time(hasty: SecureBroker) -> None:
    with hasty.wrapped() as silent:
        assert is_closed(silent)


def test_who_leaves_at_any_point_of_the_handshake_harms_nobody(broker: SecureBroker) -> None:
    hello = client_hello(broker.authority.trusting())
    for size in (0, 1, 5, len(hello) // 2, len(hello) - 1, len(hello)):
        with socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE) as leaving:
            leaving.sendall(hello[:size])
    with broker.connect() as connection:
        connection.channel().queue_declare("", exclusive=True)


def test_a_vanished_client_gives_back_what_it_held(broker: SecureBroker) -> None:
    client = Client(StreamTransport(broker.wrapped())).handshake()
    channel = client.channel()
    channel.declare("tls.held")
    channel.publish("m", routing_key="tls.held")
    assert channel.get("tls.held", no_ack=False) is not None
    client.drop()
    with broker.connect() as connection:
        other = connection.channel()
        wait_until(connection, lambda: drain(other, "tls.held") == [b"m"], "the message that it held")
        other.queue_delete("tls.held")


def test_a_mistake_is_answered_before_the_end(broker: SecureBroker) -> None:
    client = Client(StreamTransport(broker.wrapped())).handshake()
    client.send(7, "channel.close", reply_code=200)
    client.ends(504)
    client.drop()


def test_what_comes_after_the_goodbye_is_not_heard(broker: SecureBroker) -> None:
    client = Client(StreamTransport(broker.wrapped())).handshake()
    goodbye = encode_method("connection.close", {"reply_code": 200, "reply_text": "bye"})
    client.send_bytes(Frame(METHOD, 0, goodbye).encoded() + bytes(10_000))
    client.expect("connection.close-ok")
    client.is_closed()
    client.drop()


# -- a broker of its own each


def test_nobody_gets_in_below_the_configured_version(tmp_path: Path, authority: Authority) -> None:
    with SecureBroker(tmp_path, authority, 'min_version = "TLSv1.3"') as broker:
        with pytest.raises(CLOSED):
            broker.wrapped(only(authority.trusting(), ssl.TLSVersion.TLSv1_2))
        with broker.connect() as connection:
            assert connection.is_open


def test_the_configured_ciphers_count(tmp_path: Path, authority: Authority) -> None:
    with SecureBroker(tmp_path, authority, 'ciphers = "ECDHE+AES256+AESGCM"') as broker:
        context = only(authority.trusting(), ssl.TLSVersion.TLSv1_2)
        with broker.wrapped(context) as wrapped:
            cipher = wrapped.cipher()
            assert cipher is not None
            assert "AES256-GCM" in cipher[0]


def test_a_broker_that_stops_tells_its_clients(tmp_path: Path, authority: Authority) -> None:
    with SecureBroker(tmp_path, authority) as broker:
        connection = broker.connect()
        broker.process.send_signal(15)
        with pytest.raises(ConnectionClosedByBroker) as closed:
            wait_until(connection, lambda: False, "the broker's close")
        assert closed.value.reply_code == 320
        assert broker.process.wait_ended() == 0


def test_those_in_the_handshake_count_as_connections(tmp_path: Path, authority: Authority) -> None:
    with SecureBroker(tmp_path, authority, more="[limits]\nconnection_max = 3") as broker:
        waiting = [socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE) for _ in range(3)]
        with socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE) as one_more:
            assert is_closed(one_more)
        for connection in waiting:
            connection.close()
        broker.logs("connections are refused: there are 3 already")


def is_closed(connection: socket.socket) -> bool:
    """Whether the broker closes, which is waited for, and says no more than an alert before."""
    try:
        while connection.recv(4096):
            continue
    except (ConnectionResetError, ssl.SSLError):
        return True
    return True


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=SERVER_NAME).do_handshake()
    return outgoing.read()
