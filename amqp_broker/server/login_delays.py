"""How long a login has to wait before it is looked at, because of wrong passwords before it.

Wrong passwords are counted by address and by user name, whether or not there is such a user. A user who has logged in
from an address is known there, and only wrong passwords for that user from that address count for both: whoever
guesses elsewhere does not slow them down, nor does a neighbour with another user's wrong password. Elsewhere a user
who is being guessed at waits, for no longer than `most`, and is let in: nobody can lock somebody out.

Memory is bounded; who was not seen for longest is forgotten first. Time is handed in.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from hashlib import blake2b
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")

# Wrong passwords that cost nothing: people mistype.
FREE: Final = 5
# The first wait, seconds; each wrong password doubles it.
FIRST: Final = 0.1
# Seconds in which one wrong password is forgotten.
FORGIVEN: Final = 20.0
# Not more wrong passwords than this are remembered: after an attack it is over sooner or later.
MOST_COUNTED: Final = 12
# Addresses, users, and users at addresses that are remembered, each.
MOST_KNOWN: Final = 10_000
_MAPPED: Final = bytes(10) + b"\xff\xff"


class _Failures:
    """How many wrong passwords there were, and when the last one was."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def at(self, now: float) -> int:
        return max(0, self.count - int((now - self.last) / FORGIVEN))

    def add(self, now: float) -> None:
        self.count = min(self.at(now) + 1, MOST_COUNTED)
        self.last = now


class _Recent(Generic[Key]):
    """Failures by key, of the keys that were seen last."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[Key, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: Key) -> _Failures | None:
        found = self._by_key.get(key)
        if found is not None:
            self._by_key.move_to_end(key)
        return found

    def at(self, key: Key, now: float) -> int:
        found = self.get(key)
        return 0 if found is None else found.at(now)

    def have(self, key: Key) -> _Failures:
        found = self.get(key)
        if found is None:
            found = self._by_key[key] = _Failures()
            if len(self._by_key) > MOST_KNOWN:
                self._by_key.popitem(last=False)
        return found


class LoginDelays:
    """most: seconds; 0 for no delays at all."""

    def __init__(self, most: float) -> None:
        self._most = most
        # So that what is kept of a name says nothing to who reads the memory, and names of any length take the same.
        self._secret = os.urandom(16)
        self._addresses: _Recent[bytes] = _Recent()
        self._users: _Recent[bytes] = _Recent()
        self._known: _Recent[tuple[bytes, bytes]] = _Recent()

    def delay(self, address: str, name: str, now: float) -> float:
        """Seconds for a login of this user from this address; 0 for one that is looked at at once."""
        by_address, by_user = network_of(address), self._user(name)
        known = self._known.get((by_address, by_user))
        if known is not None:
            count = known.at(now)
        else:
            count = max(self._addresses.at(by_address, now), self._users.at(by_user, now))
        return 0.0 if count < FREE else min(self._most, FIRST * 2 ** (count - FREE))

    def failed(self, address: str, name: str, now: float) -> None:
        by_address, by_user = network_of(address), self._user(name)
        self._addresses.have(by_address).add(now)
        self._users.have(by_user).add(now)
        known = self._known.get((by_address, by_user))
        if known is not None:
            known.add(now)

    def succeeded(self, address: str, name: str) -> None:
        """The user is known at this address from now on. What was counted stays: a guesser may have an account, too."""
        self._known.have((network_of(address), self._user(name)))

    @property
    def remembered(self) -> int:
        return len(self._addresses) + len(self._users) + len(self._known)

    def _user(self, name: str) -> bytes:
        return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16, key=self._secret).digest()


def line_of(address: str) -> str:
    """In whose line a login waits: that of all that counts as one address."""
    return network_of(address).hex()


def network_of(address: str) -> bytes:
    """What counts as one address: an IPv4 address, or the 64 bits of an IPv6 address that its owner did not choose."""
    if ":" in address:
        try:
            octets = socket.inet_pton(socket.AF_INET6, address.strip("[]").partition("%")[0])
        except OSError:
            return address[:64].encode("utf-8", "replace")
        return octets[12:] if octets.startswith(_MAPPED) else octets[:8]
    try:
        return socket.inet_aton(address)
    except OSError:
        return address[:64].encode("utf-8", "replace")
