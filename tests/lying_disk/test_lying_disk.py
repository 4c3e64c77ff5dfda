"""The power goes at any point of a recorded run: the data directory opens, and every promise that was heard is kept.

Unlike the tests of the log alone, what is played back is what the processes asked of the system, LMDB's pages included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.lying_disk import __main__ as command
from tests.lying_disk.disk import Choice, Disk
from tests.lying_disk.expected import Expected
from tests.lying_disk.load import PLAIN, VERY_LARGE, record
from tests.lying_disk.recording import (
    MKDIR,
    SYNC,
    WRITE,
    Event,
    NoCompiler,
    Operation,
    RecordedBroker,
    compile_recorder,
    read_trace,
)
from tests.lying_disk.replay import Replay
from tests.memory_disk import fast_directory

SEED = 4
ROUNDS = 10
PAGES, LOG = "data/store/data.mdb", "data/batches.log"
# How many points are looked at here, of the first start and of what follows: `python -m tests.lying_disk` does all.
POINTS = 10
STARTS = 30
# Where something is broken, the first few show it.
BROKEN = 30


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedBroker:
    broker = RecordedBroker(tmp_path_factory.mktemp("recorded"))
    record(broker, SEED, ROUNDS)
    return broker


@pytest.fixture(scope="module")
def events(recorded: RecordedBroker) -> list[Event]:
    return read_trace(recorded.trace)


def returned(events: Iterable[Event]) -> list[Operation]:
    return [event.operation for event in events if event.operation is not None and event.done]


def first_start(events: list[Event]) -> int:
    """How many events there were when the first client came."""
    return next(at for at, event in enumerate(events) if event.operation is None)


def replayed(events: list[Event], points: list[int], **options: int) -> Replay:
    with fast_directory() as directory:
        replay = Replay(events, directory, SEED)
        replay.play(set(points), **options)
    return replay


def some_points(events: list[Event], count: int = BROKEN) -> list[int]:
    points = [at for at, event in enumerate(events) if event.operation is not None]
    return command.chosen(points, count, first_start(events), SEED)


def without(events: list[Event], kind: int, *paths: str) -> list[Event]:
    """The trace of a broker that had not made these calls."""
    return [
        event
        for event in events
        if event.operation is None or event.operation.kind != kind or event.operation.path not in paths
    ]


def meta_pages_first(events: list[Event]) -> tuple[list[Event], list[int]]:
    """The trace of an LMDB that syncs its pages after the page that names them, and the points in between."""
    late: list[Event] = []
    changed: list[Event] = []
    points: list[int] = []
    for event in events:
        operation = event.operation
        if operation is not None and (operation.kind, operation.path) == (SYNC, PAGES):
            late.append(event)
            continue
        changed.append(event)
        is_step = (
            operation is not None and operation.synced and (operation.kind, operation.path) == (WRITE, PAGES)
        )
        if is_step and event.done:
            points.append(len(changed) - 1)
            changed += late
            late = []
    return changed, points


def test_the_recording_comes_to_the_files_that_are_there(
    recorded: RecordedBroker, events: list[Event]
) -> None:
    disk = Disk()
    for event in events:
        if event.operation is not None:
            (disk.end if event.done else disk.begin)(event.operation)
    contents = disk.image(Choice()).contents()
    there = {str(path.relative_to(recorded.disk)): path for path in recorded.disk.rglob("*")}
    assert set(there) | {"."} == set(contents)
    for name, path in there.items():
        # LMDB writes its table of readers through memory.
        if path.is_file() and path.name != "lock.mdb":
            assert path.read_bytes() == bytes(contents[name] or b""), name


def test_the_recording_has_everything_in_it(events: list[Event]) -> None:
    assert events[0].operation is not None
    assert (events[0].operation.kind, events[0].operation.path) == (MKDIR, "data")
    calls = returned(events)
    steps = [each for each in calls if (each.kind, each.path, each.synced) == (WRITE, PAGES, True)]
    assert len(steps) > ROUNDS
    assert sum((each.kind, each.path) == (SYNC, PAGES) for each in calls) >= len(steps)
    assert any(each.kind == WRITE and each.path == PAGES and len(each.data) >= VERY_LARGE for each in calls)
    batches = [each for each in calls if (each.kind, each.path) == (WRITE, LOG)]
    assert all(each.synced for each in batches)
    begun_again = Counter(each.offset for each in batches)
    assert max(begun_again.values()) > ROUNDS // 2
    places = Counter(each.offset for each in calls if (each.kind, each.path) == (WRITE, PAGES))
    assert sum(times > 1 for times in places.values()) >= 5, "pages are hardly ever used again"
    kinds = Counter(event.mark[0] for event in events if event.operation is None)
    assert kinds["confirmed"] > 5 * ROUNDS
    assert min(kinds[kind] for kind in ("committed", "moved", "settled", "purged", "deleted")) >= ROUNDS // 2


def test_the_second_start_had_something_to_take_over(events: list[Event]) -> None:
    declarations = [at for at, event in enumerate(events) if event.mark == ["declaring", PLAIN]]
    assert len(declarations) == 2
    before = events[: declarations[1]]
    killed = max(at for at, event in enumerate(before) if event.operation is None)
    assert any((each.kind, each.path) == (WRITE, PAGES) for each in returned(before[killed:]))


def test_every_promise_is_kept_at_some_points(events: list[Event]) -> None:
    replay = replayed(events, some_points(events, POINTS))
    assert replay.failures == [], "\n".join(map(str, replay.failures))
    assert replay.totals["points"] == POINTS
    assert replay.totals["images"] > replay.totals["points"]


def test_a_first_start_can_be_cut_off_anywhere(events: list[Event]) -> None:
    points = command.chosen(list(range(first_start(events))), STARTS, 0, SEED)
    replay = replayed(events, points)
    assert replay.failures == [], "\n".join(map(str, replay.failures))
    assert replay.totals["points"] == STARTS


def test_confirms_before_the_write_are_found_out(tmp_path: Path) -> None:
    broker = RecordedBroker(tmp_path)
    record(broker, SEED, 2, early=True)
    events = read_trace(broker.trace)
    replay = replayed(events, some_points(events), most_failures=1)
    assert "confirmed, but lost" in str(replay.failures[0])


def test_a_broker_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    broker = RecordedBroker(tmp_path, '[data]\ndurability = "process"\n')
    record(broker, SEED, 2)
    events = read_trace(broker.trace)
    replay = replayed(events, some_points(events), most_failures=1)
    assert len(replay.failures) == 1


@pytest.mark.parametrize("path", [PAGES, "data/store", "data"])
def test_every_sync_is_needed(events: list[Event], path: str) -> None:
    fewer = without(events, SYNC, path)
    replay = replayed(fewer, some_points(fewer), most_failures=1)
    assert len(replay.failures) == 1


def test_the_order_of_pages_and_syncs_matters(events: list[Event]) -> None:
    changed, points = meta_pages_first(events)
    replay = replayed(changed, [point for point in points if point > first_start(events)], most_failures=1)
    assert len(replay.failures) == 1


@pytest.mark.parametrize(
    ("marks", "left", "problem"),
    [
        ([["declared", "plain"]], {}, "plain: is gone"),
        ([], {"plain": []}, "plain: is back"),
        ([["confirmed", ["plain"], [["a", 0]]]], {}, "plain: confirmed, but lost"),
        (
            [["confirmed", ["purged"], [["a", 0], ["a", 1]]], ["purging", "purged"]],
            {"purged": [("a", 1)]},
            "half of what was purged",
        ),
        (
            [
                ["confirmed", ["purged"], [["a", 0], ["a", 1]]],
                ["purging", "purged"],
                ["purged", "purged"],
            ],
            {"purged": [("a", 0), ("a", 1)]},
            "acknowledged and settled, but back",
        ),
        (
            [["committing", ["tx.source", "tx.kept"], ["tx", 0]]],
            {"tx.kept": [("tx", 0)]},
            "half of a transaction",
        ),
    ],
)
def test_what_contradicts_a_promise_is_a_problem(
    marks: list[list[object]], left: dict[str, list[tuple[str, int]]], problem: str
) -> None:
    expected = Expected()
    for mark in marks:
        expected.take(mark)
    assert problem in "\n".join(expected.problems(left))


def test_the_recorder_needs_a_compiler_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler, match="C compiler is needed"):
        compile_recorder(tmp_path)


def test_the_command_replays_a_trace_that_was_kept(
    recorded: RecordedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    first = first_start(read_trace(recorded.trace))
    arguments = ["--trace", str(recorded.trace), "--seed", "1", "--points", "1", "--first", str(first)]
    assert command.main([*arguments, "--many", "0", "--served", "1"]) == 0
    printed = capsys.readouterr().out
    assert "| points | 1 |" in printed
    assert "| images served | " in printed


def test_the_documentation_names_the_command() -> None:
    for page in ("durability.md", "contributing.md"):
        assert "python -m tests.lying_disk" in (ROOT / "docs" / page).read_text()
