"""Definitions into a broker: what RabbitMQ exported is there afterwards, what is there is kept, and all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.broker.access import READ, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.passwords import ARGON2ID, hash_password
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.table import Field, table_of
from amqp_broker.definitions import InvalidDefinitions, Loaded, Loading, load, read
from amqp_broker.definitions.reading import ROWS_AT_ONCE
from tests.broker.ledger_store import LedgerStore

EXPORTS = Path(__file__).parent / "exports"
DURABLE = QueueFlags(True, False, False)


def export(name: str) -> str:
    """A file that a RabbitMQ 3.10.8 wrote."""
    return (EXPORTS / f"rabbitmq-3.10.8-{name}.json").read_text()


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def broker(store: LedgerStore) -> Broker:
    broker = Broker(store)
    broker.add_vhost("/")
    broker.add_user(User("guest", hash_password("guest"), []))
    return broker


def load_rows(broker: Broker, **rows: list[dict[str, Any]]) -> Loaded:
    return load(read(json.dumps(rows)), broker)


# -- what RabbitMQ exported


@pytest.mark.parametrize("form", ["rabbitmqctl", "http"])
def test_an_export_of_rabbitmq_loads(broker: Broker, form: str) -> None:
    load(read(export(form)), broker)
    assert set(broker.vhosts) == {"/", "shop", "empty"}
    shop = broker.vhosts["shop"]
    assert (shop.metadata.description, shop.metadata.tags) == (
        ("the shop", ["prod", "eu"]) if form == "rabbitmqctl" else ("", [])
    )
    assert {name for name in shop.queues if name.startswith("shop")} == {
        *("shop-auto", "shop-café", "shop-classic", "shop-dead"),
        *("shop-prio", "shop-quorum", "shop-typed", "shop-types"),
    }
    assert {queue.name for queue in shop.queues.values() if queue.auto_delete} == {"shop-auto"}
    assert {exchange.kind for exchange in shop.exchanges.values()} >= {
        *("topic", "fanout", "headers", "x-consistent-hash", "x-random", "x-recent-history"),
    }
    assert shop.exchanges["shop-headers"].alternate == "shop-dlx"


@pytest.mark.parametrize("form", ["rabbitmqctl", "http"])
def test_its_policies_count(broker: Broker, form: str) -> None:
    load(read(export(form)), broker)
    shop, root = broker.vhosts["shop"], broker.vhosts["/"]
    features = shop.queues["shop-classic"].features
    assert (features.max_length, features.dead_letter_exchange) == (500, "shop-dlx")
    assert shop.queues["shop-quorum"].features.max_length == 1000
    assert shop.queues["shop-quorum"].features.delivery_limit == 5
    assert root.queues["tmp-1"].features.message_ttl == 60000
    assert root.queues["tmp-1"].features.max_length_bytes == 1073741824
    assert root.exchanges["ex"].alternate == "unrouted"
    assert set(root.policies.ordinary.by_name) == {"ttl", "ae", "ha", "fed"}
    assert list(root.policies.operator.by_name) == ["cap"]


@pytest.mark.parametrize("form", ["rabbitmqctl", "http"])
def test_its_bindings_are_there(broker: Broker, form: str) -> None:
    loaded = load(read(export(form)), broker)
    shop = broker.vhosts["shop"]
    classic, dlx = shop.queues["shop-classic"], shop.exchanges["shop-dlx"]
    assert shop.is_bound(shop.exchanges["shop-orders"], classic, "order.*", {})
    assert shop.is_bound(shop.exchanges["shop-orders"], dlx, "dead.#", {})
    assert shop.is_bound(shop.exchanges["shop-hash"], classic, "10", {})
    urgent = {"flag": True, "kind": "urgent", "n": Field("l", 3), "x-match": "any"}
    assert shop.is_bound(shop.exchanges["shop-headers"], shop.queues["shop-prio"], "", table_of(urgent))
    # rabbitmqctl leaves out internal exchanges, and not the bindings to them
    told = [warning.text for warning in loaded.warnings if warning.path.startswith("$.bindings")]
    expected = ["not bound: there is no exchange 'shop-internal' in vhost 'shop'"]
    assert told == (expected if form == "rabbitmqctl" else [])


@pytest.mark.parametrize("form", ["rabbitmqctl", "http"])
@pytest.mark.parametrize(
    ("name", "password"), [("alice", "wonderland"), ("bob", "builder"), ("carol", "builder")]
)
def test_its_users_log_in_as_before(broker: Broker, form: str, name: str, password: str) -> None:
    """carol's hash is SHA-512."""
    load(read(export(form)), broker)
    user = broker.users[name]
    assert user.password.is_of(password.encode())
    assert not user.password.is_of(password.encode() + b"x")


