"""Passwords in a running broker: better hashes last over restarts, and the loop goes on while they are made."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from hashlib import md5
from pathlib import Path
from typing import Any

import pika
import pytest

from amqp_broker.broker.passwords import ARGON2ID, MD5, SHA256, PasswordHash, hash_password, strong_hash
from tests.conversations import codec
from tests.conversations.codec import METHOD, Frame
from tests.server.broker_process import BrokerProcess, installed_command

PATIENCE = 30.0


def user(name: str, password: PasswordHash) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": b64encode(password.octets).decode(),
        "hashing_algorithm": password.algorithm,
        "tags": [],
    }


def definitions(*users: dict[str, Any]) -> str:
    rights = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return json.dumps(
        {"users": users, "permissions": [{"user": row["name"], **rights} for row in users], "vhosts": []}
    )


def connect(broker: BrokerProcess, name: str, password: str) -> None:
    credentials = pika.PlainCredentials(name, password)
    pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", broker.port, "/", credentials, connection_attempts=1)
    ).close()


def run(*command: str) -> None:
    done = subprocess.run(
        [*installed_command(), *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def exported(broker: BrokerProcess) -> dict[str, dict[str, Any]]:
    """The users of the stopped broker, by name."""
    file = broker.data.with_name("exported.json")
    run("definitions", "export", str(file), "--data-dir", str(broker.data))
    return {row["name"]: row for row in json.loads(file.read_text())["users"]}


def wait_for(broker: BrokerProcess, line: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while line not in broker.stderr():
        assert time.monotonic() < deadline, broker.stderr()
        time.sleep(0.02)


@pytest.fixture
def loading(own_broker: BrokerProcess, tmp_path: Path) -> BrokerProcess:
    """A broker that loads `definitions.json` at every start."""
    config = tmp_path / "broker.toml"
    config.write_text(f'[data]\nload_definitions = "{tmp_path}/definitions.json"\n')
    own_broker.arguments = ["--config", str(config)]
    return own_broker


@pytest.mark.parametrize("algorithm", [SHA256, MD5])
def test_a_better_hash_lasts_even_where_the_old_one_is_loaded_again(
    loading: BrokerProcess, tmp_path: Path, algorithm: str
) -> None:
    digests = {SHA256: hash_password("wonderland").octets, MD5: b"salt" + md5(b"saltwonderland").digest()}
    old = PasswordHash(algorithm, digests[algorithm])
    (tmp_path / "definitions.json").write_text(definitions(user("alice", old)))
    loading.start()
    connect(loading, "alice", "wonderland")
    wait_for(loading, "the password of user 'alice' is kept by argon2id from now on")
    for _ in range(2):
        assert loading.stop() == 0
        row = exported(loading)["alice"]
        assert row["hashing_algorithm"] == ARGON2ID
        assert PasswordHash(ARGON2ID, b64decode(row["password_hash"])).is_of(b"wonderland")
        loading.start()
        connect(loading, "alice", "wonderland")
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            connect(loading, "alice", "Wonderland")
    assert "is kept by argon2id" not in loading.stderr()


def test_an_export_with_hashes_by_argon2id_can_be_imported(own_broker: BrokerProcess, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(definitions(user("alice", strong_hash(b"wonderland"))))
    run("definitions", "import", str(file), "--data-dir", str(own_broker.data))
    own_broker.start()
    connect(own_broker, "alice", "wonderland")
    assert own_broker.stop() == 0


def start_ok(name: str, password: str) -> bytes:
    arguments = {"mechanism": "PLAIN", "response": f"\0{name}\0{password}"}
    return Frame(METHOD, 0, codec.encode_method("connection.start-ok", arguments)).encoded()


def stranger(port: int, name: str, password: str) -> socket.socket:
    """A client that has sent its name and password and waits."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    opened.sendall(b"AMQP\x00\x00\x09\x01" + start_ok(name, password))
    return opened


def test_others_work_while_many_log_in(own_broker: BrokerProcess) -> None:
    # Not always, as the machine may do something else until all have been refused.
    for _ in range(3):
        own_broker.start()
        answered = answered_while_many_log_in(own_broker, 60)
        assert own_broker.stop() == 0
        assert "Traceback" not in own_broker.stderr()
        if answered > 10:
            break
    # In line with the hashes, the first would be answered after all of them.
    assert answered > 10


def answered_while_many_log_in(broker: BrokerProcess, many: int) -> int:
    """How often somebody else is answered before the last of them has been refused."""
    answered_meanwhile = 0
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection:
        channel = connection.channel()
        strangers = [stranger(broker.port, f"user {n}", "guess") for n in range(many)]
        deadline = time.monotonic() + PATIENCE
        while refused(broker) < many:
            assert time.monotonic() < deadline, broker.stderr()
            channel.queue_declare("", exclusive=True, auto_delete=True)
            answered_meanwhile += refused(broker) < many
        for each in strangers:
            each.close()
    return answered_meanwhile


def refused(broker: BrokerProcess) -> int:
    """How many strangers have been told so."""
    log = broker.stderr()
    return log.count("invalid credentials") + log.count("too many")


def test_a_start_does_not_import_what_only_a_login_needs() -> None:
    source = (
        "import sys, amqp_broker.server.main\n"
        "print({'argon2', 'http.client', 'concurrent.futures.thread', 'cffi'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "set()\n", done.stderr
