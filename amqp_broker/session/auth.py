"""SASL as AMQP 0-9-1 clients use it: what a client says of itself, and who is asked whether it is true.

The mechanisms that carry a password are in `MECHANISMS`; EXTERNAL goes by the client's certificate. Whether a login is
right is the business of an `Authenticator`, which may take its time over it: nothing here knows how it comes to its
answer. A login is refused with a reason that is for the log: the client learns nothing from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from amqp_broker.content.table import TableError, read_entries

if TYPE_CHECKING:
    from amqp_broker.session.connection import Connection
    from amqp_broker.session.handshake import Login, Opening

EXTERNAL: Final = "EXTERNAL"

# Of a name in a log line, characters.
LONGEST_SHOWN: Final = 255


class LoginRefused(Exception):
    """The client did not prove who it is."""


class MalformedResponse(LoginRefused):
    """What the client sent is not an answer in an offered mechanism; it is told nothing, not even that."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Authenticator(ABC):
    """Says who may log in. A question is answered by its `allow`, `refuse` or `drop`, once, at once or later.

    Later means in a turn of its own, and only while the question is `wanted`. Until then the client is not heard.
    """

    __slots__ = ()

    def greeted(self, connection: Connection) -> None:
        """A client has sent its first octets. Many never do: who looks whether anybody listens."""
        return

    @abstractmethod
    def log_in(self, login: Login) -> None:
        """A client says who it is."""

    @abstractmethod
    def open_vhost(self, opening: Opening) -> None:
        """A client whose login asked for that wants to open a virtual host which the permissions here allow."""


@mypyc_attr(allow_interpreted_subclasses=True)
class OwnUsers(Authenticator):
    """Goes by the users of the broker and answers at once, however long the hash takes: for who serves nobody else."""

    __slots__ = ()

    def log_in(self, login: Login) -> None:
        user = login.connection.broker.users.get(login.name)
        if user is None or (login.password is not None and not user.password.is_of(login.password)):
            login.refuse(invalid_credentials(login.name), login.asked)
        elif login.comes_from_outside:
            login.refuse(only_from_here(login.name), login.asked)
        else:
            login.allow(user, login.asked)

    def open_vhost(self, opening: Opening) -> None:
        opening.allow(opening.asked)


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


def read_response(mechanism: str, response: bytes, certified: str) -> tuple[str, bytes | None]:
    """Who the client says it is, and its password; None for one who goes by a certificate.

    certified: the name in the certificate that the client showed, "" if it showed none. Raises LoginRefused.
    """
    if mechanism == EXTERNAL:
        if not certified:
            raise LoginRefused("no client certificate that names a user")
        if response and response != certified.encode("utf-8", "surrogateescape"):
            raise LoginRefused(f"the certificate of '{shown(certified)}' is none of another user")
        return certified, None
    read = MECHANISMS.get(mechanism)
    if read is None:
        raise MalformedResponse(f"unknown authentication mechanism '{shown(mechanism)}'")
    name, password = read(response)
    return name.decode("utf-8", "surrogateescape"), password


def invalid_credentials(name: str) -> str:
    return f"user '{shown(name)}' - invalid credentials"


def only_from_here(name: str) -> str:
    return f"user '{shown(name)}' can only connect via localhost"


def shown(name: str) -> str:
    """What a stranger sent, as a log line may hold it: on one line, and not of any length."""
    if name.isprintable() and len(name) <= LONGEST_SHOWN:
        return name
    return "".join([letter if letter.isprintable() else "\ufffd" for letter in name[:LONGEST_SHOWN]])
