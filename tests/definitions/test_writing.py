"""A broker's definitions as text: everything an import can take, in RabbitMQ's form, and the same again when loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.content.table import Field, field_of
from amqp_broker.definitions import load, read, write
from amqp_broker.definitions.values import DEEPEST, TOO_DEEP, field_of_json, json_of_field
from tests.broker.ledger_store import LedgerStore

EXPORT = Path(__file__).parent / "exports" / "rabbitmq-3.10.8-http.json"
DURABLE = QueueFlags(True, False, False)


def broker() -> Broker:
    made = Broker(LedgerStore())
    made.add_vhost("/")
    return made


def written(broker: Broker) -> dict[str, Any]:
    text = write(broker, version="3.13.7", product="amqp-broker", product_version="1")
    content: dict[str, Any] = json.loads(text)
    return content


def test_the_top_is_rabbitmqs() -> None:
    content = written(broker())
    assert list(content) == [
        *("rabbit_version", "rabbitmq_version", "product_name", "product_version", "users", "vhosts"),
        *("permissions", "topic_permissions", "parameters", "global_parameters", "policies"),
        *("queues", "exchanges", "bindings"),
    ]
    assert content["rabbit_version"] == content["rabbitmq_version"] == "3.13.7"


def test_what_rabbitmq_exported_comes_out_as_it_went_in() -> None:
    source: dict[str, Any] = json.loads(EXPORT.read_text())
    made = broker()
    load(read(EXPORT.read_text()), made)
    content = written(made)
    source["queues"] = [row for row in source["queues"] if not row["name"].startswith("amq.")]
    source["global_parameters"] = [
        row for row in source["global_parameters"] if row["name"] != "internal_cluster_id"
    ]
    source["vhosts"] = [
        {"name": row["name"], "description": "", "tags": [], "metadata": {"description": "", "tags": []}}
        for row in source["vhosts"]
    ]
    for key in ("rabbit_version", "rabbitmq_version", "product_name", "product_version"):
        del source[key], content[key]
    assert {key: by_text(rows) for key, rows in content.items()} == {
        key: by_text(rows) for key, rows in source.items()
    }


def by_text(rows: list[Any]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def test_what_we_write_we_read_to_the_same_text() -> None:
    first = broker()
    load(read(EXPORT.read_text()), first)
    second = broker()
    load(read(json.dumps(written(first))), second)
    assert written(second) == written(first)


def test_metadata_of_virtual_hosts_is_handed_on_with_what_only_others_understand() -> None:
    row = {
        "name": "v",
        "description": "d",
        "tags": ["a"],
        "default_queue_type": "quorum",
        "metadata": {
            "protected_from_deletion": True,
            "description": "d",
            "tags": ["a"],
            "default_queue_type": "quorum",
        },
    }
    made = broker()
    load(read(json.dumps({"vhosts": [row]})), made)
    assert written(made)["vhosts"][1] == row


def test_what_no_import_takes_is_left_out() -> None:
    made = broker()
    root = made.vhosts["/"]
    exclusive = root.declare_queue("mine", QueueFlags(False, True, False), {}, object())
    named = root.declare_queue("", DURABLE, {}, None)
    kept = root.declare_queue("q", DURABLE, {}, None)
    for queue in (exclusive, named, kept):
        root.bind(root.exchanges["amq.fanout"], queue, "", {})
    content = written(made)
    assert [row["name"] for row in content["queues"]] == ["q"]
    assert content["exchanges"] == []
    assert [row["destination"] for row in content["bindings"]] == ["q"]


def test_internal_and_transient_things_are_written_as_such() -> None:
    made = broker()
    root = made.vhosts["/"]
    root.declare_exchange("x", "topic", ExchangeFlags(False, True, True), {})
    root.declare_queue("q", QueueFlags(False, False, True), {}, None)
    content = written(made)
    assert content["exchanges"][0] == {
        "name": "x",
        "vhost": "/",
        "type": "topic",
        "durable": False,
        "auto_delete": True,
        "internal": True,
        "arguments": {},
    }
    assert content["queues"][0]["durable"] is False
    assert content["queues"][0]["auto_delete"] is True


# -- values


def nested(levels: int, kind: str) -> Field:
    field = Field("V", None)
    for _ in range(levels):
        field = Field("F", {"a": field}) if kind == "F" else Field("A", [field])
    return field


@pytest.mark.parametrize("kind", ["F", "A"])
@pytest.mark.parametrize("levels", [DEEPEST - 1, DEEPEST, 20_000])
def test_arguments_of_any_depth_are_written_so_that_they_can_be_read(levels: int, kind: str) -> None:
    """A client may nest them as deep as a frame allows."""
    made = broker()
    root = made.vhosts["/"]
    arguments = {"deep": nested(levels, kind)}
    queue = root.declare_queue("q", DURABLE, arguments, None)
    root.declare_exchange("x", "fanout", ExchangeFlags(True, False, False), arguments)
    root.bind(root.exchanges["amq.fanout"], queue, "", arguments)
    content = written(made)
    for row in (content["queues"][0], content["exchanges"][0], content["bindings"][0]):
        assert (TOO_DEEP in json.dumps(row["arguments"])) is (levels >= DEEPEST)
    again = broker()
    load(read(json.dumps(content)), again)
    assert written(again)["queues"] == content["queues"]


def test_a_timestamp_that_no_number_in_a_file_can_be_comes_back_with_the_same_octets() -> None:
    made = broker()
    made.vhosts["/"].declare_queue("q", DURABLE, {"t": Field("T", 2**64 - 1)}, None)
    content = written(made)
    again = broker()
    load(read(json.dumps(content)), again)
    assert content["queues"][0]["arguments"] == {"t": -1}
    assert written(again)["queues"] == content["queues"]


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(JSON)
def test_any_json_comes_back_from_a_field(value: object) -> None:
    if "Not UTF-8, base64 is: " not in json.dumps(value):
        assert json_of_field(field_of_json(value)) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field("x", b"\0\xff"), "Not UTF-8, base64 is: AP8="),
        (Field("S", "é".encode()), "é"),
        (Field("T", 1700000000), 1700000000),
        (Field("D", (2, 314)), 3.14),
        (Field("b", -1), -1),
        (field_of({"a": [1, None]}), {"a": [1, None]}),
    ],
)
def test_types_that_json_lacks_are_written_as_near_as_can_be(field: Field, value: object) -> None:
    assert json_of_field(field) == value


def test_octets_that_are_no_text_come_back() -> None:
    assert field_of_json("Not UTF-8, base64 is: AP8=") == Field("S", b"\0\xff")
    assert field_of_json("Not UTF-8, base64 is: !") == Field("S", b"Not UTF-8, base64 is: !")


def test_a_routing_key_that_is_no_text_comes_back() -> None:
    made = broker()
    root = made.vhosts["/"]
    queue = root.declare_queue("q", DURABLE, {}, None)
    root.bind(root.exchanges["amq.direct"], queue, "\udcff", {})
    again = broker()
    load(read(json.dumps(written(made))), again)
    root = again.vhosts["/"]
    assert root.is_bound(root.exchanges["amq.direct"], root.queues["q"], "\udcff", {})
