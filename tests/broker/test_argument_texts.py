"""How values of arguments stand in reply texts: as RabbitMQ prints them, whatever type a client sends."""

from __future__ import annotations

import pytest

from amqp_broker.broker.argument_values import text
from amqp_broker.broker.flags import QueueFlags
from amqp_broker.content.table import Field
from amqp_broker.errors import SoftError
from tests.session.world import World


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        (Field("S", b"quorum"), "quorum"),
        (Field("I", -5), "-5"),
        (Field("t", True), "true"),
        (Field("V", None), "undefined"),
        (Field("d", 0.5), "0.5"),
        (Field("D", (2, 100)), "{2,100}"),
        (Field("F", {"a": Field("V", None)}), '[{<<"a">>,void,undefined}]'),
        (Field("A", [Field("I", 1)]), "[{signedint,1}]"),
    ],
)
def test_a_value_is_shown_as_erlang_prints_it(field: Field, shown: str) -> None:
    assert text(field) == shown


@pytest.mark.parametrize("field", [Field("V", None), Field("F", {"a": Field("V", None)})])
def test_a_redeclaration_with_another_value_says_nothing_of_how_it_is_kept(field: Field) -> None:
    vhost = World().vhost
    flags = QueueFlags(False, False, False)
    vhost.declare_queue("q", flags, {}, None)
    with pytest.raises(SoftError) as refused:
        vhost.declare_queue("q", flags, {"x-max-length": field}, None)
    assert f"received the value '{text(field)}' of type" in refused.value.explanation
    assert "None" not in refused.value.explanation
