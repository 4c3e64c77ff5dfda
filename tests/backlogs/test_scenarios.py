"""Every scenario of the backlogs works on a small scale, finds what goes wrong, and has its row in the docs."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

import pytest

from tests.backlogs import __main__ as command
from tests.backlogs.bench import Order, QueueOrders, latency_of, rate
from tests.backlogs.figures import HEAD, Figures, head, significant
from tests.backlogs.scenarios import SCENARIOS, Backlog
from tests.backlogs.wire import Block, Chunk, publish
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
TINY: Final = 0.0001
RATE: Final = re.compile(r"\d+(,\d{3})*")
SIZES: Final = re.compile(r"[\d,]+ \([\d,]+\)")
BODY: Final = 20


def rows(text: str) -> list[list[str]]:
    """The cells of every row below the head of the table in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def documented() -> str:
    found = re.search(r"<!-- begin: backlogs -->\n(.*?)<!-- end: backlogs -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_finds_all_messages_in_order_and_gives_a_row(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command.main([name, "--scale", str(TINY), "--data-dir", str(tmp_path)])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(head())
    (row,) = rows(printed.out)
    assert len(row) == len(HEAD)
    assert row[0] == name
    # What is removed is not drained, and what comes at a moment of its own is not drained at a rate of its own.
    missing = {"purge": {5}, "delete": {5}, "delayed": {4}}.get(name, set())
    assert {at for at in range(1, 6) if not RATE.fullmatch(row[at])} == missing
    assert all(SIZES.fullmatch(cell) for cell in row[6:8])
    assert (row[8] != "") == SCENARIOS[name].persistent
    assert row[9].count(" / ") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_documentation_has_a_row_for_each_scenario() -> None:
    assert documented().startswith(head())
    assert [row[0] for row in rows(documented())] == list(SCENARIOS)


def test_the_documentation_names_the_command() -> None:
    assert "python -m tests.backlogs\n" in PAGE.read_text()


class Careless(Backlog):
    """It publishes a message less than it expects back."""

    def deliveries(self, scale: float, published: int) -> int:
        return published - 1


def test_a_failure_is_told_and_cleaned_up_and_ends_the_run_if_not_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        command, "SCENARIOS", {"wrong": Careless("wrong", 5_000_000), "right": Backlog("right", 5_000_000)}
    )
    arguments = ["--scale", str(TINY), "--data-dir", str(tmp_path)]
    assert command.main(arguments) == 1
    printed = capsys.readouterr()
    assert rows(printed.out) == []
    assert printed.err.startswith("wrong: AssertionError(")
    assert command.main([*arguments, "--keep-going"]) == 1
    assert [row[0] for row in rows(capsys.readouterr().out)] == ["right"]
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_that_there_is_none_of_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["persistant"])
    assert "no scenario 'persistant'" in capsys.readouterr().err


# -- counting and order


def chunk_of(*numbers: tuple[int, int], tag: bytes = b"c00000") -> Chunk:
    """Deliveries of a consumer, each with a block's number and a position in it."""
    units = [bytes(12) + tag + struct.pack(">IB", *number) + bytes(BODY - 5) + b"\xce" for number in numbers]
    return Chunk(memoryview(b"".join(units)), len(units[0]), BODY)


def test_a_block_numbers_its_messages() -> None:
    messages = [publish("", "q", bytes(BODY), {"delivery_mode": 2}) for _ in range(3)]
    sent = bytes(Block(messages, BODY).numbered(0x01020304))
    unit = len(messages[0])
    bodies = [sent[at + unit - 1 - BODY : at + unit - 1] for at in range(0, len(sent), unit)]
    assert bodies == [b"\x01\x02\x03\x04" + bytes([at]) + bytes(BODY - 5) for at in range(3)]
    assert len(sent) == 3 * unit


def test_messages_in_the_order_of_their_blocks_are_in_order() -> None:
    order = Order([bytes(range(3))], 300)
    everything = [(block, at) for block in range(300) for at in range(3)]
    order.check(chunk_of(*everything[:500]))
    order.check(chunk_of(*everything[500:]))


@pytest.mark.parametrize(
    "wrong",
    [
        [(0, 1), (0, 0)],
        [(0, 0), (0, 2)],
        [(1, 0), (1, 1)],
        [(0, 0), (0, 0)],
        [(0, 0), (0, 1), (0, 2), (2, 0)],
    ],
    ids=["exchanged", "left out", "another block first", "twice", "a block left out"],
)
def test_messages_out_of_order_are_found(wrong: list[tuple[int, int]]) -> None:
    with pytest.raises(AssertionError, match="out of order"):
        Order([bytes(range(3))], 300).check(chunk_of(*wrong))


def test_groups_come_one_after_the_other() -> None:
    right = [(block, at) for group in ((2,), (0, 1)) for block in range(2) for at in group]
    Order([b"\x02", b"\x00\x01"], 2).check(chunk_of(*right))
    with pytest.raises(AssertionError, match="out of order"):
        Order([b"\x02", b"\x00\x01"], 2).check(chunk_of(*sorted(right)))


def test_queues_are_told_apart_by_their_consumers() -> None:
    orders = QueueOrders()
    orders.check(chunk_of((0, 7), (1, 7)))
    orders.check(chunk_of((0, 8), tag=b"c00001"))
    orders.check(chunk_of((2, 7)))
    with pytest.raises(AssertionError, match="2 instead of 1"):
        orders.check(chunk_of((2, 8), tag=b"c00001"))


# -- figures


def test_a_rate_leaves_out_what_belongs_to_a_shallow_queue() -> None:
    times = [(0.0, 0), (1.0, 100), (2.0, 150), (4.0, 350), (5.0, 400)]
    assert rate(times) == 80
    assert rate(times, after=100) == 75
    assert rate(times, before=50) == 87.5


def test_a_percentile_is_one_of_the_values() -> None:
    assert latency_of([at / 1000 for at in range(101)]) == pytest.approx((50, 99, 100))


@pytest.mark.parametrize(
    ("measured", "shown"), [(None, ""), (0.4, "0"), (87.5, "88"), (1234.0, "1,230"), (987_654.0, "988,000")]
)
def test_rates_are_shown_with_three_digits(measured: float | None, shown: str) -> None:
    assert significant(measured) == shown


def test_what_does_not_apply_is_left_empty() -> None:
    figures = Figures("one", 1000)
    figures.filled = 12.4
    assert rows(f"{head()}\n{figures.row()}") == [
        ["one", "1,000", "", "", "", "", "0 (0)", "0 (0)", "", "12 /  /", ""]
    ]
