"""One deadline for all that has to be done before the virtual host is open: PROXY header, TLS, AMQP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from amqp_broker.server.listening import Origin
from tests.server.wire import Line, Service

TIMEOUT = 10.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data")
    yield service
    anyio.run(service.close)


def seen_in(service: Service, seconds: float) -> Line:
    """A client that needed so long until AMQP began."""
    origin = Origin(("192.0.2.1", 40000), ("192.0.2.2", 5671), from_loopback=False)
    origin.since = service.clock.monotonic() - seconds
    return Line(service._new_client(origin))


def test_what_was_needed_before_amqp_is_not_there_for_amqp(service: Service) -> None:
    line = seen_in(service, TIMEOUT - 1)
    origin = line.client.origin
    assert origin is not None
    assert origin.since is not None
    line.connection.tick(origin.since + TIMEOUT - 0.1)
    assert not line.connection.finished
    line.connection.tick(origin.since + TIMEOUT)
    assert line.connection.finished


def test_who_comes_by_a_plain_listener_has_all_of_it(service: Service) -> None:
    before = service.clock.monotonic()
    line = service.dial()
    assert line.connection.deadline >= before + TIMEOUT
