"""A sample of the differential conversations, compared with what a RabbitMQ said; and the comparison itself.

`python -m interop.differential --against recordings` holds all of them, and without arguments with a RabbitMQ beside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
# Behind all others, so that the package under test is still the installed one.
sys.path.append(str(ROOT))

from interop.differential import codec, comparing, documenting, grammar, recorded, running  # noqa: E402
from interop.differential.brokers import this_broker  # noqa: E402
from interop.differential.groups import GROUPS, all_conversations  # noqa: E402
from interop.differential.known import KNOWN, known_for  # noqa: E402
from interop.differential.normal import Normal, Row  # noqa: E402
from interop.differential.player import OPERATIONS, Target  # noqa: E402
from interop.differential.script import Conversation  # noqa: E402

EVERY: Final = (
    12  # of so many conversations of a group one is in the sample, and all that are known to differ
)
CONVERSATIONS: Final = all_conversations()
BY_NAME: Final = {conversation.name: conversation for conversation in CONVERSATIONS}
SAMPLE: Final = [
    conversation
    for at, conversation in enumerate(CONVERSATIONS)
    if at % EVERY == 0 or known_for(conversation.name) is not None
]
SAID: Final = recorded.read_all(BY_NAME)
SAID_HERE: Final = recorded.read(recorded.HERE)[1]

DECLARED: Final[Row] = ["1.1", "queue.declare-ok", ["~q", 0, 0]]
REFUSED: Final[Row] = ["1.1", "channel.close", [404, "NOT_FOUND - no queue '~q' in vhost '/'", 50, 10]]


@pytest.fixture(scope="module")
def broker() -> Iterator[Target]:
    with this_broker() as target:
        yield target


def test_a_sample_of_the_conversations_agrees_with_what_rabbitmq_said(broker: Target) -> None:
    here = running.held(broker, SAMPLE)
    verdicts = comparing.judge_all(SAMPLE, SAID, here, SAID_HERE)
    bad = [verdict for verdict in verdicts if verdict.outcome not in comparing.FINE]
    assert not bad, "\n\n".join(f"{verdict.outcome}: {verdict.why}" for verdict in bad[:10])


def test_every_conversation_has_been_held_with_rabbitmq() -> None:
    assert len(CONVERSATIONS) >= 400
    assert BY_NAME.keys() == SAID.keys()
    assert {name for name in BY_NAME if len(SAID[name]) != len(BY_NAME[name].steps)} == set()


def test_the_recordings_say_who_was_asked_and_hold_nothing_else() -> None:
    for file in recorded.FOLDER.glob("*.json"):
        said_by, answers = recorded.read(file.stem)
        assert said_by == ("this broker" if file.stem == recorded.HERE else "RabbitMQ 3.10.8")
        assert answers.keys() - BY_NAME.keys() == set()


def test_the_names_of_a_module_s_conversations_begin_with_its_own() -> None:
    for group in GROUPS:
        for conversation in group.conversations():
            assert recorded.group_of(conversation.name) == group.__name__.rpartition(".")[2]


def test_every_step_is_something_the_player_can_do() -> None:
    said = {step.op for conversation in CONVERSATIONS for step in conversation.steps}
    assert said <= OPERATIONS.keys()


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_each_known_difference_is_shown_by_conversations_and_recorded(known: object) -> None:
    showing = [name for name in BY_NAME if known_for(name) is known]
    assert showing
    assert [name for name in showing if name not in SAID_HERE or SAID_HERE[name] == SAID[name]] == []


def test_nothing_else_is_recorded_as_different() -> None:
    assert [name for name in SAID_HERE if known_for(name) is None] == []


def test_the_table_in_the_compatibility_page_is_current() -> None:
    assert documenting.PAGE.read_text() == documenting.written(), (
        "python -m interop.differential --write-docs writes it"
    )


# -- the comparison


def conversation(name: str = "unknown/one") -> Conversation:
    made = Conversation(name)
    made.declare()
    return made


def test_what_differs_is_noticed_and_shown() -> None:
    verdict = comparing.judge(conversation(), [[DECLARED]], [[REFUSED]], None)
    assert verdict.outcome == comparing.DIFFER
    assert "queue.declare" in verdict.why
    assert json.dumps(DECLARED) in verdict.why
    assert json.dumps(REFUSED) in verdict.why


@pytest.mark.parametrize(
    "changed",
    [
        ["1.2", *DECLARED[1:]],
        ["1.1", "queue.declare-ok", ["~q", 1, 0]],
        ["1.1", "queue.declare-ok", ["~q", False, 0.5]],
    ],
)
def test_every_part_of_a_frame_counts(changed: Row) -> None:
    assert comparing.judge(conversation(), [[DECLARED]], [[changed]], None).outcome == comparing.DIFFER


def test_the_order_of_frames_counts() -> None:
    verdict = comparing.judge(conversation(), [[DECLARED, REFUSED]], [[REFUSED, DECLARED]], None)
    assert verdict.outcome == comparing.DIFFER


def test_a_known_difference_is_one_exact_difference() -> None:
    name = KNOWN[0].conversations[0].replace("*", "method")
    one = conversation(name)
    assert comparing.judge(one, [[DECLARED]], [[REFUSED]], [[REFUSED]]).outcome == comparing.KNOWN
    assert comparing.judge(one, [[DECLARED]], [[]], [[REFUSED]]).outcome == comparing.OTHERWISE
    assert comparing.judge(one, [[DECLARED]], [[DECLARED]], [[REFUSED]]).outcome == comparing.NO_LONGER


def test_a_conversation_that_nobody_recorded_does_not_agree() -> None:
    assert comparing.judge(conversation(), None, [[DECLARED]], None).outcome == comparing.UNRECORDED


# -- the rules


def test_own_and_generated_names_are_written_alike_whatever_they_were() -> None:
    first, second = Normal("000001."), Normal("770002.")
    told = [
        [["1.1", "queue.declare-ok", [f"{normal.prefix}q", 0, 0]], ["1.1", "queue.declare-ok", [made, 0, 0]]]
        for normal, made in ((first, "amq.gen-" + "A" * 22), (second, "amq.gen-" + "b" * 22))
    ]
    assert first.rows(told[0]) == second.rows(told[1])


def test_a_generated_name_of_another_form_is_not_taken_for_one() -> None:
    row: Row = ["1.1", "queue.declare-ok", ["amq.gen-short", 0, 0]]
    assert Normal("000001.").rows([row]) == [row]


def test_types_of_table_values_are_kept() -> None:
    table = {"a": codec.Typed("b", 5), "b": codec.Typed("I", 5), "c": 1.5, "d": [None, True]}
    _, properties = codec.decode_header(codec.encode_header(0, {"headers": table}))
    assert properties == [
        ["headers", [["a", "b", 5], ["b", "I", 5], ["c", "d", "1.5"], ["d", "A", [["V", None], ["t", True]]]]]
    ]


def test_the_same_seed_is_the_same_conversation() -> None:
    assert grammar.made_up(7).steps == grammar.made_up(7).steps
    assert grammar.made_up(7).steps != grammar.made_up(8).steps
