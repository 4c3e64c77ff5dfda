"""Whether a data directory is sound: the store's rows, and beyond them whether definitions hold together.

A definition that was deleted took with it what referred to it, in the same batch, so nothing dangles in an intact
store. What comes from the configuration at each start has no definition: its virtual host, its user.
"""

from __future__ import annotations

import os
from typing import Final, TypeAlias

from amqp_broker.broker.broker import KINDS
from amqp_broker.broker.exchange import EXCHANGE_TYPES
from amqp_broker.broker.ports import Definition
from amqp_broker.broker.vhost import PREDECLARED
from amqp_broker.content.table import read_table
from amqp_broker.store.environment import DEFAULT_MAP_SIZE
from amqp_broker.store.verify import Inspection, Report

# What a start reads of each kind, by the type it has to be of. Tables are octets that have to be read, too.
_TABLES: Final = {"arguments", "definition"}
_Fields: TypeAlias = dict[str, tuple[type, ...]]
_TEXT: Final = (str,)
_MEMBER: Final[_Fields] = {"vhost": _TEXT, "name": _TEXT}
_POLICY: Final[_Fields] = {
    **_MEMBER,
    "pattern": _TEXT,
    "definition": (bytes,),
    "priority": (int,),
    "apply_to": _TEXT,
}
_RIGHTS: Final[_Fields] = {"user": _TEXT, "vhost": _TEXT, "write": _TEXT, "read": _TEXT}
_FIELDS: Final[dict[str, _Fields]] = {
    "dismissal": {"of": (list,)},
    "vhost": {"vhost": _TEXT, "description": _TEXT, "tags": (list,), "default_queue_type": _TEXT, "other": (dict,)},
    "user": {"name": _TEXT, "algorithm": _TEXT, "password": (bytes,), "tags": (list,), "limits": (dict,)},
    "permission": {**_RIGHTS, "configure": _TEXT},
    "topic_permission": {**_RIGHTS, "exchange": _TEXT},
    "parameter": {"vhost": (str, type(None)), "component": _TEXT, "name": _TEXT},
    "policy": _POLICY,
    "operator_policy": _POLICY,
    "exchange": {
        **_MEMBER, "type": _TEXT, "auto_delete": (bool,), "internal": (bool,), "arguments": (bytes,),
    },
    "queue": {**_MEMBER, "store_id": (int,), "auto_delete": (bool,), "arguments": (bytes,)},
    "binding": {
        "vhost": _TEXT, "source": _TEXT, "to_exchange": (bool,), "destination": _TEXT, "routing_key": _TEXT,
        "arguments": (bytes,),
    },
}  # fmt: skip


def verify(path: str, map_size: int = DEFAULT_MAP_SIZE) -> Report:
    """Check a data directory or a backup. Raises StoreError if there is no store that could be checked."""
    with Inspection(os.path.abspath(path), map_size) as inspection:
        if inspection.readable:
            topology = _Topology(inspection)
            topology.check(inspection.definitions())
            if inspection.readable:
                inspection.entries(topology.owners, topology.holders)
        return inspection.report


class _Topology:
    """owners: what has which queue id, in words. holders: the queue ids of what has messages."""

    def __init__(self, inspection: Inspection) -> None:
        self.owners: dict[int, str] = {}
        self.holders: set[int] = set()
        self._inspection = inspection
        self._report = inspection.report
        self._named: set[tuple[str, object, object]] = set()

    def check(self, definitions: list[Definition]) -> None:
        sound = [definition for definition in definitions if self._is_sound(definition)]
        for definition in sound:
            if definition.kind in ("exchange", "queue"):
                self._check_holder(definition)
        for definition in sound:
            if definition.kind == "binding":
                self._check_ends(definition)
        self._check_vhosts(sound)

    def _is_sound(self, definition: Definition) -> bool:
        """Whether a start could read it."""
        kind, value = definition.kind, definition.value
        where = _name(definition)
        if kind not in KINDS:
            self._report.add(where, "definitions of this kind are not known")
            return False
        earlier = len(self._report.damage)
        for field, types in _FIELDS[kind].items():
            if not isinstance(value.get(field), types):
                self._report.add(where, f"'{field}' is missing or of the wrong type")
        if len(self._report.damage) > earlier:
            return False
        for field in _TABLES & _FIELDS[kind].keys():
            octets = value[field]
            assert isinstance(octets, bytes)
            try:
                read_table(octets, 0)
            except (ValueError, IndexError) as error:
                self._report.add(where, f"'{field}' cannot be read: {error}")
        if kind == "exchange" and value["type"] not in EXCHANGE_TYPES:
            self._report.add(where, f"there is no exchange type '{value['type']}'")
        return True

    def _check_holder(self, definition: Definition) -> None:
        """Something that has messages of its own, or values that it has seen."""
        kind, value, name = definition.kind, definition.value, _name(definition)
        self._report.queues += kind == "queue"
        named = (kind, value["vhost"], value["name"])
        if named in self._named:
            self._report.add(name, "is defined twice")
        self._named.add(named)
        for field, owner in (("store_id", name), ("seen_id", f"values seen by {name}")):
            queue_id = value.get(field, 0)
            if not isinstance(queue_id, int):
                self._report.add(name, f"'{field}' is of the wrong type")
            elif queue_id in self.owners:
                self._report.add(owner, f"has queue id {queue_id}, as has {self.owners[queue_id]}")
            elif queue_id or (kind, field) == ("queue", "store_id"):
                self.owners[queue_id] = owner
                if field == "store_id":
                    self.holders.add(queue_id)
                self._inspection.check_queue_id(owner, queue_id)

    def _check_ends(self, binding: Definition) -> None:
        value = binding.value
        vhost = value["vhost"]
        ends = [
            ("exchange", value["source"]),
            ("exchange" if value["to_exchange"] else "queue", value["destination"]),
        ]
        for kind, name in ends:
            predeclared = kind == "exchange" and name in PREDECLARED
            if not predeclared and (kind, vhost, name) not in self._named:
                self._report.add(_name(binding), f"there is no {kind} '{name}'")

    def _check_vhosts(self, definitions: list[Definition]) -> None:
        defined = {each.value["vhost"] for each in definitions if each.kind == "vhost"}
        used = {each.value.get("vhost") for each in definitions} - defined - {None}
        if len(used) > 1:
            names = ", ".join(sorted(map(repr, used)))
            self._report.warn("", f"of the virtual hosts {names} at most one can be the configuration's; "
                                  "a start makes the others, too")  # fmt: skip


def _name(definition: Definition) -> str:
    """What a definition is about, in words."""
    kind, value = definition.kind, definition.value
    if kind == "binding":
        name = f"binding of '{value.get('destination')}' to '{value.get('source')}'"
    elif "permission" in kind:
        name = f"{kind.replace('_', ' ')} of '{value.get('user')}'"
    elif kind == "dismissal":
        return f"dismissal of {value.get('of')}"
    elif kind == "vhost":
        return f"virtual host '{value.get('vhost')}'"
    else:
        name = f"{kind.replace('_', ' ')} '{value.get('name')}'"
    return f"{name} in vhost '{value['vhost']}'" if value.get("vhost") is not None else name
