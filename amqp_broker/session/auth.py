"""SASL as AMQP 0-9-1 clients use it: who is asking, and may they log in.

The mechanisms are in `MECHANISMS`. A login is refused with `LoginRefused`, whose text is for the log: the client
learns nothing from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from amqp_broker.broker.access import User
from amqp_broker.broker.broker import Broker
from amqp_broker.content.table import TableError, read_entries


class LoginRefused(Exception):
    """The client did not prove who it is, or may not come from where it comes from."""


class MalformedResponse(LoginRefused):
    """What the client sent is not an answer in an offered mechanism; it is told nothing, not even that."""


def plain(response: bytes) -> tuple[bytes, bytes]:
    """PLAIN (RFC 4616): user and password, each after a NUL; an authorisation identity is not taken."""
    parts = response.split(b"\x00")
    if len(parts) != 3 or parts[0]:
        raise MalformedResponse("malformed PLAIN response")
    return parts[1], parts[2]


def amqplain(response: bytes) -> tuple[bytes, bytes]:
    """AMQPLAIN: the entries of a field table, LOGIN and PASSWORD, without the table's length."""
    try:
        entries = read_entries(response)
    except TableError as error:
        raise MalformedResponse(f"malformed AMQPLAIN response: {error}") from None
    login, password = entries.get("LOGIN"), entries.get("PASSWORD")
    if login is None or password is None:
        raise MalformedResponse("AMQPLAIN response lacks LOGIN or PASSWORD")
    name, secret = login.value, password.value
    if not isinstance(name, bytes) or not isinstance(secret, bytes):
        raise MalformedResponse("LOGIN and PASSWORD must be strings")
    return name, secret


MECHANISMS: Final[dict[str, Callable[[bytes], tuple[bytes, bytes]]]] = {"PLAIN": plain, "AMQPLAIN": amqplain}


def login(broker: Broker, mechanism: str, response: bytes) -> User:
    """The user who is logging in. Raises LoginRefused."""
    read_response = MECHANISMS.get(mechanism)
    if read_response is None:
        raise MalformedResponse(f"unknown authentication mechanism '{mechanism}'")
    name, password = read_response(response)
    user = broker.users.get(name.decode("utf-8", "surrogateescape"))
    if user is None or not user.password.is_of(password):
        raise LoginRefused(f"user '{name.decode('utf-8', 'replace')}' - invalid credentials")
    return user
