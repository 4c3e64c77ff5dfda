"""Whether a `Document` can be loaded into a broker as it is now, found out without changing anything.

The model's own checks say what is wrong, in the words in which a client would hear it. What RabbitMQ passes over when
it imports is a warning here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from amqp_broker.broker.access import pattern_problem, topic_pattern_problem
from amqp_broker.broker.argument_table import QUEUE_TYPES
from amqp_broker.broker.arguments import (
    check_queue_arguments,
    check_queue_properties,
    name_argument,
    queue_type,
)
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import EXCHANGE_TYPES, Exchange, new_exchange
from amqp_broker.broker.limits import MAX_CHANNELS, MAX_CONNECTIONS, MAX_QUEUES, limits_problem
from amqp_broker.broker.names import RESERVED_PREFIX
from amqp_broker.broker.parameters import VHOST_LIMITS
from amqp_broker.broker.policy import InvalidPolicy, new_policy, pattern_problems
from amqp_broker.broker.vhost import PREDECLARED
from amqp_broker.content.table import TableError, write_table
from amqp_broker.definitions.problems import Problem
from amqp_broker.definitions.rows import (
    BindingRow,
    Document,
    ExchangeRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    QueueRow,
    UserRow,
)
from amqp_broker.errors import AmqpError, exchange_in, queue_in

R = TypeVar("R")


def check(document: Document, broker: Broker) -> tuple[list[Problem], list[Problem]]:
    """What keeps the document from being loaded, and what of it would be passed over."""
    checker = Checker(document, broker)
    for _ in checker.steps():
        pass
    return checker.problems, checker.warnings


def is_reserved(name: str) -> bool:
    """Whether a queue or exchange of this name is passed over when definitions are loaded."""
    return name == "" or name.startswith(RESERVED_PREFIX)


class Checker:
    """problems, warnings: all of them, once `steps` has come to its end.

    exchanges: those that there will be, by virtual host and name; queues: the same for queues.
    """

    def __init__(self, document: Document, broker: Broker) -> None:
        self.document = document
        self.broker = broker
        self.problems = list(document.problems)
        self.warnings: list[Problem] = []
        self.vhosts = {*broker.vhosts, *(row.name for row in document.vhosts)}
        self.users = {*broker.users, *(row.name for row in document.users)}
        self.exchanges: dict[tuple[str, str], Exchange] = {}
        self.queues: set[tuple[str, str]] = set()
        for vhost in broker.vhosts.values():
            self.queues.update((vhost.name, name) for name in vhost.queues)
            self.exchanges.update(((vhost.name, name), item) for name, item in vhost.exchanges.items())
        for row in document.vhosts:
            for name, kind in PREDECLARED.items():
                self.exchanges.setdefault((row.name, name), new_exchange(kind, name, row.name, {}))

    def steps(self) -> Iterator[None]:
        """Check all rows, and stop after each."""
        document = self.document
        for row in document.vhosts:
            if row.metadata.default_queue_type not in ("", *QUEUE_TYPES):
                kind = row.metadata.default_queue_type
                self.warn(
                    f"{row.path}.default_queue_type", f"there are no {kind} queues; classic ones are made"
                )
        yield
        yield from self._each(document.permissions, self.check_permission)
        yield from self._each(document.users, self.check_user)
        yield from self._each(document.parameters, self.check_parameter)
        yield from self._each(document.policies, self.check_policy)
        yield from self._each(document.exchanges, self.check_exchange)
        yield from self._each(document.queues, self.check_queue)
        yield from self._each(document.bindings, self.check_binding)

    @staticmethod
    def _each(rows: Sequence[R], check: Callable[[R], object]) -> Iterator[None]:
        for row in rows:
            check(row)
            yield

    def refuse(self, path: str, text: str) -> None:
        self.problems.append(Problem(path, text))

    def warn(self, path: str, text: str) -> None:
        self.warnings.append(Problem(path, text))

    def check_vhost(self, path: str, name: str) -> bool:
        if name in self.vhosts:
            return True
        self.refuse(f"{path}.vhost", f"vhost {name} not found")
        return False

    def check_permission(self, row: PermissionRow) -> None:
        self.check_vhost(row.path, row.vhost)
        if row.user not in self.users:
            self.refuse(f"{row.path}.user", f"user '{row.user}' not found")
        problem_of = pattern_problem if row.exchange is None else topic_pattern_problem
        for key, pattern in (("configure", row.configure), ("write", row.write), ("read", row.read)):
            problem = problem_of(pattern)
            if problem is not None:
                self.refuse(f"{row.path}.{key}", problem)

    def check_user(self, row: UserRow) -> None:
        self.check_limits(f"{row.path}.limits", row.limits, (MAX_CONNECTIONS, MAX_CHANNELS))

    def check_parameter(self, row: ParameterRow) -> None:
        if row.vhost is not None:
            self.check_vhost(row.path, row.vhost)
        if row.component == VHOST_LIMITS:
            self.check_limits(f"{row.path}.value", row.value, (MAX_CONNECTIONS, MAX_QUEUES))

    def check_limits(self, path: str, limits: object, names: tuple[str, ...]) -> None:
        problem = limits_problem(limits, names)
        if problem is not None:
            self.refuse(path, problem)

    def check_policy(self, row: PolicyRow) -> None:
        self.check_vhost(row.path, row.vhost)
        try:
            new_policy(
                row.name, row.pattern, row.definition, row.priority, row.apply_to, operator=row.operator
            )
        except InvalidPolicy as error:
            for problem in error.problems:
                key = "pattern" if problem in pattern_problems(row.pattern) else ""
                key = "apply-to" if problem.startswith("apply-to ") else key
                self.refuse(f"{row.path}.{key or 'definition'}", problem)

    def check_exchange(self, row: ExchangeRow) -> None:
        if not self.check_vhost(row.path, row.vhost):
            return
        if is_reserved(row.name):
            self.warn(row.path, f"{exchange_in(row.name, row.vhost)} is not loaded: its name is reserved")
            return
        if (row.vhost, row.name) in self.exchanges:
            return
        if row.kind not in EXCHANGE_TYPES:
            self.refuse(f"{row.path}.type", f"unknown exchange type '{row.kind}'")
            return
        exchange = new_exchange(row.kind, row.name, row.vhost, row.arguments)
        self.exchanges[row.vhost, row.name] = exchange
        try:
            name_argument("alternate-exchange", exchange_in(row.name, row.vhost), row.arguments)
            exchange.check_arguments()
            write_table(row.arguments)
        except (AmqpError, TableError) as error:
            self.refuse(f"{row.path}.arguments", _text(error))

    def check_queue(self, row: QueueRow) -> None:
        if not self.check_vhost(row.path, row.vhost):
            return
        resource = queue_in(row.name, row.vhost)
        if is_reserved(row.name):
            self.warn(row.path, f"{resource} is not loaded: its name is reserved")
            return
        if (row.vhost, row.name) in self.queues:
            return
        self.queues.add((row.vhost, row.name))
        kind = queue_type(row.arguments)
        try:
            name_argument("x-dead-letter-exchange", resource, row.arguments)
            check_queue_arguments(resource, row.arguments)
            check_queue_properties(kind, resource, row.durable, exclusive=False, auto_delete=row.auto_delete)
            write_table(row.arguments)
        except (AmqpError, TableError) as error:
            self.refuse(f"{row.path}.arguments", _text(error))

    def check_binding(self, row: BindingRow) -> None:
        """RabbitMQ says nothing about a binding whose ends are not there: its own exports have such."""
        if not self.check_vhost(row.path, row.vhost):
            return
        source = self.exchanges.get((row.vhost, row.source))
        if row.source == "" or source is None:
            self.warn(row.path, f"not bound: no {exchange_in(row.source, row.vhost)} to bind from")
            return
        ends = self.exchanges if row.to_exchange else self.queues
        if (row.vhost, row.destination) not in ends:
            resource = exchange_in if row.to_exchange else queue_in
            self.warn(row.path, f"not bound: there is no {resource(row.destination, row.vhost)}")
            return
        try:
            source.check_binding(row.routing_key, row.arguments)
            write_table(row.arguments)
        except (AmqpError, TableError) as error:
            self.refuse(f"{row.path}.arguments", _text(error))


def _text(error: AmqpError | TableError) -> str:
    return error.explanation if isinstance(error, AmqpError) else str(error)
