"""Password hashes: RabbitMQ's are understood, and a hash fits its password and no other."""

from __future__ import annotations

from base64 import b64decode
from hashlib import md5, sha512

import pytest

from amqp_broker.broker.passwords import (
    ARGON2ID,
    MD5,
    MEMORY,
    SHA256,
    SHA512,
    PasswordHash,
    hash_password,
    strong_hash,
)

# `rabbitmqctl add_user alice wonderland`, RabbitMQ 3.10.8
ALICE = b64decode("qm7mByfRaR9OmgzvrIcyDgjW8NS+olCK3R8LXHZb9hAUyAy/")
SALT = b"salt"
# "password" and "somesalt16octets" with other costs, by argon2-cffi
ELSEWHERE = b"$argon2id$v=19$m=64,t=1,p=2$c29tZXNhbHQxNm9jdGV0cw$s7JAQ/fQLGOqZyToRSoRwUzoE4YE9Pmesvc7ODnpknA"


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


def test_a_hash_to_be_kept_fits_its_password_and_no_other() -> None:
    password = strong_hash("pässword".encode())
    assert password.is_well_formed
    assert password.is_costly
    assert password.is_current
    assert password.is_of("pässword".encode())
    assert not password.is_of(b"password")
    assert not password.is_of(b"")
    assert strong_hash(b"same").octets != strong_hash(b"same").octets


def test_nobody_has_the_empty_password() -> None:
    assert not strong_hash(b"").is_of(b"")


def test_an_argon2id_hash_from_elsewhere_fits_and_is_out_of_date() -> None:
    password = PasswordHash(ARGON2ID, ELSEWHERE)
    assert password.is_well_formed
    assert password.is_of(b"password")
    assert not password.is_of(b"Password")
    assert not password.is_current


def test_digests_are_out_of_date_and_had_at_once() -> None:
    password = PasswordHash(SHA256, ALICE)
    assert not password.is_current
    assert not password.is_costly


@pytest.mark.parametrize(
    "octets",
    [
        b"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$",
        ELSEWHERE.replace(b"argon2id", b"argon2i"),
        ELSEWHERE.replace(b"v=19", b"v=16"),
        ELSEWHERE + b"\n",
        ELSEWHERE + b"\0",
        b"A" * 36,
    ],
)
def test_what_is_no_argon2id_hash_is_malformed(octets: bytes) -> None:
    assert not PasswordHash(ARGON2ID, octets).is_well_formed


@pytest.mark.parametrize(
    "cost", [b"m=262145,t=1,p=2", b"m=64,t=17,p=2", b"m=256,t=1,p=17", b"m=15,t=1,p=2", b"m=64,t=0,p=2"]
)
def test_a_hash_that_would_cost_too_much_is_malformed(cost: bytes) -> None:
    assert not PasswordHash(ARGON2ID, ELSEWHERE.replace(b"m=64,t=1,p=2", cost)).is_well_formed


def test_a_hash_knows_in_whose_place_it_was_put() -> None:
    old = PasswordHash(SHA256, ALICE)
    new = strong_hash(b"wonderland", old)
    assert new.stands_for(old)
    assert new.stands_for(PasswordHash(SHA256, ALICE))
    assert not new.stands_for(PasswordHash(SHA512, ALICE))
    assert not new.stands_for(PasswordHash(SHA256, b""))
    assert not old.stands_for(old)
    assert strong_hash(b"wonderland", new).stands_for(old)


def test_it_takes_the_memory_that_it_says() -> None:
    assert f"$m={MEMORY},".encode() in strong_hash(b"x").octets