def test_its_users_may_what_they_might(broker: Broker) -> None:
    load(read(export("http")), broker)
    alice, bob = broker.users["alice"], broker.users["bob"]
    assert alice.tags == ["monitoring", "policymaker"]
    assert bob.limits == {"max-channels": 10, "max-connections": 3}
    assert set(alice.permissions) == {"shop"}
    assert alice.permissions["shop"].allows(READ, "shop-x")
    assert bob.permissions["/"].write == "^orders$"
    topic = alice.topic_permissions["shop", "amq.topic"]
    assert (topic.write, topic.read) == ("^a", "^b")


def test_its_parameters_are_kept(broker: Broker) -> None:
    load(read(export("http")), broker)
    parameters = broker.vhosts["shop"].parameters.by_name
    assert parameters["vhost-limits", "limits"].value == {"max-connections": 256, "max-queues": 1024}
    assert set(broker.vhosts["/"].parameters.by_name) == {("federation-upstream", "up")}
    # the cluster's own name for itself is not ours
    assert set(broker.parameters.by_name) == {("", "mine"), ("", "scalar")}


def test_an_export_of_one_virtual_host_loads_into_any(broker: Broker) -> None:
    broker.add_vhost("elsewhere")
    load(read(export("vhost"), "elsewhere"), broker)
    assert "shop-classic" in broker.vhosts["elsewhere"].queues
    assert "limits" in broker.vhosts["elsewhere"].policies.ordinary.by_name
    assert set(broker.vhosts) == {"/", "elsewhere"}


def test_what_is_named_like_a_predeclared_thing_is_passed_over(broker: Broker) -> None:
    loaded = load_rows(
        broker,
        queues=[{"name": "amq.gen-x", "vhost": "/", "durable": True}],
        exchanges=[
            {"name": "amq.topic", "vhost": "/", "type": "direct"},
            {"name": "amq.mine", "vhost": "/", "type": "direct"},
            {"name": "", "vhost": "/", "type": "direct"},
        ],
    )
    assert [warning.path for warning in loaded.warnings] == [
        *("$.exchanges[0]", "$.exchanges[1]", "$.exchanges[2]", "$.queues[0]"),
    ]
    root = broker.vhosts["/"]
    assert root.exchanges["amq.topic"].kind == "topic"
    assert "amq.mine" not in root.exchanges
    assert not root.queues


# -- what is there already


def test_a_queue_and_an_exchange_that_are_others_are_kept_without_a_word(broker: Broker) -> None:
    root = broker.vhosts["/"]
    queue = root.declare_queue("q", DURABLE, table_of({"x-max-length": 1}), None)
    exchange = root.declare_exchange("x", "direct", ExchangeFlags(True, False, False), {})
    loaded = load_rows(
        broker,
        queues=[{"name": "q", "vhost": "/", "durable": False, "arguments": {"x-max-length": 9}}],
        exchanges=[{"name": "x", "vhost": "/", "type": "no-such-type"}],
        bindings=[
            {"source": "x", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "k"}
        ],
    )
    assert root.queues["q"] is queue
    assert root.exchanges["x"] is exchange
    assert not loaded.warnings
    assert str(loaded) == "1 binding"


