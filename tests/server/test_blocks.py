"""Blocks for large bodies: used again once nothing refers to them, and given up when idle."""

from __future__ import annotations

from amqp_broker.server.blocks import IDLE, LEAST_DUE, MOST_KEPT, SIZE, Blocks, BodyBuffer


def test_a_block_is_used_again_once_no_view_of_it_is_left() -> None:
    blocks = Blocks()
    first = blocks.take()
    view = memoryview(first)[10:20]
    assert blocks.take() is not first
    view.release()
    assert first in [blocks.take(), blocks.take()]
    assert len(blocks) == 2


def test_a_block_in_use_is_never_handed_out() -> None:
    blocks = Blocks()
    views = []
    for _ in range(3 * MOST_KEPT):
        views.append(memoryview(blocks.take()))
    assert len({id(view.obj) for view in views}) == len(views)
    assert len(blocks) == MOST_KEPT


def test_a_block_keeps_its_size_when_it_is_asked_whether_it_is_used() -> None:
    blocks = Blocks()
    for _ in range(10):
        assert len(blocks.take()) == SIZE


def test_idle_blocks_are_given_up_by_halves_and_those_in_use_stay() -> None:
    blocks = Blocks()
    views = [memoryview(blocks.take()) for _ in range(9)]
    del views[1:]
    counts = []
    for look in range(6):
        blocks.give_up_idle(look * IDLE)
        blocks.give_up_idle(look * IDLE + 1)
        counts.append(len(blocks))
    assert counts == [5, 3, 2, 1, 1, 1]
    assert len(views[0]) == SIZE


def test_a_body_fills_one_block_and_then_the_next() -> None:
    buffer = BodyBuffer(Blocks())
    room = buffer.room(3 * SIZE)
    assert room is not None
    assert len(room) == SIZE
    first = buffer.filled(room, SIZE - 100_000)
    room = buffer.room(2 * SIZE + 100_000)
    assert room is not None
    assert len(room) == 100_000
    second = buffer.filled(room, 100_000)
    assert first.obj is second.obj
    room = buffer.room(2 * SIZE)
    assert room is not None
    assert room.obj is not first.obj


def test_no_more_than_what_is_due_is_received_into_a_block() -> None:
    buffer = BodyBuffer(Blocks())
    room = buffer.room(LEAST_DUE + 5)
    assert room is not None
    assert len(room) == LEAST_DUE + 5


def test_little_is_not_worth_a_block() -> None:
    assert BodyBuffer(Blocks()).room(LEAST_DUE - 1) is None


def test_what_is_left_of_a_block_when_its_body_ends_is_not_used() -> None:
    buffer = BodyBuffer(Blocks())
    room = buffer.room(LEAST_DUE)
    assert room is not None
    first = buffer.filled(room, LEAST_DUE)
    buffer.end()
    room = buffer.room(SIZE)
    assert room is not None
    assert room.obj is not first.obj


def test_all_idle_blocks_go_when_memory_is_short() -> None:
    blocks = Blocks()
    views = [memoryview(blocks.take()) for _ in range(9)]
    del views[2:]
    blocks.give_up_all()
    assert len(blocks) == 2
