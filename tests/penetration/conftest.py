"""The brokers that the attempts are made at, each started once, and whether they still serve others afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.client import Channel, Client, TcpTransport
from tests.penetration.site import Site, opened
from tests.server.secure import Authority

CALM = '[auth]\nlogin_delay_max = "0s"\n'


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="amqp-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def authority(folder: Path) -> Authority:
    return Authority(folder / "ca")


@pytest.fixture(scope="session")
def site(folder: Path, authority: Authority) -> Iterator[Site]:
    """The one that most attempts are made at: plain, with TLS, and on a Unix socket."""
    more = (
        f'[listeners]\ntls = ["127.0.0.1:0"]\nunix = ["{folder}/s"]\n'
        f'{CALM}mechanisms = ["PLAIN", "AMQPLAIN", "EXTERNAL"]\n'
    )
    with Site(folder / "site", authority, more) as running:
        running.unix = folder / "s"
        yield running


@pytest.fixture(scope="session")
def bystander(site: Site) -> Iterator[Channel]:
    """Somebody else's connection, which is there all the time."""
    channel = opened(Client(TcpTransport(site.process.port)), "alice").channel()
    channel.declare("bystander")
    channel.call("confirm.select")
    yield channel
    channel.client.drop()


@pytest.fixture(autouse=True)
def others_are_served(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attempt on the common broker somebody else still publishes, hears the confirm, and gets it back."""
    if "site" not in request.fixturenames:
        yield
        return
    site: Site = request.getfixturevalue("site")
    channel: Channel = request.getfixturevalue("bystander")
    yield
    site.hang_up()
    channel.publish(b"still here", routing_key="bystander")
    channel.expect("basic.ack")
    message = channel.get("bystander")
    assert message is not None
    assert message.body == b"still here"
