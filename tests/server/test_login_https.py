"""The service that is asked over HTTPS: whom the broker takes for it, and what the broker shows it of itself."""

from __future__ import annotations

import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest

from amqp_broker.broker.passwords import SHA256, PasswordHash
from amqp_broker.config import Auth, Config, Http, HttpTls
from amqp_broker.server.preflight import Preflight
from tests.server.broker_process import BrokerProcess
from tests.server.login_house import House
from tests.server.secure import Authority, encrypt_key, eventually
from tests.server.service import SecureService

pytestmark = pytest.mark.anyio

NO_ANSWER = "no answer of the HTTP backend"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def showing(authority: Authority, *names: str) -> ssl.SSLContext:
    """The service's context, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server("service", *names))
    return context


def asking_for_one(context: ssl.SSLContext, authority: Authority) -> ssl.SSLContext:
    """Whoever has no certificate of that authority is not answered."""
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[SecureService]:
    with SecureService(context) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


async def outcome(service: SecureService, **tls: Any) -> str:
    """What comes of a login that the service allows."""
    options = service.options(tls=HttpTls(**{name: str(value) for name, value in tls.items()}))
    house = House(backends=("http",), http=options)
    house.add("alice", PasswordHash(SHA256, b""))
    try:
        return await house.login("alice", "wonderland")
    finally:
        house.authentication.close()


async def test_a_service_of_the_named_authority_is_asked(authority: Authority) -> None:
    with serving(showing(authority)) as service:
        assert await outcome(service, ca=authority.file) == "in"
        assert service.asked == [("GET", "/user", {"username": "alice", "password": "wonderland"})]
        assert service.names == ["localhost"]


async def test_nobody_else_hears_a_password(
    authority: Authority, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(showing(authority)) as service:
        # The authorities of the system do not know it either.
        assert await outcome(service) == NO_ANSWER
        assert await outcome(service, ca=stranger.file) == NO_ANSWER
        assert service.asked == []
        assert all("CERTIFICATE_VERIFY_FAILED" in record.getMessage() for record in caplog.records)
        assert len(caplog.records) == 2
        assert await outcome(service, verify="none") == "in"


async def test_the_certificate_has_to_be_for_the_name_that_it_is_asked_by(authority: Authority) -> None:
    with serving(showing(authority, "auth.example")) as service:
        assert await outcome(service, ca=authority.file) == NO_ANSWER
        assert await outcome(service, ca=authority.file, server_name="auth.example") == "in"
        assert service.names == ["localhost", "auth.example"]
    with serving(showing(authority, "*.mq.example")) as service:
        assert await outcome(service, ca=authority.file, server_name="auth.mq.example") == "in"


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_service_that_asks_for_a_certificate_is_shown_it(
    authority: Authority, encrypted: bool
) -> None:
    certificate, key = authority.client("broker")
    shown: dict[str, object] = {"certificate": certificate, "key": key}
    if encrypted:
        shown |= {"key": encrypt_key(key, "secret"), "password": "secret"}
    with serving(asking_for_one(showing(authority), authority)) as service:
        assert await outcome(service, ca=authority.file) == NO_ANSWER
        assert service.asked == []
        assert await outcome(service, ca=authority.file, **shown) == "in"


async def test_certificate_and_key_may_be_in_one_file(authority: Authority, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in authority.client("broker")))
    with serving(asking_for_one(showing(authority), authority)) as service:
        assert await outcome(service, ca=authority.file, certificate=both) == "in"


async def test_versions_and_ciphers_can_be_narrowed(authority: Authority) -> None:
    context = showing(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context) as service:
        assert await outcome(service, ca=authority.file, min_version="TLSv1.3") == NO_ANSWER
        assert await outcome(service, ca=authority.file, ciphers="ECDHE+CHACHA20") == "in"
        context.set_ciphers("ECDHE+AESGCM")
        assert await outcome(service, ca=authority.file, ciphers="ECDHE+CHACHA20") == NO_ANSWER


# -- the files


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("ca", "cannot be read: No such file or directory"),
        ("certificate", "cannot be read: No such file or directory"),
        ("ciphers", "OpenSSL knows none of them"),
    ],
)
def test_what_cannot_be_used_stops_a_start_and_is_named(
    own_broker: BrokerProcess, tmp_path: Path, option: str, problem: str
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(
        '[auth]\nbackends = ["http+internal"]\n[auth.http]\nuser_path = "HTTPS://localhost/user"\n'
        f'[auth.http.tls]\n{option} = "nowhere"\n'
    )
    own_broker.arguments = ["--config", str(config)]
    own_broker.launch()
    assert own_broker.wait_ended() == 1
    assert f'auth.http.tls.{option} = "nowhere": {problem}' in own_broker.stderr()
    assert "Traceback" not in own_broker.stderr()


def test_a_check_of_the_configuration_looks_at_them(authority: Authority) -> None:
    certificate, key = authority.client("broker")

    def problems(backend: str, **tls: Path | str) -> list[str]:
        files = HttpTls(**{name: str(value) for name, value in tls.items()})
        url = "https://h/x"
        http = Http(user_path=url, vhost_path=url, resource_path=url, topic_path=url, tls=files)
        auth = Auth(backends=(backend,), http=http)
        return [str(found.key) for found in Preflight(Config(auth=auth)).problems if "auth" in str(found.key)]

    assert problems("http", ca=authority.file, certificate=certificate, key=key) == []
    assert problems("http", ca=key) == ["auth.http.tls.ca"]
    assert problems("http", certificate=certificate, key=certificate) == ["auth.http.tls.key"]
    # Nobody is asked, and nothing is needed for it.
    assert problems("internal", ca=key) == []


def test_a_rabbitmq_conf_names_them_and_a_hangup_has_them_read_again(
    own_broker: BrokerProcess, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.client("broker")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(stranger.file.read_bytes())
    with serving(asking_for_one(showing(authority, "auth.example"), authority)) as service:
        paths = [
            f"auth_http.{name}_path = {service.url}/{name}\n"
            for name in ("user", "vhost", "resource", "topic")
        ]
        tls = {
            "cacertfile": trusted,
            "certfile": certificate,
            "keyfile": key,
            "verify": "verify_peer",
            "sni": "auth.example",
            "versions.1": "tlsv1.3",
        }
        keys = [f"auth_http.ssl_options.{name} = {value}\n" for name, value in tls.items()]
        config = tmp_path / "rabbitmq.conf"
        config.write_text("".join([*paths, *keys, "auth_backends.1 = http\nlisteners.tcp.1 = 127.0.0.1:0\n"]))
        own_broker.arguments = ["--config", str(config)]
        own_broker.start()
        credentials = pika.PlainCredentials("nobody-here", "secret")
        parameters = pika.ConnectionParameters("127.0.0.1", own_broker.port, credentials=credentials)
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(parameters)
        trusted.write_bytes(authority.file.read_bytes())

        def gets_in() -> bool:
            try:
                pika.BlockingConnection(parameters).close()
            except pika.exceptions.AMQPConnectionError:
                return False
            return True

        own_broker.send_signal(signal.SIGHUP)
        assert eventually(gets_in, own_broker.stderr)
        assert set(service.names) == {"auth.example"}
    assert own_broker.stop() == 0
