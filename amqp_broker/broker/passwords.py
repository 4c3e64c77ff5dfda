"""Passwords as RabbitMQ keeps them: a salt of four octets, and the digest of salt and password.

A hash says whether a password is the right one; the password cannot be had from it.
"""

from __future__ import annotations

import hmac
import os
from hashlib import md5, sha256, sha512
from typing import Final

SALT_SIZE: Final = 4

# By RabbitMQ's names, as they stand in definitions.
SHA256: Final = "rabbit_password_hashing_sha256"
SHA512: Final = "rabbit_password_hashing_sha512"
MD5: Final = "rabbit_password_hashing_md5"
DIGEST_SIZES: Final[dict[str, int]] = {SHA256: 32, SHA512: 64, MD5: 16}


class PasswordHash:
    """algorithm: a key of DIGEST_SIZES. octets: salt and digest; b"" for a user who has no password."""

    __slots__ = ("algorithm", "octets")

    def __init__(self, algorithm: str, octets: bytes) -> None:
        self.algorithm: str = algorithm
        self.octets: bytes = octets

    def is_of(self, password: bytes) -> bool:
        """Whether this is the hash of the password; of no password if there is none, nor of the empty one."""
        if not self.octets or not password:
            return False
        salt = self.octets[:SALT_SIZE]
        return hmac.compare_digest(self.octets, salt + _digest(self.algorithm, salt + password))

    @property
    def is_well_formed(self) -> bool:
        size = DIGEST_SIZES.get(self.algorithm)
        return size is not None and len(self.octets) in (0, SALT_SIZE + size)


def hash_password(password: str) -> PasswordHash:
    """A new hash, with a salt of its own."""
    salt = os.urandom(SALT_SIZE)
    return PasswordHash(SHA256, salt + _digest(SHA256, salt + password.encode("utf-8", "surrogateescape")))


def _digest(algorithm: str, octets: bytes) -> bytes:
    if algorithm == SHA512:
        return sha512(octets).digest()
    if algorithm == MD5:
        # Of users whose passwords are older than RabbitMQ 3.6.
        return md5(octets, usedforsecurity=False).digest()
    return sha256(octets).digest()
