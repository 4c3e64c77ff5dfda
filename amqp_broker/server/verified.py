"""What was found true lately, without keeping what it was: a password that fitted, an answer of a service.

What is kept is a keyed digest; the key is made at the start and never leaves the process. So a password cannot be read
out of it, and a digest fits nothing any more once one of its parts has changed, such as the stored hash of the user.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from typing import Final

MOST_REMEMBERED: Final = 10_000


class Verified:
    """lasts: seconds for which something counts as true; 0 for as long as there is room."""

    def __init__(self, lasts: float = 0.0) -> None:
        self._lasts = lasts
        self._secret = os.urandom(32)
        self._since: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def key(self, *parts: bytes) -> bytes:
        """A digest of these octets: by which they are remembered, and by which equal questions are known."""
        framed = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
        return hmac.digest(self._secret, framed, "sha256")

    def holds(self, key: bytes, now: float) -> bool:
        since = self._since.get(key)
        if since is None:
            return False
        if self._lasts and now - since >= self._lasts:
            del self._since[key]
            return False
        self._since.move_to_end(key)
        return True

    def remember(self, key: bytes, now: float) -> None:
        self._since[key] = now
        self._since.move_to_end(key)
        if len(self._since) > MOST_REMEMBERED:
            self._since.popitem(last=False)
