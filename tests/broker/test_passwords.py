"""Password hashes: RabbitMQ's are understood, and a hash fits its password and no other."""

from __future__ import annotations

from base64 import b64decode
from hashlib import md5, sha512

import pytest

from amqp_broker.broker.passwords import MD5, SHA256, SHA512, PasswordHash, hash_password

# `rabbitmqctl add_user alice wonderland`, RabbitMQ 3.10.8
ALICE = b64decode("qm7mByfRaR9OmgzvrIcyDgjW8NS+olCK3R8LXHZb9hAUyAy/")
SALT = b"salt"


def test_a_hash_that_rabbitmq_made_fits() -> None:
    password = PasswordHash(SHA256, ALICE)
    assert password.is_well_formed
    assert password.is_of(b"wonderland")
    assert not password.is_of(b"Wonderland")


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [(SHA512, sha512(SALT + b"secret").digest()), (MD5, md5(SALT + b"secret").digest())],
)
def test_its_other_algorithms_fit_too(algorithm: str, digest: bytes) -> None:
    password = PasswordHash(algorithm, SALT + digest)
    assert password.is_well_formed
    assert password.is_of(b"secret")
    assert not password.is_of(b"")


def test_each_hash_has_its_own_salt() -> None:
    one, other = hash_password("é"), hash_password("é")
    assert one.octets != other.octets
    assert one.is_of("é".encode())
    assert other.is_of("é".encode())


def test_without_a_password_nobody_gets_in() -> None:
    nothing = PasswordHash(SHA256, b"")
    assert nothing.is_well_formed
    assert not nothing.is_of(b"")
    assert not hash_password("").is_of(b"")


@pytest.mark.parametrize(
    "password", [PasswordHash("rot13", ALICE), PasswordHash(SHA512, ALICE), PasswordHash(SHA256, ALICE[:-1])]
)
def test_a_hash_of_another_length_or_algorithm_is_malformed(password: PasswordHash) -> None:
    assert not password.is_well_formed
