"""Which passwords have fitted lately, without keeping them.

What is kept is a keyed digest; the key is made at the start and never leaves the process. So a password cannot be read
out of it, and a digest fits nothing any more once one of its parts has changed, such as the stored hash of the user.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from typing import Final

MOST_REMEMBERED: Final = 10_000


class Digests:
    """Digests by a key of their own, which never leaves the process."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)

    def key(self, *parts: bytes) -> bytes:
        """A digest of these octets: by which they are remembered, and by which equal questions are known."""
        framed = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
        return hmac.digest(self._secret, framed, "sha256")


class Verified(Digests):
    """Digests of what was true, for as long as there is room."""

    def __init__(self) -> None:
        super().__init__()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, key: bytes) -> bool:
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    def remember(self, key: bytes) -> None:
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
