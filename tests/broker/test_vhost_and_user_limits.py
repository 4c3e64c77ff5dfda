"""Limits of virtual hosts and users as they are written, and what counts against them."""

from __future__ import annotations

import pytest

from amqp_broker.broker.limits import NO_LIMIT, limit_in, limits_problem

NAME = "max-queues"


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({NAME: 3}, 3),
        ({NAME: 0}, 0),
        ([[NAME, 3]], 3),
        ({}, NO_LIMIT),
        ([], NO_LIMIT),
        (None, NO_LIMIT),
        ("3", NO_LIMIT),
        ({"max-connections": 3}, NO_LIMIT),
        ({NAME: -5}, NO_LIMIT),
        ({NAME: "3"}, NO_LIMIT),
        ({NAME: True}, NO_LIMIT),
        ({NAME: 3.5}, NO_LIMIT),
        ([[NAME]], NO_LIMIT),
    ],
)
def test_a_limit_is_a_whole_number_from_0_on(limits: object, limit: int) -> None:
    assert limit_in(limits, NAME) == limit


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({NAME: 3, "max-shovels": "many"}, None),
        ({NAME: -1}, None),
        ({NAME: None}, None),
        ([[NAME, 3]], None),
        ({NAME: "3"}, "max-queues should be a whole number"),
        ({NAME: True}, "max-queues should be a whole number"),
        ([NAME, 3], "expected an object"),
        (3, "expected an object"),
        (None, "expected an object"),
    ],
)
def test_limits_that_would_not_count_are_a_problem(limits: object, problem: str | None) -> None:
    assert limits_problem(limits, (NAME,)) == problem
