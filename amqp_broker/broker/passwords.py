"""Hashes of passwords: argon2id, by which they are kept, and the salted digests that RabbitMQ keeps.

A hash says whether a password is the right one; the password cannot be had from it. With argon2id each answer takes
about 20 ms and 19 MiB, so whoever serves clients asks in a thread; that it may be imported takes longer still, so it
is imported by the first hash. RabbitMQ's digests are had at once, by an attacker too: they are only good until a
hash by argon2id can take their place.
"""

from __future__ import annotations

import hmac
import os
import re
from hashlib import md5, sha256, sha512
from typing import Final

SALT_SIZE: Final = 4

# By RabbitMQ's names, as they stand in definitions: a salt of four octets, and the digest of salt and password.
SHA256: Final = "rabbit_password_hashing_sha256"
SHA512: Final = "rabbit_password_hashing_sha512"
MD5: Final = "rabbit_password_hashing_md5"
DIGEST_SIZES: Final[dict[str, int]] = {SHA256: 32, SHA512: 64, MD5: 16}

# A name of our own, of which RabbitMQ knows nothing: its octets are the usual text `$argon2id$v=19$m=...`.
ARGON2ID: Final = "amqp_broker_password_hashing_argon2id"
# The least that OWASP's password storage cheat sheet recommends: KiB of memory, passes over it, lanes.
MEMORY: Final = 19456
PASSES: Final = 2
LANES: Final = 1
ARGON2_SALT_SIZE: Final = 16
ARGON2_SIZE: Final = 32
_CURRENT: Final = f"$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}$".encode()
_ARGON2: Final = re.compile(
    rb"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,3})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
# What a hash from elsewhere may ask for: as it is made for a login, it bounds what a login costs.
MOST_MEMORY: Final = 262144
MOST_PASSES: Final = 16
MOST_LANES: Final = 16


class PasswordHash:
    """algorithm: a key of DIGEST_SIZES, or ARGON2ID. octets: b"" for a user who has no password.

    replaced: the fingerprint of the first hash in whose place this one was put at a login; b"" if there was none.
    """

    __slots__ = ("algorithm", "octets", "replaced")

    def __init__(self, algorithm: str, octets: bytes, replaced: bytes = b"") -> None:
        self.algorithm: str = algorithm
        self.octets: bytes = octets
        self.replaced: bytes = replaced

    def is_of(self, password: bytes) -> bool:
        """Whether this is the hash of the password; of no password if there is none, nor of the empty one."""
        if not self.octets or not password:
            return False
        if self.algorithm == ARGON2ID:
            return _verify_argon2(self.octets, password)
        salt = self.octets[:SALT_SIZE]
        return hmac.compare_digest(self.octets, salt + _digest(self.algorithm, salt + password))

    @property
    def is_costly(self) -> bool:
        """Whether `is_of` takes its time, and may not be asked where others wait."""
        return self.algorithm == ARGON2ID

    @property
    def is_current(self) -> bool:
        """Whether `strong_hash` would make it as it is; else it is replaced when the password is next seen."""
        return self.algorithm == ARGON2ID and self.octets.startswith(_CURRENT)

    @property
    def is_well_formed(self) -> bool:
        if self.algorithm == ARGON2ID:
            return not self.octets or _is_argon2(self.octets)
        size = DIGEST_SIZES.get(self.algorithm)
        return size is not None and len(self.octets) in (0, SALT_SIZE + size)

    @property
    def fingerprint(self) -> bytes:
        return sha256(self.algorithm.encode() + b"\0" + self.octets).digest()

    def stands_for(self, other: PasswordHash) -> bool:
        """Whether this hash was put in the place of the other: both are of one password."""
        return self.replaced != b"" and self.replaced == other.fingerprint


def hash_password(password: str) -> PasswordHash:
    """A digest with a salt of its own, at once: for what is not kept, or is there to be read beside it."""
    salt = os.urandom(SALT_SIZE)
    return PasswordHash(SHA256, salt + _digest(SHA256, salt + password.encode("utf-8", "surrogateescape")))


def strong_hash(password: bytes, replaced: PasswordHash | None = None) -> PasswordHash:
    """A hash to be kept, by argon2id. It takes its time.

    replaced: the hash of the same password whose place it takes. Raises MemoryError where there is none.
    """
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret

    salt = os.urandom(ARGON2_SALT_SIZE)
    try:
        octets: bytes = hash_secret(password, salt, PASSES, MEMORY, LANES, ARGON2_SIZE, Type.ID)
    except HashingError as error:
        raise MemoryError(str(error)) from None
    first = b"" if replaced is None else replaced.replaced or replaced.fingerprint
    return PasswordHash(ARGON2ID, octets, first)


def _verify_argon2(octets: bytes, password: bytes) -> bool:
    from argon2.exceptions import VerificationError, VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    try:
        return bool(verify_secret(octets, password, Type.ID))
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise MemoryError(str(error)) from None


def _is_argon2(octets: bytes) -> bool:
    found = _ARGON2.fullmatch(octets)
    if found is None:
        return False
    memory, passes, lanes = int(found[1]), int(found[2]), int(found[3])
    return 8 * lanes <= memory <= MOST_MEMORY and 1 <= passes <= MOST_PASSES and 1 <= lanes <= MOST_LANES


def _digest(algorithm: str, octets: bytes) -> bytes:
    if algorithm == SHA512:
        return sha512(octets).digest()
    if algorithm == MD5:
        # Of users whose passwords are older than RabbitMQ 3.6.
        return md5(octets, usedforsecurity=False).digest()
    return sha256(octets).digest()
