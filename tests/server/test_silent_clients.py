"""Connections that are closed before anything came, as health checks make them, are no news; others are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.broker_process import BrokerProcess
from tests.server.secure import SERVER_NAME, Authority, eventually, hide_uvloop, tls_port

PROXY_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


@pytest.fixture(params=["uvloop", "asyncio"])
def talkative(
    request: pytest.FixtureRequest, tmp_path: Path, own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BrokerProcess]:
    """A broker that logs everything, with and without TLS, with and without uvloop."""
    certificate, key = Authority(tmp_path).server(SERVER_NAME)
    own_broker.arguments = ["--config", str(tmp_path / "broker.toml"), "--log-level", "debug"]
    (tmp_path / "broker.toml").write_text(
        '[listeners]\ntcp = ["127.0.0.1:0"]\ntls = ["127.0.0.1:0"]\n'
        f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    if request.param == "asyncio":
        monkeypatch.setenv("PYTHONPATH", hide_uvloop(tmp_path / "without"))
    yield own_broker.start()
    assert own_broker.stop() == 0


def look(port: int, first: bytes = b"") -> str:
    """Connect, send this, and close; returns the name of the connection."""
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(first)
        return "{}:{} -> ".format(*raw.getsockname())


def lines_about(broker: BrokerProcess, name: str) -> list[str]:
    """What the log says of a connection, once it says that it was closed: level and words."""

    def found() -> list[str]:
        about = [line for line in broker.stderr().splitlines() if name in line]
        return about if any("closed connection" in line for line in about) else []

    return list(eventually(found, broker.stderr))


def test_who_sends_nothing_is_no_news_and_who_sends_something_is(talkative: BrokerProcess) -> None:
    plain, secure = talkative.port, tls_port(talkative.ready_line)
    for port in (plain, secure):
        (line,) = lines_about(talkative, look(port))
        assert "debug" in line.lower(), line
    accepted, closed = lines_about(talkative, look(plain, b"AM"))
    assert "info" in accepted.lower()
    assert "accepted connection" in accepted
    assert "warning" in closed.lower()
    assert closed.endswith("client unexpectedly closed TCP connection")
    (closed,) = lines_about(talkative, look(secure, b"AMQP\x00\x00\x09\x01"))
    assert "warning" in closed.lower()


def test_a_health_check_of_a_proxy_is_no_news(tmp_path: Path, own_broker: BrokerProcess) -> None:
    (tmp_path / "broker.toml").write_text("[listeners]\nproxy_protocol = true\n")
    own_broker.arguments = ["--config", str(tmp_path / "broker.toml"), "--log-level", "debug"]
    own_broker.start()
    for first, level in ((b"", "debug"), (PROXY_LOCAL, "debug"), (b"PROX", "warning")):
        (line,) = lines_about(own_broker, look(own_broker.port, first))
        assert level in line.lower(), line
    assert own_broker.stop() == 0