def test_users_policies_and_metadata_are_changed(broker: Broker) -> None:
    user = broker.users["guest"]
    rows: dict[str, Any] = {
        "users": [{"name": "guest", "password": "other", "tags": "administrator, monitoring"}],
        "permissions": [{"user": "guest", "vhost": "/", "configure": "", "write": "", "read": "^q"}],
        "vhosts": [{"name": "/", "description": "d", "tags": ["t"], "default_queue_type": "quorum"}],
        "policies": [{"vhost": "/", "name": "p", "pattern": "^q", "definition": {"max-length": 3}}],
    }
    queue = broker.vhosts["/"].declare_queue("q", DURABLE, {}, None)
    load_rows(broker, **rows)
    assert broker.users["guest"] is user
    assert user.password.is_of(b"other")
    assert user.tags == ["administrator", "monitoring"]
    assert user.permissions["/"].read == "^q"
    assert queue.features.max_length == 3
    rows["policies"][0]["definition"] = {"max-length": 4}
    load_rows(broker, **rows)
    assert queue.features.max_length == 4
    new = broker.vhosts["/"].declare_queue("new", DURABLE, {}, None)
    assert new.arguments == table_of({"x-queue-type": "quorum"})


def test_loading_the_same_again_changes_nothing(broker: Broker, store: LedgerStore) -> None:
    load(read(export("http")), broker)
    features = broker.vhosts["/"].queues["tmp-1"].features
    again = load(read(export("http")), broker)
    assert again.counts["queues"] == again.counts["exchanges"] == again.counts["bindings"] == 0
    assert broker.vhosts["/"].queues["tmp-1"].features is features


# -- after a restart


def test_all_that_lasts_is_there_after_a_restart(broker: Broker, store: LedgerStore) -> None:
    load(read(export("http")), broker)
    store.commit()
    after = Broker(store.survivor())
    after.add_user(User("guest", hash_password("from the configuration"), ["administrator"]))
    after.recover()
    shop = after.vhosts["shop"]
    assert "shop-auto" not in shop.queues
    assert shop.queues["shop-quorum"].features.max_length == 1000
    assert after.vhosts["/"].exchanges["ex"].alternate == "unrouted"
    assert set(after.users) == {"alice", "bob", "carol", "guest"}
    assert after.users["carol"].password.is_of(b"builder")
    assert after.users["bob"].limits == {"max-channels": 10, "max-connections": 3}
    assert after.users["alice"].permissions["shop"].configure == "^shop-"
    assert after.users["alice"].topic_permissions["shop", "amq.topic"].read == "^b"
    assert after.users["guest"].password.is_of(b"guest")
    assert set(after.users["guest"].permissions) == {"/", "shop"}
    assert after.parameters.by_name["", "mine"].value == {"a": [1, 2, {"b": None}], "c": "d"}
    assert shop.parameters.by_name["vhost-limits", "limits"].value == {
        "max-connections": 256,
        "max-queues": 1024,
    }


def test_the_configurations_user_is_not_made_to_last(broker: Broker, store: LedgerStore) -> None:
    load_rows(broker, permissions=[{"user": "guest", "vhost": "/", "configure": "", "write": "", "read": ""}])
    store.commit()
    after = Broker(store.survivor())
    after.add_user(User("guest", hash_password("new"), []))
    after.recover()
    assert after.users["guest"].password.is_of(b"new")
    assert after.users["guest"].permissions["/"].read == ""
    alone = Broker(store.survivor())
    alone.recover()
    assert not alone.users


