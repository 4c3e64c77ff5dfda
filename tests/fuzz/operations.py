"""What an administrator may do to a broker while clients misbehave: each operation takes the house and its draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.access import Permission, TopicPermission
from amqp_broker.broker.policy import Policy
from amqp_broker.content.table import table_of

if TYPE_CHECKING:
    from tests.fuzz.house import House

_DEFINITIONS: Final[tuple[dict[str, Any], ...]] = (
    {"max-length": 2}, {"message-ttl": 10}, {"expires": 50}, {"max-length": 1, "overflow": "reject-publish"},
    {"dead-letter-exchange": "amq.fanout", "delivery-limit": 1}, {"dead-letter-exchange": "", "message-ttl": 0},
    {"x-message-deduplication": True}, {"max-length": 0, "dead-letter-exchange": "e0"}, {},
)  # fmt: skip


def _policy(house: House, draw: random.Random) -> None:
    policy = Policy(
        "p", draw.choice(("^q", ".*q", "^q0$")), table_of(draw.choice(_DEFINITIONS)), draw.randrange(3)
    )
    (house.vhost.set_policy if draw.random() < 0.7 else house.vhost.set_operator_policy)(policy)


def _no_policy(house: House, draw: random.Random) -> None:
    house.vhost.delete_policy("p")
    house.vhost.delete_operator_policy("p")


def _restrict(house: House, draw: random.Random) -> None:
    patterns = [draw.choice((".*", ".*", "^q", "^$", "^(q|e|amq)")) for _ in range(3)]
    house.broker.set_permission(house.world.guest, house.vhost, Permission(*patterns))


def _permit(house: House, draw: random.Random) -> None:
    house.broker.set_permission(house.world.guest, house.vhost, Permission(".*", ".*", ".*"))
    house.broker.clear_topic_permission(house.world.guest, house.vhost, "amq.topic")


def _expel(house: House, draw: random.Random) -> None:
    house.broker.clear_permission(house.world.guest, house.vhost)
    _permit(house, draw)


def _restrict_topics(house: House, draw: random.Random) -> None:
    permission = TopicPermission(draw.choice((".*", "^a", "^{username}$")), draw.choice((".*", "^a")))
    house.broker.set_topic_permission(house.world.guest, house.vhost, "amq.topic", permission)


def _tag(house: House, draw: random.Random) -> None:
    tags = draw.choice(([], ["impersonator"], ["administrator"]))
    house.broker.put_user(
        "guest", house.world.guest.password, tags, draw.choice(({}, {}, {"max-channels": 9}))
    )


def _new_vhost(house: House, draw: random.Random) -> None:
    house.broker.delete_vhost("other")
    house.other = house.broker.add_vhost("other")
    house.broker.permit(house.world.guest, "other", Permission(".*", "^q", ".*"))


def _shut_down(house: House, draw: random.Random) -> None:
    for client in list(house.clients.values()):
        if not client.gone and draw.random() < 0.4:
            client.connection.shut_down("a reason", house.world.now)


OPERATIONS: Final[tuple[Callable[[House, random.Random], None], ...]] = (
    _policy, _policy, _policy, _no_policy, _restrict, _permit, _permit, _expel, _restrict_topics, _tag, _new_vhost,
    _shut_down,
)  # fmt: skip
