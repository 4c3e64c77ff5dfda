"""A broker that is started with a rabbitmq.conf and the variables of RabbitMQ's container image."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest
from pika.credentials import ExternalCredentials
from pika.exceptions import ProbableAuthenticationError

from tests.server.broker_process import BrokerProcess, installed_command
from tests.server.secure import REFUSED, SERVER_NAME, Authority, tls_port

Start = Callable[[str], BrokerProcess]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "rabbitmq.conf"


@pytest.fixture
def start(tmp_path: Path, conf: Path) -> Iterator[Start]:
    brokers: list[BrokerProcess] = []

    def start(text: str) -> BrokerProcess:
        conf.write_text(text)
        # The flags of the tests' broker choose the port; everything else is said by the file.
        brokers.append(BrokerProcess(tmp_path / "data", ["--config", str(conf)]).start())
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.kill()


def log_in(port: int, user: str, password: str, vhost: str) -> None:
    parameters = pika.ConnectionParameters(
        "127.0.0.1", port, vhost, pika.PlainCredentials(user, password), socket_timeout=10
    )
    pika.BlockingConnection(parameters).close()


def test_it_does_what_the_file_says_and_logs_what_it_passes_over(start: Start, conf: Path) -> None:
    broker = start(
        "default_user = app\ndefault_pass = 'se#cret'\ndefault_vhost = apps\n"
        "cluster_formation.peer_discovery_backend = k8s\nmanagement.tcp.port = 15672\n"
    )
    log_in(broker.port, "app", "se#cret", "apps")
    assert broker.stop() == 0
    lines = broker.stderr().splitlines()
    for number, key in ((4, "cluster_formation.peer_discovery_backend"), (5, "management.tcp.port")):
        (line,) = [line for line in lines if key in line]
        assert f"[INFO] {conf}:{number}: {key}: no effect: " in line


def test_a_secret_in_a_file_is_the_password(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the file\n")
    monkeypatch.setenv("RABBITMQ_DEFAULT_USER", "app")
    monkeypatch.setenv("RABBITMQ_DEFAULT_PASS_FILE", str(secret))
    broker = start("default_user = other\ndefault_pass = other\n")
    log_in(broker.port, "app", "of the file", "/")
    with pytest.raises(ProbableAuthenticationError):
        log_in(broker.port, "other", "other", "/")


def test_clients_log_in_with_the_certificates_that_ssl_options_ask_for(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.server()
    broker = start(
        "listeners.tcp.1 = 127.0.0.1:0\nlisteners.ssl.1 = 127.0.0.1:0\n"
        f"ssl_options.cacertfile = {authority.file}\nssl_options.certfile = {certificate}\n"
        f"ssl_options.keyfile = {key}\nssl_options.verify = verify_peer\n"
        "ssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = tlsv1.3\n"
        "auth_mechanisms.1 = EXTERNAL\nssl_cert_login_from = common_name\ndefault_user = robot\n"
    )

    def connect(context: ssl.SSLContext) -> None:
        parameters = pika.ConnectionParameters(
            "127.0.0.1",
            tls_port(broker.ready_line),
            credentials=ExternalCredentials(),
            ssl_options=pika.SSLOptions(context, SERVER_NAME),
            connection_attempts=1,
        )
        pika.BlockingConnection(parameters).close()

    connect(authority.trusting(authority.client("robot")))
    with pytest.raises(ProbableAuthenticationError):
        connect(authority.trusting(authority.client("somebody-else")))
    with pytest.raises(REFUSED):
        connect(authority.trusting())


def test_an_unknown_key_keeps_it_from_starting(tmp_path: Path, conf: Path) -> None:
    conf.write_text("listeners.tcp.default = 5672\nhartbeat = 5\n")
    ended = subprocess.run(
        [*installed_command(), "serve", "--config", str(conf), "--data-dir", str(tmp_path / "data")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"amqp-broker: error: {conf}:2: hartbeat: unknown key; did you mean heartbeat?\n"
    assert not (tmp_path / "data").exists()
