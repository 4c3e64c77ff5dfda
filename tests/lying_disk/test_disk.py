"""What the disk of the replay may lose, and what it may not."""

from __future__ import annotations

import random
from itertools import count
from typing import Final

import pytest

from tests.lying_disk.disk import SECTOR, Change, Choice, Disk
from tests.lying_disk.recording import (
    CREATE,
    MKDIR,
    RENAME,
    SYNC,
    SYNCED,
    TRUNCATE,
    UNLINK,
    WRITE,
    Operation,
)

NOTHING: Final = Choice({}, set())
ALL: Final = Choice()
FILE: Final = "data/file"
Contents = dict[str, bytes | None]


class Played:
    """A disk with a directory that is surely there, and what is asked of it."""

    def __init__(self) -> None:
        self.disk = Disk()
        self._calls = count(1)
        self.does(MKDIR, "data")
        self.does(SYNC, ".")

    def begins(
        self,
        kind: int,
        path: str,
        data: bytes = b"",
        offset: int = 0,
        flags: int = 0,
        result: int | None = None,
    ) -> Operation:
        operation = Operation(kind, next(self._calls), path, flags, offset, data)
        operation.result = len(data) if result is None else result
        self.disk.begin(operation)
        return operation

    def does(
        self,
        kind: int,
        path: str,
        data: bytes = b"",
        offset: int = 0,
        flags: int = 0,
        result: int | None = None,
    ) -> None:
        self.disk.end(self.begins(kind, path, data, offset, flags, result))

    def make(self) -> Played:
        """A file that will be found."""
        self.does(CREATE, FILE)
        self.does(SYNC, "data")
        return self

    def has(self, choice: Choice) -> Contents:
        contents = self.disk.image(choice).contents()
        return {path: None if each is None else bytes(each) for path, each in contents.items() if path != "."}


@pytest.fixture
def played() -> Played:
    return Played()


def test_what_was_written_may_be_lost_until_it_is_synced(played: Played) -> None:
    played.make().does(WRITE, FILE, b"abc")
    assert played.has(ALL) == {"data": None, FILE: b"abc"}
    assert played.has(NOTHING) == {"data": None, FILE: b""}
    sync = played.begins(SYNC, FILE)
    assert played.has(NOTHING)[FILE] == b""
    played.disk.end(sync)
    assert played.has(NOTHING)[FILE] == b"abc"


def test_a_sync_covers_only_what_had_returned_before_it(played: Played) -> None:
    played.make()
    slow = played.begins(WRITE, FILE, b"slow", 0)
    played.does(WRITE, FILE, b"quick", 10)
    sync = played.begins(SYNC, FILE)
    played.does(WRITE, FILE, b"late", 20)
    played.disk.end(slow)
    played.disk.end(sync)
    assert played.has(NOTHING)[FILE] == bytes(10) + b"quick"
    assert played.has(ALL)[FILE] == b"slow" + bytes(6) + b"quick" + bytes(5) + b"late"


def test_a_write_to_a_synced_descriptor_is_sure_when_it_returns(played: Played) -> None:
    write = played.make().begins(WRITE, FILE, b"abc", flags=SYNCED)
    assert (played.has(NOTHING)[FILE], played.has(ALL)[FILE]) == (b"", b"abc")
    played.disk.end(write)
    assert played.has(NOTHING)[FILE] == b"abc"


def test_it_says_nothing_of_what_was_written_before(played: Played) -> None:
    played.make().does(WRITE, FILE, b"aaaa")
    played.does(WRITE, FILE, b"bb", flags=SYNCED)
    assert (played.has(NOTHING)[FILE], played.has(ALL)[FILE]) == (b"bb", b"bbaa")


def test_of_two_writes_to_one_place_either_may_be_the_later(played: Played) -> None:
    played.make().does(WRITE, FILE, b"old")
    played.does(WRITE, FILE, b"new")
    changes, _ = played.disk.pending()
    everything = dict.fromkeys(changes)
    assert played.has(Choice(everything))[FILE] == b"new"
    assert played.has(Choice(everything, backwards=True))[FILE] == b"old"


