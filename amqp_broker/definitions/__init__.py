"""RabbitMQ's definitions: JSON text to the verbs of the model, and the model to JSON text, without any I/O."""

from __future__ import annotations

from amqp_broker.definitions.checking import check
from amqp_broker.definitions.loading import Loaded, Loading, load
from amqp_broker.definitions.problems import InvalidDefinitions, Problem
from amqp_broker.definitions.reading import read
from amqp_broker.definitions.writing import write

__all__ = ["InvalidDefinitions", "Loaded", "Loading", "Problem", "check", "load", "read", "write"]
