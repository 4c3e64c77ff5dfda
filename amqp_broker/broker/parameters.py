"""Parameters: settings by component and name that are kept for others, in a virtual host or for the whole broker.

Nobody here interprets them. Limits of virtual hosts are among them, as RabbitMQ has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amqp_broker.broker.definitions import DefinitionWriter

VHOST_LIMITS: Final = "vhost-limits"


class Parameter:
    """component: "" for one of the whole broker. value: anything that JSON can hold. key: in the store."""

    __slots__ = ("component", "key", "name", "value")

    def __init__(self, component: str, name: str, value: object) -> None:
        self.component: str = component
        self.name: str = name
        self.value: object = value
        self.key: bytes = b""


class Parameters:
    """Those of a virtual host, or of the whole broker: vhost_name None. by_name: by component and name."""

    __slots__ = ("by_name", "definitions", "vhost_name")

    def __init__(self, vhost_name: str | None, definitions: DefinitionWriter) -> None:
        self.vhost_name: str | None = vhost_name
        self.definitions: DefinitionWriter = definitions
        self.by_name: dict[tuple[str, str], Parameter] = {}

    def add(self, parameter: Parameter) -> None:
        self.by_name[parameter.component, parameter.name] = parameter

    def set(self, component: str, name: str, value: object) -> None:
        parameter = self.by_name.get((component, name))
        if parameter is None:
            parameter = Parameter(component, name, value)
            self.add(parameter)
        parameter.value = value
        self.definitions.put_parameter(parameter, self.vhost_name)

    def delete(self, component: str, name: str) -> bool:
        """Whether there was one."""
        parameter = self.by_name.pop((component, name), None)
        if parameter is None:
            return False
        self.definitions.delete("parameter", parameter.key)
        return True

    def delete_all(self) -> None:
        for component, name in list(self.by_name):
            self.delete(component, name)