# -- all or nothing


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"vhosts": [{}]}, "$.vhosts[0].name", "missing"),
    ({"vhosts": [{"name": "x" * 256}]}, "$.vhosts[0].name", "longer than 255 bytes"),
    ({"vhosts": [{"name": "v", "tags": [1]}]}, "$.vhosts[0].tags", "expected a list of strings"),
    ({"users": [{"name": "u"}]}, "$.users[0].password_hash", "missing"),
    ({"users": [{"name": "u", "password_hash": "!"}]}, "$.users[0].password_hash", "expected base64"),
    (
        {"users": [{"name": "u", "password_hash": "AAAA", "hashing_algorithm": "crc"}]},
        "$.users[0].password_hash",
        "not a salt of four octets and a hash by crc",
    ),
    (
        {"users": [{"name": "u", "password_hash": "AAAA", "hashing_algorithm": ARGON2ID}]},
        "$.users[0].password_hash",
        f"not a hash of bearable cost by {ARGON2ID}",
    ),
    (
        {"permissions": [{"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}]},
        "$.permissions[0].user",
        "user 'nobody' not found",
    ),
    (
        {"permissions": [{"user": "guest", "vhost": "/", "configure": "(", "write": "", "read": ""}]},
        "$.permissions[0].configure",
        "not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    (
        {"permissions": [{"user": "guest", "vhost": "/", "configure": "", "write": r"\pL", "read": ""}]},
        "$.permissions[0].write",
        r"not a regular expression: bad escape \p at position 0",
    ),
    (
        {
            "topic_permissions": [
                {"user": "guest", "vhost": "/", "exchange": "x", "write": "{username}", "read": "[{username}"}
            ]
        },
        "$.topic_permissions[0].read",
        "not a regular expression: unterminated character set at position 0",
    ),
    (
        {"users": [{"name": "u", "password": "p", "limits": {"max-channels": "10"}}]},
        "$.users[0].limits",
        "max-channels should be a whole number",
    ),
    (
        {
            "parameters": [
                {"component": "vhost-limits", "name": "limits", "vhost": "/", "value": {"max-queues": 0.5}}
            ]
        },
        "$.parameters[0].value",
        "max-queues should be a whole number",
    ),
    (
        {"parameters": [{"component": "c", "name": "n", "vhost": "/", "value": [2**64]}]},
        "$.parameters[0].value",
        "has a number that does not fit in 64 bits",
    ),
    (
        {"global_parameters": [{"name": "n", "value": {"deep": -(2**64)}}]},
        "$.global_parameters[0].value",
        "has a number that does not fit in 64 bits",
    ),
    (
        {"users": [{"name": "u", "password": "p", "limits": {"max-channels": 2**64}}]},
        "$.users[0].limits",
        "has a number that does not fit in 64 bits",
    ),
    (
        {"vhosts": [{"name": "v", "metadata": {"theirs": 2**64}}]},
        "$.vhosts[0].metadata",
        "has a number that does not fit in 64 bits",
    ),
    (
        {"parameters": [{"component": "c", "name": "n", "vhost": "nope"}]},
        "$.parameters[0].vhost",
        "vhost nope not found",
    ),
    (
        {"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": -1}}]},
        "$.policies[0].definition",
        "-1 is not a valid maximum length",
    ),
    (
        {"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 2**64}}]},
        "$.policies[0].definition.max-length",
        "18446744073709551616 does not fit in 64 bits",
    ),
    (
        {
            "policies": [
                {"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 1}, "priority": "1"}
            ]
        },
        "$.policies[0].priority",
        "expected a whole number",
    ),
    (
        {
            "policies": [
                {
                    "vhost": "/",
                    "name": "p",
                    "pattern": "",
                    "definition": {"max-length": 1},
                    "apply-to": "sheep",
                }
            ]
        },
        "$.policies[0].apply-to",
        "apply-to 'sheep' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', "
        "'exchanges', or 'all'",
    ),
    (
        {
            "parameters": [
                {
                    "vhost": "/",
                    "component": "operator_policy",
                    "name": "o",
                    "value": {"pattern": "", "definition": [["queue-mode", "lazy"]]},
                }
            ]
        },
        "$.parameters[0].value.definition",
        '[{<<"queue-mode">>,<<"lazy">>}] are not recognised policy settings',
    ),
    (
        {"exchanges": [{"name": "x", "vhost": "/", "type": "odd"}]},
        "$.exchanges[0].type",
        "unknown exchange type 'odd'",
    ),
    (
        {
            "exchanges": [
                {"name": "x", "vhost": "/", "type": "direct", "arguments": {"alternate-exchange": 1}}
            ]
        },
        "$.exchanges[0].arguments",
        "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
    ),
    (
        {"queues": [{"name": "q", "vhost": "/", "durable": 1}]},
        "$.queues[0].durable",
        "expected true or false",
    ),
    ({"queues": [{"name": "q", "vhost": "nope"}]}, "$.queues[0].vhost", "vhost nope not found"),
    (
        {"queues": [{"name": "q", "vhost": "/", "arguments": {"x-queue-type": "stream"}}]},
        "$.queues[0].arguments",
        "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'stream'\"",
    ),
    (
        {"queues": [{"name": "r", "vhost": "/", "type": "quorum", "durable": False}]},
        "$.queues[0].arguments",
        "invalid property 'non-durable' for queue 'r' in vhost '/'",
    ),
    (
        {"bindings": [{"source": "amq.direct", "destination": "q", "destination_type": "sheep"}]},
        "$.bindings[0].destination_type",
        'expected "queue" or "exchange"',
    ),
    (
        {
            "queues": [{"name": "q", "vhost": "/"}],
            "bindings": [
                {
                    "source": "amq.headers",
                    "destination": "q",
                    "destination_type": "queue",
                    "arguments": {"x-match": "most"},
                }
            ],
        },
        "$.bindings[0].arguments",
        'Invalid x-match field value <<"most">>; expected all, any, all-with-x, or any-with-x',
    ),
    ({"queues": {}}, "$.queues", "expected a list"),
    ({"queues": [7]}, "$.queues[0]", "expected an object"),
]


@pytest.mark.parametrize(("rows", "path", "text"), BAD, ids=[path + text[:20] for _, path, text in BAD])
def test_a_mistake_is_told_with_its_place(broker: Broker, rows: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(InvalidDefinitions) as caught:
        load_rows(broker, **rows)
    assert [(problem.path, problem.text) for problem in caught.value.problems] == [(path, text)]


def test_all_mistakes_are_told_and_nothing_is_changed(broker: Broker, store: LedgerStore) -> None:
    good = json.loads(export("http"))
    bad = [rows for rows, _, _ in BAD if isinstance(rows.get("queues", []), list)]
    for rows in bad:
        for key, values in rows.items():
            good[key] = good[key] + values
    with pytest.raises(InvalidDefinitions) as caught:
        load(read(json.dumps(good)), broker)
    told = {problem.text for problem in caught.value.problems}
    assert told >= {text for rows, _, text in BAD if rows in bad and "longer" not in text}
    assert set(broker.vhosts) == {"/"}
    assert set(broker.users) == {"guest"}
    assert not broker.vhosts["/"].queues
    assert not broker.vhosts["/"].policies.ordinary.by_name
    assert store.idle


@pytest.mark.parametrize("text", ["{", "[]", "nope", '"x"', "\ufeff{}", '{"a": ' * 2000 + "1" + "}" * 2000])
def test_what_is_no_json_object_is_refused_whole(text: str) -> None:
    with pytest.raises(InvalidDefinitions) as caught:
        read(text)
    assert [problem.path for problem in caught.value.problems] == ["$"]


def test_an_empty_file_holds_nothing(broker: Broker) -> None:
    assert str(load(read(""), broker)) == "nothing new"


# -- older and odder forms


def test_before_rabbitmq_3_6_hashes_were_of_another_kind(broker: Broker) -> None:
    row = {"name": "old", "password_hash": "YJm1OOL2/f/3t+xc1C107XTuPmRHX1+E"[:28], "tags": ""}
    salted = "YJm1OK9HIN80DdyNGaD42nVD5FI="
    row["password_hash"] = salted
    text = json.dumps({"rabbit_version": "3.5.8", "users": [row]})
    load(read(text), broker)
    assert broker.users["old"].password.algorithm == "rabbit_password_hashing_md5"


def test_a_user_without_a_password_cannot_log_in(broker: Broker) -> None:
    load_rows(broker, users=[{"name": "u", "password_hash": "", "tags": []}])
    assert not broker.users["u"].password.is_of(b"")


def test_the_type_of_a_queue_beside_its_arguments_counts(broker: Broker) -> None:
    load_rows(broker, queues=[{"name": "q", "vhost": "/", "type": "quorum"}])
    assert broker.vhosts["/"].queues["q"].arguments == table_of({"x-queue-type": "quorum"})


def test_a_default_type_that_there_is_not_is_told(broker: Broker) -> None:
    loaded = load_rows(broker, vhosts=[{"name": "v", "metadata": {"default_queue_type": "stream"}}])
    assert [warning.path for warning in loaded.warnings] == ["$.vhosts[0].default_queue_type"]
    vhost: VirtualHost = broker.vhosts["v"]
    assert vhost.declare_queue("q", DURABLE, {}, None).arguments == {}


@pytest.mark.parametrize("levels", [72, 73, 900])
def test_what_is_nested_too_deeply_is_refused_whole(levels: int) -> None:
    text = '{"global_parameters": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
    if levels == 72:
        assert [str(problem) for problem in read(text).problems] == [
            "$.global_parameters[0]: expected an object"
        ]
        return
    with pytest.raises(InvalidDefinitions) as caught:
        read(text)
    assert str(caught.value) == "$: has more than 72 levels of lists and objects within each other"


# -- in portions


def test_nothing_is_changed_before_all_of_it_is_checked(broker: Broker) -> None:
    rows = {
        "vhosts": [{"name": "shop"}],
        "queues": [{"name": f"q{number}", "vhost": "shop", "durable": True} for number in range(20)],
        "bindings": [
            {"source": "amq.direct", "vhost": "gone", "destination": "q0", "destination_type": "queue"}
        ],
    }
    steps = Loading(read(json.dumps(rows)), broker).steps()
    with pytest.raises(InvalidDefinitions):
        for _ in steps:
            assert "shop" not in broker.vhosts
    assert "shop" not in broker.vhosts


def test_what_is_not_possible_any_more_is_passed_over_with_a_warning(broker: Broker) -> None:
    rows = {
        "vhosts": [{"name": "shop"}],
        "users": [{"name": "alice", "password": "x", "tags": ""}],
        "permissions": [{"user": "alice", "vhost": "/", "configure": "", "write": "", "read": ""}],
        "exchanges": [{"name": "e", "vhost": "/", "type": "direct", "durable": True}],
        "queues": [
            {"name": "in-shop", "vhost": "shop", "durable": True},
            {"name": "here", "vhost": "/", "durable": True},
        ],
        "bindings": [
            {
                "source": "e",
                "vhost": "/",
                "destination": "here",
                "destination_type": "queue",
                "routing_key": "k",
            },
        ],
    }
    loading = Loading(read(json.dumps(rows)), broker)
    steps = loading.steps()
    while not loading.loaded.counts["users"]:
        next(steps)
    # Clients and administrators go on meanwhile.
    broker.delete_user("alice")
    broker.delete_vhost("shop")
    broker.vhosts["/"].declare_exchange("e", "x-consistent-hash", ExchangeFlags(True, False, False), {})
    for _ in steps:
        pass
    assert [str(warning) for warning in loading.loaded.warnings] == [
        "$.permissions[0]: not loaded: user 'alice' has been removed meanwhile",
        "$.queues[0]: not loaded: vhost shop has been removed meanwhile",
        '$.bindings[0]: not loaded: The binding key must be an integer: <<"k">>',
    ]
    assert "here" in broker.vhosts["/"].queues
    assert loading.loaded.counts["queues"] == 1


def test_a_long_list_is_read_like_a_short_one(broker: Broker) -> None:
    count = 2 * ROWS_AT_ONCE + 1
    queues = [{"name": f"q\n[{number}]", "vhost": "/", "durable": True} for number in range(count)]
    text = json.dumps({"rabbit_version": "3.10.8", "queues": queues, "policies": []}, indent=2)
    assert [row.name for row in read(text).queues] == [queue["name"] for queue in queues]
    assert [row.path for row in read(text.encode()).queues][-1] == f"$.queues[{count - 1}]"
    with pytest.raises(InvalidDefinitions) as refusal:
        read(text[: text.index("[400]")] + "\n")
    assert "JSON" in str(refusal.value)
