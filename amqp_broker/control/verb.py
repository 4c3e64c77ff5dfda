"""The form of a verb, the error by which it refuses, and the look-ups that most verbs begin with.

A verb is run in a turn of the broker, whole or not at all. Work that takes its time, such as a hash, it hands out
first, to be done in a thread. One that would take too long for a turn, `Long`, can be run in several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from amqp_broker.broker.access import User
    from amqp_broker.broker.queue import Queue
    from amqp_broker.broker.vhost import VirtualHost
    from amqp_broker.control.node import Node

LONGEST_NAME: Final = 255

# Kinds of refusals.
NOT_FOUND: Final = "not_found"
EXISTS: Final = "exists"
INVALID: Final = "invalid"
IMPOSSIBLE: Final = "impossible"
INTERNAL: Final = "internal"


# One that the store can keep.
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Refused(Exception):
    """Nothing was done. kind: one of those above; the text is one line for whoever asked."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a verb is given; each has a kind of its own."""


G = TypeVar("G", bound=Given)


class Verb(ABC, Generic[G]):
    """given: the type of what it takes. changes: what it does is to be durable before it is answered."""

    def __init__(self, given: type[G], *, changes: bool) -> None:
        self.given = given
        self.changes = changes

    @abstractmethod
    def work(self, node: Node, given: G) -> Callable[[], object] | None:
        """What to do in a thread first; None if there is nothing. Raises Refused."""

    @abstractmethod
    def run(self, node: Node, given: G, found: Any) -> object:
        """Do it; returns plain data. found: what the work came to. Raises Refused."""


class Quick(Verb[G]):
    """A verb that is done at once."""

    def __init__(self, given: type[G], do: Callable[[Node, G], object], *, changes: bool = True) -> None:
        super().__init__(given, changes=changes)
        self._do = do

    def work(self, node: Node, given: G) -> None:
        return None

    def run(self, node: Node, given: G, found: Any) -> object:
        return self._do(node, given)


class Slow(Verb[G]):
    """A verb that is done with what a thread has found out."""

    def __init__(
        self,
        given: type[G],
        work: Callable[[Node, G], Callable[[], object]],
        do: Callable[[Node, G, Any], object],
        *,
        changes: bool = True,
    ) -> None:
        super().__init__(given, changes=changes)
        self._work = work
        self._do = do

    def work(self, node: Node, given: G) -> Callable[[], object]:
        return self._work(node, given)

    def run(self, node: Node, given: G, found: Any) -> object:
        return self._do(node, given, found)


class Long(Slow[G]):
    """A verb that is done in steps, between which others may have their turns. do: what it returns is the result."""

    def __init__(
        self,
        given: type[G],
        work: Callable[[Node, G], Callable[[], object]],
        do: Callable[[Node, G, Any], Generator[None, None, object]],
    ) -> None:
        super().__init__(given, work, self._whole)
        self.steps = do

    def _whole(self, node: Node, given: G, found: Any) -> object:
        steps = self.steps(node, given, found)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value


def user_named(node: Node, name: str) -> User:
    user = node.broker.users.get(name)
    if user is None:
        raise Refused(NOT_FOUND, f"user '{name}' does not exist")
    return user


def vhost_named(node: Node, name: str) -> VirtualHost:
    vhost = node.broker.vhosts.get(name)
    if vhost is None:
        raise Refused(NOT_FOUND, f"virtual host '{name}' does not exist")
    return vhost


def queue_named(vhost: VirtualHost, name: str) -> Queue:
    queue = vhost.queues.get(name)
    if queue is None:
        raise Refused(NOT_FOUND, f"queue '{name}' in virtual host '{vhost.name}' does not exist")
    return queue


def vhosts_named(node: Node, name: str | None) -> list[VirtualHost]:
    """That one, or all by their names."""
    if name is not None:
        return [vhost_named(node, name)]
    return [node.broker.vhosts[each] for each in sorted(node.broker.vhosts)]


def check_name(what: str, name: str) -> None:
    """Raises Refused for a name that nothing new may have. what: in words, "a user"."""
    if not name:
        raise Refused(INVALID, f"the name of {what} cannot be empty")
    if len(name.encode()) > LONGEST_NAME:
        raise Refused(INVALID, f"the name of {what} is longer than {LONGEST_NAME} bytes")
