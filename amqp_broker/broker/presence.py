"""What the model knows of an open connection: that it is there, and how to tell it that its rights have changed.

A user and a virtual host list the presences of their connections, which is also how they are counted for the limits.
The session implements the contract and enters and removes itself; nothing here knows of channels or frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from amqp_broker.broker.access import User
    from amqp_broker.broker.vhost import VirtualHost


@mypyc_attr(allow_interpreted_subclasses=True)
class Presence(ABC):
    """A connection of `user` that is open in `vhost`. judged: what it may do is not said by the user's permissions."""

    __slots__ = ("judged", "user", "vhost")

    def __init__(self, user: User, vhost: VirtualHost, judged: bool) -> None:
        self.user: User = user
        self.vhost: VirtualHost = vhost
        self.judged: bool = judged

    @abstractmethod
    def silence(self) -> None:
        """Rights have gone: what consumers may not read any more is not delivered to them from now on.

        Called for all presences that are concerned before the first of them gives anything back or is told.
        """

    @abstractmethod
    def cancel_silenced(self) -> None:
        """Then: take the silenced consumers out of their queues and tell the client."""

    @abstractmethod
    def expel(self, reason: str) -> None:
        """Then, instead: close the connection with 320 and this reason. The presence is not there any more."""


def expel_all(presences: list[Presence], reason: str) -> None:
    """Close these connections, without one of them getting what another gives back."""
    for presence in presences:
        presence.silence()
    for presence in presences:
        presence.expel(reason)


def review(user: User, vhost: VirtualHost) -> None:
    """The rights of a user in a virtual host have changed: have open connections follow at once."""
    concerned = [presence for presence in user.presences if presence.vhost is vhost and not presence.judged]
    if vhost.name not in user.permissions:
        expel_all(concerned, f"access to vhost '{vhost.name}' refused for user '{user.name}'")
        return
    for presence in concerned:
        presence.silence()
    for presence in concerned:
        presence.cancel_silenced()
