"""Clients that log in by their certificate, with pika and aio-pika."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pika
import pytest
from pika.exceptions import AMQPConnectionError, AuthenticationError, ProbableAuthenticationError

from tests.server.secure import SERVER_NAME, Authority, SecureBroker

ALICE, WHOLE_NAME = "alice", "CN=alice,OU=clients,O=server"


def broker_of(directory: Path, authority: Authority, name: str, *more: str) -> SecureBroker:
    """A broker that asks for certificates and has a user of this name, without a password."""
    directory.mkdir(exist_ok=True)
    rights = {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    users = [
        {"name": name, "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}
    ]
    file = directory / "definitions.json"
    file.write_text(json.dumps({"users": users, "permissions": [rights]}))
    lines = ['[auth]\nmechanisms = ["EXTERNAL", "PLAIN"]', *more, f'[data]\nload_definitions = "{file}"']
    tls = f'ca = "{authority.file}"\nverify = "optional"'
    return SecureBroker(directory, authority, tls, "\n".join(lines))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureBroker]:
    with broker_of(tmp_path_factory.mktemp("broker"), authority, ALICE) as running:
        yield running


def parameters(
    broker: SecureBroker, shown: tuple[Path, Path] | None, credentials: object
) -> pika.ConnectionParameters:
    chosen = broker.parameters(broker.authority.trusting(shown))
    chosen.credentials = credentials
    return chosen


def test_pika_logs_in_by_certificate(broker: SecureBroker, authority: Authority) -> None:
    chosen = parameters(broker, authority.client(ALICE), pika.credentials.ExternalCredentials())
    with pika.BlockingConnection(chosen) as connection:
        queue = connection.channel().queue_declare("", exclusive=True).method.queue
        properties = pika.BasicProperties(user_id=ALICE)
        channel = connection.channel()
        channel.basic_publish("", queue, b"by alice", properties)
        assert channel.basic_get(queue, auto_ack=True)[2] == b"by alice"


@pytest.mark.anyio
async def test_aio_pika_logs_in_by_certificate(broker: SecureBroker, authority: Authority) -> None:
    context = authority.trusting(authority.client(ALICE))
    url = f"amqps://{SERVER_NAME}:{broker.port}/?auth=EXTERNAL"
    connection = await aio_pika.connect(url, ssl_context=context)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(exclusive=True)


def test_a_certificate_of_nobody_is_refused(broker: SecureBroker, authority: Authority) -> None:
    chosen = parameters(broker, authority.client("mallory"), pika.credentials.ExternalCredentials())
    with pytest.raises(
        ProbableAuthenticationError, match="Login was refused using authentication mechanism EXTERNAL"
    ):
        pika.BlockingConnection(chosen)
    broker.logs("user 'mallory' - invalid credentials")


def test_without_a_certificate_it_is_not_offered(broker: SecureBroker) -> None:
    chosen = parameters(broker, None, pika.credentials.ExternalCredentials())
    with pytest.raises(AuthenticationError, match="EXTERNAL"):
        pika.BlockingConnection(chosen)


def test_without_tls_it_is_not_offered(broker: SecureBroker) -> None:
    credentials = pika.credentials.ExternalCredentials()
    with pytest.raises(AuthenticationError, match="EXTERNAL"):
        pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", broker.process.port, credentials=credentials)
        )


def test_a_password_still_lets_in_beside_it(broker: SecureBroker, authority: Authority) -> None:
    credentials = pika.PlainCredentials("guest", "guest")
    pika.BlockingConnection(parameters(broker, authority.client(ALICE), credentials)).close()
    pika.BlockingConnection(parameters(broker, None, credentials)).close()


def test_the_whole_name_of_the_subject_can_be_the_user(tmp_path: Path, authority: Authority) -> None:
    option = 'external_name = "distinguished_name"'
    with broker_of(tmp_path / "broker", authority, WHOLE_NAME, option) as broker:
        credentials = pika.credentials.ExternalCredentials()
        pika.BlockingConnection(parameters(broker, authority.client(ALICE), credentials)).close()
        other = authority.client("alice2", common_name=ALICE, organization_name="elsewhere")
        with pytest.raises(AMQPConnectionError):
            pika.BlockingConnection(parameters(broker, other, credentials))