@pytest.mark.parametrize("offset", [0, 100, SECTOR])
def test_a_write_is_torn_between_sectors_only(offset: int) -> None:
    change = Change(WRITE, offset, bytes(5 * SECTOR))
    seen = set()
    for seed in range(200):
        parts = change.torn(random.Random(seed))
        seen.add(parts)
        edges = {edge for part in parts for edge in part} - {0, len(change.data)}
        assert {(offset + edge) % SECTOR for edge in edges} <= {0}
        assert parts != ((0, len(change.data)),)
    assert len(seen) > 10


def test_what_is_smaller_than_a_sector_gets_there_or_not() -> None:
    change = Change(WRITE, 32, bytes(120))
    assert {change.torn(random.Random(seed)) for seed in range(20)} == {(), ((0, 120),)}


def test_a_name_may_be_lost_until_its_directory_is_synced(played: Played) -> None:
    played.does(CREATE, FILE)
    played.does(WRITE, FILE, b"abc", flags=SYNCED)
    played.does(SYNC, FILE)
    assert played.has(NOTHING) == {"data": None}
    played.does(SYNC, ".")
    assert played.has(NOTHING) == {"data": None}
    played.does(SYNC, "data")
    assert played.has(NOTHING) == {"data": None, FILE: b"abc"}


def test_a_file_is_lost_with_its_directory() -> None:
    played = Played()
    played.does(MKDIR, "data/store")
    played.does(CREATE, "data/store/file")
    played.does(SYNC, "data/store")
    assert played.has(NOTHING) == {"data": None}
    assert played.has(ALL) == {"data": None, "data/store": None, "data/store/file": b""}


def test_what_was_removed_or_renamed_may_be_back(played: Played) -> None:
    played.make().does(RENAME, FILE, b"data/other")
    assert set(played.has(NOTHING)) == {"data", FILE}
    assert set(played.has(ALL)) == {"data", "data/other"}
    played.does(SYNC, "data")
    played.does(UNLINK, "data/other")
    assert set(played.has(NOTHING)) == {"data", "data/other"}
    assert set(played.has(ALL)) == {"data"}


def test_a_length_may_be_lost_too(played: Played) -> None:
    played.make().does(WRITE, FILE, b"abcdef", flags=SYNCED)
    played.does(TRUNCATE, FILE, offset=2)
    assert (played.has(NOTHING)[FILE], played.has(ALL)[FILE]) == (b"abcdef", b"ab")


def test_what_failed_was_not_done_and_half_of_a_write_is_half(played: Played) -> None:
    played.make().does(WRITE, FILE, b"abc", result=-1)
    played.does(WRITE, FILE, b"abc", result=2)
    assert played.has(ALL)[FILE] == b"ab"


def test_images_are_alike_exactly_if_their_keys_are(played: Played) -> None:
    source = random.Random(1)
    played.make()
    seen: dict[object, Contents] = {}
    for _ in range(30):
        at = SECTOR * source.randrange(8)
        flags = source.choice((0, 0, SYNCED))
        written = played.begins(WRITE, FILE, source.randbytes(3 * SECTOR), at, flags=flags)
        for end in (False, True):
            if end:
                played.disk.end(written)
            if source.random() < 0.2:
                played.does(SYNC, FILE)
            for choice in played.disk.choices(source, 5):
                key = played.disk.image(choice).key
                assert seen.setdefault(key, played.has(choice)) == played.has(choice)
    assert len(seen) > 100


def test_nothing_is_chosen_where_nothing_can_be_lost(played: Played) -> None:
    played.make().does(WRITE, FILE, b"abc", flags=SYNCED)
    assert len(list(played.disk.choices(random.Random(1), 5))) == 1
    played.does(WRITE, FILE, b"abc")
    assert len(list(played.disk.choices(random.Random(1), 5))) > 5
