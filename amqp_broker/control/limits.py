"""Limits of users and of virtual hosts: how many connections, channels and queues they may have.

Setting some leaves the others as they are. They count for what is new; see `broker.limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from amqp_broker.broker.limits import LIMITS, MAX_CHANNELS, MAX_CONNECTIONS, MAX_QUEUES, limit_table
from amqp_broker.broker.parameters import VHOST_LIMITS
from amqp_broker.control.verb import INVALID, Given, Number, Quick, Refused, Verb, user_named, vhost_named

if TYPE_CHECKING:
    from amqp_broker.broker.vhost import VirtualHost
    from amqp_broker.control.node import Node

OF_VHOSTS: Final = (MAX_CONNECTIONS, MAX_QUEUES)
OF_USERS: Final = (MAX_CONNECTIONS, MAX_CHANNELS)


class Whose(Given, frozen=True):
    """A virtual host or a user, for lists also neither: all of them."""

    vhost: str | None = None
    user: str | None = None


class NewLimits(Whose, frozen=True, kw_only=True):
    """limits: by RabbitMQ's names; a number below 0 is none."""

    limits: dict[str, Number]


class Cleared(Whose, frozen=True):
    """names: of limits; all if there are none."""

    names: list[str] = msgspec.field(default_factory=list)


def list_limits(node: Node, given: Whose) -> object:
    """A row for each virtual host and user that has some, or for the one that is asked for."""
    broker = node.broker
    if given.vhost is not None and given.user is not None:
        raise Refused(INVALID, "limits are those of a virtual host or of a user, not of both together")
    if given.vhost is not None:
        return [_row("vhost", given.vhost, limits_of_vhost(vhost_named(node, given.vhost)))]
    if given.user is not None:
        return [_row("user", given.user, user_named(node, given.user).limits)]
    rows = [_row("vhost", name, limits_of_vhost(broker.vhosts[name])) for name in sorted(broker.vhosts)]
    rows += [_row("user", name, broker.users[name].limits) for name in sorted(broker.users)]
    return [row for row in rows if row["limits"]]


def _row(kind: str, name: str, limits: dict[str, object]) -> dict[str, object]:
    return {"of": kind, "name": name, "limits": limits}


def limits_of_vhost(vhost: VirtualHost) -> dict[str, object]:
    parameter = vhost.parameters.by_name.get((VHOST_LIMITS, LIMITS))
    return {} if parameter is None else dict(limit_table(parameter.value) or {})


def set_limits(node: Node, given: NewLimits) -> object:
    _check_one(given)
    if given.vhost is not None:
        vhost = vhost_named(node, given.vhost)
        check_limits(given.limits, OF_VHOSTS, "limits")
        vhost.parameters.set(VHOST_LIMITS, LIMITS, {**limits_of_vhost(vhost), **given.limits})
    else:
        user = user_named(node, str(given.user))
        check_limits(given.limits, OF_USERS, "user-limits")
        node.broker.put_user(user.name, user.password, user.tags, {**user.limits, **given.limits})
    return None


def clear_limits(node: Node, given: Cleared) -> object:
    """What is not limited is no mistake."""
    _check_one(given)
    if given.vhost is not None:
        vhost = vhost_named(node, given.vhost)
        left = _left(limits_of_vhost(vhost), given.names, OF_VHOSTS)
        if left:
            vhost.parameters.set(VHOST_LIMITS, LIMITS, left)
        else:
            vhost.parameters.delete(VHOST_LIMITS, LIMITS)
    else:
        user = user_named(node, str(given.user))
        left = _left(user.limits, given.names, OF_USERS)
        if left != user.limits:
            node.broker.put_user(user.name, user.password, user.tags, left)
    return None


def _left(limits: dict[str, object], names: list[str], known: tuple[str, ...]) -> dict[str, object]:
    for name in names:
        _check_known(name, known)
    return {name: value for name, value in limits.items() if names and name not in names}


def _check_one(given: Whose) -> None:
    if (given.vhost is None) == (given.user is None):
        raise Refused(INVALID, "limits are those of a virtual host or of a user: name one of them")


def check_limits(limits: dict[str, int], known: tuple[str, ...], where: str) -> None:
    if not limits:
        raise Refused(INVALID, "no limit is given")
    unknown = [f'{{<<"{name}">>,{value}}}' for name, value in limits.items() if name not in known]
    if unknown:
        raise Refused(
            INVALID, f"Unrecognised terms [{','.join(unknown)}] in {where}; there are: {', '.join(known)}"
        )


def _check_known(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise Refused(INVALID, f"there is no limit '{name}'; there are: {', '.join(known)}")


VERBS: Final[dict[str, Verb[Any]]] = {
    "limits.list": Quick(Whose, list_limits, changes=False),
    "limits.set": Quick(NewLimits, set_limits),
    "limits.clear": Quick(Cleared, clear_limits),
}
