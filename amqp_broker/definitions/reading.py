"""JSON text to a `Document`: which keys there are, which may be missing, and what types their values have.

The forms that RabbitMQ's HTTP API and its `rabbitmqctl export_definitions` have written since 3.6 are all taken. What
a value means is looked at in `checking`.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.passwords import ARGON2ID, MD5, SHA256, PasswordHash, hash_password
from amqp_broker.content.table import Field
from amqp_broker.definitions.problems import InvalidDefinitions, Problem
from amqp_broker.definitions.rows import (
    BindingRow,
    Document,
    ExchangeRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    QueueRow,
    Row,
    UserRow,
    VirtualHostRow,
)
from amqp_broker.definitions.values import DEEPEST, field_of_json, nesting_problem, octets_of, plain_problem

# Global parameters that are a cluster's own: RabbitMQ's exports have had some.
INTERNAL: Final = "internal"
LONGEST_NAME: Final = 255
# What may be kept, in lists of rows.
DEEPEST_TEXT: Final = DEEPEST + 8
# Decoded in one piece, which takes about a millisecond.
ROWS_AT_ONCE: Final = 256
_MISSING: Final = object()


def read(text: str | bytes, vhost: str = "/") -> Document:
    """The rows of a file. vhost: that of the rows which name none, and of all in the export of one virtual host.

    Raises InvalidDefinitions for what is no JSON object.
    """
    try:
        content = _decoded(text) if text.strip() else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidDefinitions([Problem("$", f"not JSON: {error}")]) from None
    if not isinstance(content, dict):
        raise InvalidDefinitions([Problem("$", "expected an object")])
    problem = nesting_problem(content, DEEPEST_TEXT)
    if problem is not None:
        raise InvalidDefinitions([Problem("$", problem)])
    return _Reader(content, vhost).document()


def _decoded(text: str | bytes) -> object:
    """In pieces, as nobody else can do anything while one is decoded. Raises what msgspec does for what is no JSON."""
    try:
        lists = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return {
            key: _pieces(value) if bytes(memoryview(value)[:1]) == b"[" else msgspec.json.decode(value)
            for key, value in lists.items()
        }
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # The places in its messages are to be those in the whole text.
        return msgspec.json.decode(text)


def _pieces(octets: msgspec.Raw) -> list[object]:
    rows = msgspec.json.decode(octets, type=list[msgspec.Raw])
    found: list[object] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        found += msgspec.json.decode(b"[" + b",".join(rows[start : start + ROWS_AT_ONCE]) + b"]")
    return found


class _Row:
    """One object of the file; a value that is missing or of another type is a problem, and reads as an empty one."""

    def __init__(self, path: str, values: dict[str, object], problems: list[Problem]) -> None:
        self.path = path
        self.values = values
        self.problems = problems

    def refuse(self, key: str, text: str) -> None:
        self.problems.append(Problem(f"{self.path}.{key}", text))

    def _value(self, key: str, kinds: type | tuple[type, ...], words: str, default: object) -> object:
        """The value under `key`; null counts as missing."""
        value = self.values.get(key)
        if value is None:
            if default is _MISSING:
                self.refuse(key, "missing")
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in _types(kinds)):
            self.refuse(key, f"expected {words}")
            return default
        return value

    def text(self, key: str, default: object = _MISSING) -> str:
        value = self._value(key, str, "a string", default)
        return value if isinstance(value, str) else ""

    def name(self, key: str) -> str:
        name = self.text(key)
        if len(name.encode()) > LONGEST_NAME:
            self.refuse(key, f"longer than {LONGEST_NAME} bytes")
        return name

    def switch(self, key: str, default: bool) -> bool:
        value = self._value(key, bool, "true or false", default)
        return default if value is _MISSING else bool(value)

    def number(self, key: str, default: int) -> int:
        value = self._value(key, int, "a whole number", default)
        self._check_plain(key, value)
        return value if isinstance(value, int) else default

    def words(self, key: str) -> list[str]:
        """A list of strings, or one string of them with commas between."""
        value = self._value(key, (str, list), "a list of strings", [])
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            self.refuse(key, "expected a list of strings")
            return []
        return value

    def plain(self, key: str) -> object:
        """Any value, to be kept as it is."""
        value = self.values.get(key)
        self._check_plain(key, value)
        return value

    def _check_plain(self, key: str, value: object) -> None:
        problem = plain_problem(value)
        if problem is not None:
            self.refuse(key, problem)

    def _object(self, key: str) -> dict[str, object]:
        """An object, or a list of [name, value], which is how rabbitmqctl writes some of them."""
        value = self._value(key, (dict, list), "an object", {})
        if isinstance(value, list):
            pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2]
            if len(pairs) < len(value) or not all(isinstance(pair[0], str) for pair in pairs):
                self.refuse(key, "expected an object")
                return {}
            return {pair[0]: pair[1] for pair in pairs}
        return value if isinstance(value, dict) else {}

    def object(self, key: str) -> dict[str, object]:
        """An object whose values are kept as they are."""
        found = self._object(key)
        self._check_plain(key, found)
        return found

    def table(self, key: str) -> dict[str, Field]:
        table: dict[str, Field] = {}
        for name, value in self._object(key).items():
            try:
                table[name] = field_of_json(value)
            except ValueError as error:
                self.refuse(f"{key}.{name}", str(error))
            if len(name.encode()) > LONGEST_NAME:
                self.refuse(key, f"a name is longer than {LONGEST_NAME} bytes")
        return table

    def inner(self, key: str) -> _Row:
        return _Row(f"{self.path}.{key}", self._object(key), self.problems)


def _types(kinds: type | tuple[type, ...]) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


class _Reader:
    """Reads the lists of a file, each row by the function for its list."""

    def __init__(self, content: dict[str, object], vhost: str) -> None:
        self.content = content
        self.problems: list[Problem] = []
        self._vhost = vhost
        self._old_hashes = _version(content) < (3, 6)
        self._scoped = _is_of_one_vhost(content)

    def document(self) -> Document:
        document = Document(problems=self.problems)
        lists: dict[str, Callable[[_Row], Row | None]] = {
            "vhosts": self._read_vhost,
            "users": self._read_user,
            "permissions": self._read_permission,
            "topic_permissions": self._read_topic_permission,
            "global_parameters": self._read_global_parameter,
            "parameters": self._read_parameter,
            "policies": self._read_policy,
            "exchanges": self._read_exchange,
            "queues": self._read_queue,
            "bindings": self._read_binding,
        }
        for key, read_row in lists.items():
            for row in self._rows(key):
                before = len(self.problems)
                found = read_row(row)
                readable = len(self.problems) == before
                if found is not None and (readable or isinstance(found, (VirtualHostRow, UserRow))):
                    document.add(found)
        return document

    def _rows(self, key: str) -> Iterator[_Row]:
        rows = self.content.get(key)
        if rows is None:
            return
        if not isinstance(rows, list):
            self.problems.append(Problem(f"$.{key}", "expected a list"))
            return
        for number, values in enumerate(rows):
            path = f"$.{key}[{number}]"
            if isinstance(values, dict):
                yield _Row(path, values, self.problems)
            else:
                self.problems.append(Problem(path, "expected an object"))

    def _vhost_of(self, row: _Row) -> str:
        return self._vhost if self._scoped else row.text("vhost", self._vhost)

    def _read_vhost(self, row: _Row) -> VirtualHostRow:
        """Description and tags stand beside the name, in `metadata`, or in both."""
        inner = _Row(f"{row.path}.metadata", row.object("metadata"), row.problems)
        metadata = VirtualHostMetadata(
            row.text("description", "") or inner.text("description", ""),
            row.words("tags") or inner.words("tags"),
            row.text("default_queue_type", "") or inner.text("default_queue_type", ""),
            {key: value for key, value in inner.values.items() if key not in _KNOWN_METADATA},
        )
        if metadata.default_queue_type == "undefined":
            metadata.default_queue_type = ""
        return VirtualHostRow(row.path, row.name("name"), metadata)

    def _read_user(self, row: _Row) -> UserRow:
        name, password = row.name("name"), self._password(row)
        return UserRow(row.path, name, password, row.words("tags"), row.object("limits"))

    def _password(self, row: _Row) -> PasswordHash | None:
        if row.values.get("password_hash") is None and row.values.get("password") is not None:
            return hash_password(row.text("password"))
        encoded = row.text("password_hash")
        algorithm = row.text("hashing_algorithm", MD5 if self._old_hashes else SHA256)
        try:
            password = PasswordHash(algorithm, b64decode(encoded, validate=True))
        except (Base64Error, ValueError):
            row.refuse("password_hash", "expected base64")
            return None
        if not password.is_well_formed:
            form = "a hash of bearable cost" if algorithm == ARGON2ID else "a salt of four octets and a hash"
            row.refuse("password_hash", f"not {form} by {algorithm}")
        return password

    def _read_permission(self, row: _Row) -> PermissionRow:
        return PermissionRow(
            row.path,
            row.text("user"),
            self._vhost_of(row),
            row.text("configure"),
            row.text("write"),
            row.text("read"),
        )

    def _read_topic_permission(self, row: _Row) -> PermissionRow:
        return PermissionRow(
            row.path,
            row.text("user"),
            self._vhost_of(row),
            "",
            row.text("write"),
            row.text("read"),
            row.text("exchange"),
        )

    def _read_global_parameter(self, row: _Row) -> ParameterRow | None:
        name = row.text("name")
        if name.startswith(INTERNAL):
            return None
        return ParameterRow(row.path, None, "", name, row.plain("value"))

    def _read_parameter(self, row: _Row) -> ParameterRow | PolicyRow:
        """Operator policies are among the parameters."""
        component, name = row.text("component"), row.text("name")
        if component == "operator_policy":
            return _policy(row.inner("value"), name, self._vhost_of(row), operator=True)
        return ParameterRow(row.path, self._vhost_of(row), component, name, row.plain("value"))

    def _read_policy(self, row: _Row) -> PolicyRow:
        return _policy(row, row.text("name"), self._vhost_of(row), operator=False)

    def _read_exchange(self, row: _Row) -> ExchangeRow:
        return ExchangeRow(
            row.path,
            self._vhost_of(row),
            row.name("name"),
            row.text("type"),
            row.switch("durable", True),  # noqa: FBT003
            row.switch("auto_delete", False),  # noqa: FBT003
            row.switch("internal", False),  # noqa: FBT003
            row.table("arguments"),
        )

    def _read_queue(self, row: _Row) -> QueueRow:
        arguments = row.table("arguments")
        kind = row.text("type", "classic")
        if kind != "classic":
            arguments.setdefault("x-queue-type", Field("S", kind.encode()))
        return QueueRow(
            row.path,
            self._vhost_of(row),
            row.name("name"),
            row.switch("durable", True),  # noqa: FBT003
            row.switch("auto_delete", False),  # noqa: FBT003
            arguments,
        )

    def _read_binding(self, row: _Row) -> BindingRow:
        kind = row.text("destination_type")
        if kind and kind not in ("queue", "exchange"):
            row.refuse("destination_type", 'expected "queue" or "exchange"')
        return BindingRow(
            row.path,
            self._vhost_of(row),
            row.text("source"),
            row.text("destination"),
            kind == "exchange",
            octets_of(row.text("routing_key", "")).decode("utf-8", "surrogateescape"),
            row.table("arguments"),
        )


def _policy(row: _Row, name: str, vhost: str, operator: bool) -> PolicyRow:
    return PolicyRow(
        row.path,
        vhost,
        name,
        row.text("pattern"),
        row.table("definition"),
        row.number("priority", 0),
        row.text("apply-to", "all"),
        operator,
    )


def _is_of_one_vhost(content: dict[str, object]) -> bool:
    """Whether this is the export of one virtual host: only its policies and parameters still name it."""
    if "vhosts" in content:
        return False
    for key in ("exchanges", "queues", "bindings"):
        rows = content.get(key)
        if isinstance(rows, list) and any(isinstance(row, dict) and "vhost" not in row for row in rows):
            return True
    return False


# Of a version.
_LONGEST_NUMBER: Final = 10
_KNOWN_METADATA: Final = frozenset({"description", "tags", "default_queue_type"})


def _version(content: dict[str, object]) -> tuple[int, ...]:
    """Of the RabbitMQ that wrote the file, (3, 10, 8); a high one if it does not say."""
    text = content.get("rabbitmq_version") or content.get("rabbit_version")
    numbers = str(text).split("-", maxsplit=1)[0].split(".") if text else []
    if not numbers or not all(number.isdecimal() and len(number) < _LONGEST_NUMBER for number in numbers):
        return (999,)
    return tuple(map(int, numbers))
