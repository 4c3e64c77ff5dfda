"""Connections, seeing and closing them, and the state of the broker as a whole."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.control.queues import PAGE, PageSize
from amqp_broker.control.users import NoArguments
from amqp_broker.control.verb import INVALID, NOT_FOUND, Given, Quick, Refused, Verb, user_named, vhost_named

if TYPE_CHECKING:
    from amqp_broker.control.node import Connected, Node

CLOSED: Final = "closed by an administrator"


class Which(Given, frozen=True):
    """None for any."""

    user: str | None = None
    vhost: str | None = None


class Page(Which, frozen=True):
    """after: name of the last connection of the page before. most: rows of this one."""

    after: str | None = None
    most: PageSize = PAGE


class Closed(Which, frozen=True):
    """Those that fit all that is said; to close every one is to be asked for by `everything`."""

    name: str | None = None
    everything: bool = False
    reason: str = CLOSED


def _matching(node: Node, given: Which) -> list[Connected]:
    if given.vhost is not None:
        vhost_named(node, given.vhost)
    if given.user is not None:
        user_named(node, given.user)
    return [
        each
        for each in node.connections()
        if given.user in (None, each.user) and given.vhost in (None, each.vhost)
    ]


def list_connections(node: Node, given: Page) -> object:
    after = given.after
    found = [each for each in _matching(node, given) if after is None or each.name > after]
    return [each.row() for each in nsmallest(given.most, found, key=_name)]


def _name(connected: Connected) -> str:
    return connected.name


def close_connections(node: Node, given: Closed) -> object:
    if given.name is None and given.user is None and given.vhost is None and not given.everything:
        raise Refused(INVALID, "which connections are to be closed is not said")
    if not given.reason.isprintable():
        raise Refused(INVALID, "the reason has characters that cannot be shown")
    found = [each for each in _matching(node, given) if given.name in (None, each.name)]
    if given.name is not None and not found:
        raise Refused(NOT_FOUND, f"connection '{given.name}' does not exist")
    closed = [each for each in found if each.close(given.reason)]
    return {"closed": len(closed)}


def status(node: Node, given: NoArguments) -> object:
    broker, connections = node.broker, node.connections()
    vhosts = list(broker.vhosts.values())
    return {
        **node.status(),
        "alarms": broker.alarms,
        "connections": len(connections),
        "channels": sum(connected.channels for connected in connections),
        "queues": sum(len(vhost.queues) - vhost.reply_queues for vhost in vhosts),
        "vhosts": len(vhosts),
        "users": len(broker.users),
    }


VERBS: Final[dict[str, Verb[Any]]] = {
    "connections.list": Quick(Page, list_connections, changes=False),
    "connections.close": Quick(Closed, close_connections),
    "status": Quick(NoArguments, status, changes=False),
}
