"""To get in, or up, by a file of definitions: what somebody hands to an operator to load."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conversations.client import Channel
from tests.penetration.site import FULL, SALT, Site, digest, permission, plain, refused, user
from tests.penetration.test_logins import is_refused
from tests.server.broker_process import installed_command

ARGON2ID = "amqp_broker_password_hashing_argon2id"


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def refusal_of(site: Site, text: bytes) -> str:
    """Load a file that has to be refused whole; returns what is said."""
    before = len(site.process.stderr())
    site.definitions.write_bytes(text)
    site.process.send_signal(signal.SIGHUP)
    site.logs("loaded nothing of", before)
    return site.process.stderr()[before:]


def is_not_loaded(site: Site, **rows: Any) -> str:
    """The same for a file with these rows and a new user before them, who must not be there then."""
    users = [user("smuggled"), *rows.pop("users", [])]
    said = refusal_of(site, json.dumps({"users": users} | rows).encode())
    assert is_refused(site.asks_in(plain("smuggled")))
    return said


HASHES: dict[str, dict[str, Any]] = {
    "of no length": {"password_hash": encoded(SALT)},
    "too short": {"password_hash": encoded(SALT + bytes(31))},
    "too long": {"password_hash": encoded(SALT + bytes(33))},
    "of another algorithm": {
        "password_hash": digest("x"),
        "hashing_algorithm": "rabbit_password_hashing_sha512",
    },
    "by nothing known": {"password_hash": digest("x"), "hashing_algorithm": "rabbit_password_hashing_plain"},
    "by no algorithm": {"password_hash": "eA==", "hashing_algorithm": ""},
    "no base64": {"password_hash": "%%%%"},
    "a number": {"password_hash": 7},
    "argon2i": {"password_hash": encoded(b"$argon2i$v=19$m=19456,t=2,p=1$" + b"a" * 22 + b"$" + b"a" * 43)},
    "of 4 GiB": {
        "password_hash": encoded(b"$argon2id$v=19$m=4194304,t=2,p=1$" + b"a" * 22 + b"$" + b"a" * 43)
    },
    "of a thousand passes": {
        "password_hash": encoded(b"$argon2id$v=19$m=64,t=999,p=1$" + b"a" * 22 + b"$" + b"a" * 43)
    },
    "cut off": {"password_hash": encoded(b"$argon2id$v=19$m=19456,t=2,p=1$")},
}


@pytest.mark.parametrize("row", HASHES.values(), ids=HASHES)
def test_a_hash_that_fits_everything_or_costs_everything_is_not_loaded(
    site: Site, row: dict[str, Any]
) -> None:
    if str(row["password_hash"]).startswith("JGFy"):
        row = {"hashing_algorithm": ARGON2ID} | row
    said = is_not_loaded(site, users=[user("odd", **row)])
    assert "$.users[1]" in said
    assert is_refused(site.asks_in(plain("odd", "")))


def test_a_user_without_any_hash_is_not_loaded_as_one_without_a_password(site: Site) -> None:
    for row in ({"name": "odd", "tags": ""}, {"name": "odd", "tags": "", "password_hash": None}):
        assert "password_hash: missing" in is_not_loaded(site, users=[row])


def test_a_file_with_one_mistake_at_its_end_changes_nothing_at_its_beginning(site: Site) -> None:
    rights = [permission("mallory"), permission("mallory", vhost="secret")]
    said = is_not_loaded(site, permissions=rights, bindings=[{"source": "x"}])
    assert "$.bindings[0].destination: missing" in said
    mallory = site.channel("mallory")
    mallory.send("queue.declare", queue="not-mine")
    refused(mallory, 403)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "[z-a]",
        "(?R)",
        "(?{system('id')})",
        r"\p{L}",
        "a{5,1}",
        "(?P<n>a)(?P<n>b)",
        "\\",
        "*",
        "(?<=a+)b",
    ],
)
def test_a_pattern_that_means_nothing_is_no_permission_for_everything(site: Site, pattern: str) -> None:
    rights = FULL | {"read": pattern}
    assert "not a regular expression" in is_not_loaded(site, permissions=[permission("stranger", rights)])


def test_an_empty_pattern_is_a_right_to_nothing(site: Site) -> None:
    site.reload(
        users=[user("empty")], permissions=[permission("empty", {"configure": "", "write": "", "read": ""})]
    )
    channel: Channel = site.channel("empty")
    channel.send("queue.declare", queue="x")
    refused(channel, 403)
    channel.send("basic.get", queue="bystander")
    refused(channel, 403)
    channel.publish(b"x", routing_key="bystander")
    refused(channel, 403)


def test_the_exchanges_and_queues_of_the_broker_itself_are_not_replaced(site: Site) -> None:
    before = len(site.process.stderr())
    rows = {
        "exchanges": [{"vhost": "/", "name": "amq.topic", "type": "fanout", "durable": True}],
        "queues": [{"vhost": "/", "name": "amq.rabbitmq.reply-to.x", "durable": True, "auto_delete": False}],
    }
    site.definitions.write_text(json.dumps(rows))
    site.process.send_signal(signal.SIGHUP)
    site.logs("loaded definitions", before)
    assert site.process.stderr()[before:].count("is not loaded: its name is reserved") == 2
    channel = site.channel("boss")
    channel.send("exchange.declare", exchange="amq.topic", type="fanout", durable=True)
    assert "current is 'topic'" in refused(channel, 406)


FILES = {
    "deep": "[" * 100_000,
    "no text": "\udcff\udcfe",
    "half a character": '{"users": [{"name": "\\ud800", "password_hash": ""}]}',
    "a version that is a digit and no number": '{"rabbitmq_version": "²", "users": 1}',
    "a version of many digits": '{"rabbitmq_version": "' + "9" * 5000 + '", "users": 1}',
    "a huge number": '{"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 1e999}}]}',
    "a list": "[]",
    "cut off": '{"users": [',
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_that_is_none_is_refused_in_words(site: Site, text: str) -> None:
    """No traceback, whatever is in it."""
    assert f"definitions of {site.definitions}: $" in refusal_of(
        site, text.encode("utf-8", "surrogateescape")
    )


def test_an_export_is_for_its_owners_eyes_only(site: Site, tmp_path: Path) -> None:
    """It holds the hashes of passwords."""
    file = tmp_path / "exported.json"
    command = [*installed_command(), "definitions", "export", "--data-dir", str(site.process.data), str(file)]
    subprocess.run(["sh", "-c", 'umask 022; exec "$@"', "sh", *command], check=True, timeout=50)
    assert "password_hash" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
