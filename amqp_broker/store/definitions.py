"""How definitions are kept: the keys and values of `defs`.

Apart from `records` so that the writer process, to which both are mere bytes, need not load msgpack and
digests.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from amqp_broker.broker.ports import Definition

# LMDB takes no key longer than this.
LONGEST_KEY: Final = 511


def definition_key(kind: str, key: bytes) -> bytes:
    """The LMDB key of a definition: its kind and key, or a digest in place of a key that is too long."""
    plain = b"k" + kind.encode() + b"\0" + key
    if len(plain) <= LONGEST_KEY:
        return plain
    return b"h" + kind.encode() + b"\0" + hashlib.sha256(key).digest()


def encode_definition(definition: Definition) -> bytes:
    """The value of a definition; raises TypeError for what msgpack cannot hold."""
    return msgspec.msgpack.encode((definition.kind, definition.key, definition.value))


def decode_definition(value: bytes) -> Definition:
    """Read such a value; raises ValueError if it is not one."""
    kind, key, plain = msgspec.msgpack.decode(value, type=tuple[str, bytes, dict[str, object]])
    return Definition(kind, key, plain)
