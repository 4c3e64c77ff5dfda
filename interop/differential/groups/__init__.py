"""The conversations, in groups: each module yields those whose names begin with its own."""

from __future__ import annotations

from ..script import Conversation
from . import (
    arguments,
    consumers,
    deaths,
    exchanges,
    exclusive,
    frames,
    handshake,
    limits,
    methods,
    names,
    orders,
    permissions,
    policies,
    properties,
    quorum,
    random,
    redeclaring,
    replies,
    returns,
    routing,
    tables,
    transactions,
)

GROUPS = (
    arguments,
    consumers,
    deaths,
    exchanges,
    exclusive,
    frames,
    handshake,
    limits,
    methods,
    names,
    orders,
    permissions,
    policies,
    properties,
    quorum,
    random,
    redeclaring,
    replies,
    returns,
    routing,
    tables,
    transactions,
)


def all_conversations() -> list[Conversation]:
    """Every conversation there is, each name once. Raises ValueError where two have the same."""
    conversations = [one for group in GROUPS for one in group.conversations()]
    names: set[str] = set()
    for conversation in conversations:
        if conversation.name in names:
            raise ValueError(f"there are two conversations {conversation.name!r}")
        names.add(conversation.name)
    return conversations
