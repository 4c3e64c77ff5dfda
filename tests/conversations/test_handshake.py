"""Opening a connection: protocol headers, mechanisms, tuning, virtual hosts, methods at the wrong moment,
closing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .client import PROTOCOL_HEADER, Client, Transport
from .codec import HEARTBEAT, METHOD, METHODS, Frame, Typed, decode_method, encode_method, encode_table
from .conftest import Connect

Differs = Callable[..., Any]

CAPABILITIES = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
]
LOGIN_REFUSED = "Login was refused using authentication mechanism {}. For details see the broker logfile."


def amqplain(**fields: Any) -> bytes:
    """The response of AMQPLAIN: a table without its length."""
    return encode_table(fields)[4:]


# the protocol header


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x00\x00\x09\x02",
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x02\x01\x00\x00",
        b"AMQP\x01\x01\x00\x0a",
        b"AMQP    ",
        b"amqp\x00\x00\x09\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        bytes(8),
    ],
    ids=[
        "HTTP",
        "0-9-2",
        "0-8-0",
        "1.0",
        "1.0 SASL",
        "1.0 TLS",
        "0-10",
        "blanks",
        "lower case",
        "TLS hello",
        "zeros",
    ],
)
def test_any_other_protocol_is_answered_with_ours_and_hung_up(dial: Connect, said: bytes) -> None:
    client = dial()
    client.send_bytes(said)
    assert client.receive_octets(9) == PROTOCOL_HEADER


@pytest.mark.parametrize("said", [b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09"], ids=["0-9-1", "0-9"])
def test_a_header_of_our_protocol_starts_the_connection(dial: Connect, said: bytes) -> None:
    client = dial()
    client.send_bytes(said)
    start = client.expect("connection.start")
    assert (start["version_major"], start["version_minor"], start["locales"]) == (0, 9, "en_US")


@pytest.mark.parametrize("said", [b"AMQP\x01\x01\x08\x00", b"AMQP\x01\x01\x09\x01"], ids=["0-8", "9-1"])
def test_a_header_of_0_8_starts_the_connection_as_0_8(dial: Connect, said: bytes) -> None:
    client = dial()
    client.send_bytes(said)
    start = client.expect("connection.start")
    assert (start["version_major"], start["version_minor"]) == (8, 0)
    assert start["server_properties"]["capabilities"].value == {}


def test_a_header_may_come_octet_by_octet(dial: Connect) -> None:
    client = dial()
    for octet in PROTOCOL_HEADER:
        client.send_bytes(bytes([octet]))
    client.expect("connection.start")


# connection.start


def test_plain_and_amqplain_are_offered(client: Client) -> None:
    assert sorted(client.start["mechanisms"].split()) == ["AMQPLAIN", "PLAIN"]


def test_the_server_says_what_it_is(client: Client, differs_from_rabbitmq: Differs) -> None:
    properties = client.start["server_properties"]
    assert properties["product"] == Typed("S", "RabbitMQ")
    version = differs_from_rabbitmq("it is another version", rabbitmq="3.", ours="3.13.")
    assert properties["version"].value.startswith(version)
    for key in ("cluster_name", "copyright", "information", "platform"):
        assert properties[key].kind == "S"
        assert properties[key].value


def test_the_server_announces_its_capabilities(client: Client) -> None:
    capabilities = client.start["server_properties"]["capabilities"]
    assert capabilities == Typed("F", {name: Typed("t", True) for name in CAPABILITIES})


# mechanisms


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0guest\0guest"),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="guest")),
        ("AMQPLAIN", amqplain(PASSWORD="guest", LOGIN="guest")),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="guest", EXTRA=5)),
    ],
)
def test_a_right_password_leads_to_tuning(dial: Connect, mechanism: str, response: bytes) -> None:
    client = dial()
    client.log_in(mechanism=mechanism, response=response)
    assert client.tune == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0guest\0wrong"),
        ("PLAIN", b"\0guest\0"),
        ("PLAIN", b"\0nobody\0guest"),
        ("PLAIN", b"\0\0"),
        ("PLAIN", b"\0guest\0guest "),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="wrong")),
        ("AMQPLAIN", amqplain(LOGIN="nobody", PASSWORD="guest")),
    ],
)
def test_a_wrong_password_is_told_to_those_who_can_hear_it(
    dial: Connect, mechanism: str, response: bytes
) -> None:
    client = dial()
    client.send_bytes(PROTOCOL_HEADER)
    client.expect("connection.start")
    client.send_start_ok(mechanism=mechanism, response=response)
    client.refuses(403, LOGIN_REFUSED.format(mechanism))


# What is answered by silence and, after three seconds, the end of the connection.
# RabbitMQ does not tell strangers why.

STRANGERS: dict[str, Callable[[Client], None]] = {
    "wrong password": lambda client: client.send_start_ok(response=b"\0guest\0wrong", capabilities={}),
    "unknown user": lambda client: client.send_start_ok(response=b"\0nobody\0guest", capabilities={}),
    "unknown mechanism": lambda client: client.send_start_ok(mechanism="EXTERNAL"),
    "mechanism in small letters": lambda client: client.send_start_ok(mechanism="plain"),
    "no mechanism": lambda client: client.send_start_ok(mechanism=""),
    "PLAIN of one part": lambda client: client.send_start_ok(response=b"guest"),
    "PLAIN of nothing": lambda client: client.send_start_ok(response=b""),
    "PLAIN with an authorization identity": lambda client: client.send_start_ok(response=b"me\0guest\0guest"),
    "AMQPLAIN without password": lambda client: client.send_start_ok(
        mechanism="AMQPLAIN", response=amqplain(LOGIN="guest")
    ),
    "AMQPLAIN of garbage": lambda client: client.send_start_ok(mechanism="AMQPLAIN", response=b"xxx"),
    "AMQPLAIN with its length": lambda client: client.send_start_ok(
        mechanism="AMQPLAIN", response=encode_table({"LOGIN": "guest", "PASSWORD": "guest"})
    ),
    "open before start-ok": lambda client: client.send(0, "connection.open", virtual_host="/"),
    "tune-ok before start-ok": lambda client: client.send(0, "connection.tune-ok"),
    "close before start-ok": lambda client: client.send(0, "connection.close", reply_code=200),
    "close-ok before start-ok": lambda client: client.send(0, "connection.close-ok"),
    "channel before start-ok": lambda client: client.send(1, "channel.open"),
    "queue before start-ok": lambda client: client.send(1, "queue.declare", queue="never"),
    "content before start-ok": lambda client: client.send_frame(2, 1, b""),
    "frame too large before start-ok": lambda client: client.send_frame(METHOD, 0, bytes(5000)),
    "open before tune-ok": lambda client: after_start(client, "connection.open", virtual_host="/"),
    "start-ok twice": lambda client: after_start(client, "connection.start-ok"),
    "channel before tune-ok": lambda client: after_start(client, "channel.open"),
    "close before tune-ok": lambda client: after_start(client, "connection.close", reply_code=200),
    "frame_max 0": lambda client: tuned(client, frame_max=0),
    "frame_max 100": lambda client: tuned(client, frame_max=100),
    "frame_max 4095": lambda client: tuned(client, frame_max=4095),
    "frame_max 131073": lambda client: tuned(client, frame_max=131073),
    "frame_max 2^32-1": lambda client: tuned(client, frame_max=2**32 - 1),
    "channel_max 0": lambda client: tuned(client, channel_max=0),
    "channel_max 2048": lambda client: tuned(client, channel_max=2048),
    "channel_max 65535": lambda client: tuned(client, channel_max=65535),
}
SILENT: dict[str, bytes] = {
    "nothing": b"",
    "half a header": b"AMQP",
    "a header and no more": PROTOCOL_HEADER,
    "half a start-ok": PROTOCOL_HEADER
    + Frame(METHOD, 0, encode_method("connection.start-ok", {})).encoded()[:9],
}


def after_start(client: Client, name: str, **arguments: Any) -> None:
    client.send_start_ok()
    client.expect("connection.tune")
    client.send(0, name, **arguments)


def tuned(client: Client, **differently: int) -> None:
    client.send_start_ok()
    offered = client.expect("connection.tune").arguments
    client.send(0, "connection.tune-ok", **(offered | differently))
    client.send(0, "connection.open", virtual_host="/")


@pytest.fixture(scope="module")
def strangers(transport: Callable[[], Transport]) -> Iterator[dict[str, Client]]:
    """All of them at once, as each is left to wait."""
    clients = {}
    for what, say in STRANGERS.items():
        client = clients[what] = Client(transport())
        client.send_bytes(PROTOCOL_HEADER)
        client.expect("connection.start")
        say(client)
    yield clients
    for client in clients.values():
        client.drop()


@pytest.fixture(scope="module", autouse=True)
def silent(transport: Callable[[], Transport]) -> Iterator[dict[str, Client]]:
    clients = {}
    for what, said in SILENT.items():
        client = clients[what] = Client(transport())
        client.send_bytes(said)
        if said.startswith(PROTOCOL_HEADER):
            client.expect("connection.start")
    yield clients
    for client in clients.values():
        client.drop()


@pytest.mark.parametrize("what", STRANGERS)
def test_a_connection_not_yet_logged_in_and_tuned_is_not_told_what_it_did_wrong(
    strangers: dict[str, Client], what: str
) -> None:
    strangers[what].is_closed()


# tuning


@pytest.mark.parametrize(
    "tune",
    [
        {"frame_max": 4096},
        {"frame_max": 131072},
        {"channel_max": 1},
        {"channel_max": 2047},
        {"heartbeat": 0},
        {"heartbeat": 1},
        {"heartbeat": 65535},
        {"frame_max": 5000, "channel_max": 10, "heartbeat": 30},
    ],
    ids=str,
)
def test_less_than_was_offered_may_be_asked_for(connect: Connect, tune: dict[str, int]) -> None:
    connect(**tune).channel()


def test_a_heartbeat_may_come_before_tuning_is_done(dial: Connect) -> None:
    client = dial()
    client.log_in()
    client.send_frame(HEARTBEAT, 0, b"")
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    client.expect("connection.open-ok")


def test_a_whole_opening_may_be_said_in_one_breath(dial: Connect) -> None:
    client = dial()
    start_ok = {"mechanism": "PLAIN", "response": b"\0guest\0guest", "locale": "en_US"}
    frames = [
        Frame(METHOD, 0, encode_method("connection.start-ok", start_ok)),
        Frame(
            METHOD,
            0,
            encode_method("connection.tune-ok", {"channel_max": 10, "frame_max": 4096, "heartbeat": 0}),
        ),
        Frame(METHOD, 0, encode_method("connection.open", {"virtual_host": "/"})),
        Frame(METHOD, 1, encode_method("channel.open", {})),
    ]
    client.send_bytes(PROTOCOL_HEADER + b"".join(frame.encoded() for frame in frames))
    seen = [client.receive().name for _ in range(4)]
    assert seen == ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"]


def test_a_large_table_of_client_properties_fits_where_4096_octets_do(dial: Connect) -> None:
    client = dial()
    client.send_bytes(PROTOCOL_HEADER)
    client.expect("connection.start")
    client.send(
        0,
        "connection.start-ok",
        client_properties={"information": "x" * 3900},
        mechanism="PLAIN",
        response=b"\0guest\0guest",
        locale="en_US",
    )
    client.expect("connection.tune")


# opening


@pytest.mark.parametrize("virtual_host", ["nope", "", "//", "/ ", "\u00fc"])
def test_an_unknown_virtual_host_is_refused(dial: Connect, virtual_host: str) -> None:
    client = dial()
    client.log_in()
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host=virtual_host)
    client.refuses(530, f"vhost {virtual_host} not found", "connection.open")


@pytest.mark.parametrize(
    "name", ["connection.tune-ok", "connection.start-ok", "channel.open", "connection.close"]
)
def test_only_open_is_due_after_tuning(dial: Connect, name: str) -> None:
    client = dial()
    client.log_in()
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, name)
    client.refuses(504, "unexpected method in connection state opening", name)


def test_a_channel_is_not_opened_before_the_connection(dial: Connect) -> None:
    client = dial()
    client.log_in()
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(1, "channel.open")
    client.refuses(505, "type 1, all octets = <<0,20,0,10,0>>")


# methods of channel zero on an open connection

KNOWN_ON_ZERO = {"connection.close", "connection.update-secret"}
NOT_DUE = [
    name
    for name in METHODS
    if name not in KNOWN_ON_ZERO and name not in ("access.request", "access.request-ok")
]


@pytest.mark.parametrize("name", NOT_DUE)
def test_no_other_method_is_due_on_channel_zero(client: Client, name: str) -> None:
    client.send(0, name)
    client.refuses(504, "unexpected method in connection state running", name)


def test_a_secret_may_be_updated(client: Client) -> None:
    client.send(0, "connection.update-secret", new_secret="guest", reason="it is time")
    assert client.expect("connection.update-secret-ok").arguments == {}
    client.is_alive()


# closing


@pytest.mark.parametrize("code", [200, 0, 320, 541])
def test_close_is_answered(client: Client, code: int) -> None:
    client.channel()
    client.send(0, "connection.close", reply_code=code, reply_text="bye", class_id=1, method_id=2)
    assert client.receive().name == "connection.close-ok"


def test_nothing_is_answered_after_close(client: Client) -> None:
    channel = client.channel()
    client.send(0, "connection.close", reply_code=200)
    channel.send("queue.declare", queue="never")
    client.send(5, "channel.open")
    client.send(0, "connection.close", reply_code=200)
    client.expect("connection.close-ok")
    client.transport.close()


def test_after_an_error_only_close_ok_is_heard(client: Client) -> None:
    channel = client.channel()
    channel.send("basic.qos", prefetch_size=1)
    close = client.expect("connection.close")
    assert close["reply_code"] == 540
    channel.send("queue.declare", queue="never")
    client.send_frame(HEARTBEAT, 0, b"")
    client.send(7, "channel.open")
    client.send(0, "connection.close-ok")
    client.is_closed()


def test_two_sides_may_close_at_once(client: Client) -> None:
    channel = client.channel()
    channel.send("basic.qos", prefetch_size=1)
    client.expect("connection.close", reply_code=540)
    client.send(0, "connection.close", reply_code=200)
    client.expect("connection.close-ok")


@pytest.mark.parametrize("what", SILENT)
def test_who_does_not_log_in_is_cut_off(silent: dict[str, Client], what: str) -> None:
    silent[what].is_closed(15.0)


def test_the_names_of_all_methods_are_told_apart() -> None:
    for name in METHODS:
        assert decode_method(encode_method(name, {}))[0] == name
