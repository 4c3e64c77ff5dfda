"""What takes longer than a turn should: done a portion at a time, one portion in a turn.

Everybody's chores stand in one line, so that however many there are, what is done between two looks at the sockets is
one portion of one of them. How long a portion takes is the chore's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from mypy_extensions import mypyc_attr

from amqp_broker.broker.timetable import Timed, Timetable

# A time that has always come, even if the clock is set back.
NOW: Final = 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Chore(ABC):
    """Something that is not done at once."""

    __slots__ = ()

    @abstractmethod
    def go_on(self) -> bool:
        """Do a portion; whether that was the last one. If it raises, it is not called again."""


class Chores(Timed):
    """timetable: says when the next portion is due, which is soon."""

    __slots__ = ("_line", "timetable")

    def __init__(self, timetable: Timetable) -> None:
        super().__init__()
        self.timetable: Timetable = timetable
        self._line: deque[Chore] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def add(self, chore: Chore) -> None:
        """To the end of the line."""
        self._line.append(chore)
        self.timetable.wake(self, NOW)

    def time_is_up(self, now: int) -> None:
        if not self._line:
            return
        chore = self._line.popleft()
        if self._line:
            # Also if this one fails.
            self.timetable.wake(self, NOW)
        if not chore.go_on():
            self.add(chore)

    def finish(self) -> None:
        """Do all that is left, in this turn."""
        while self._line:
            self.time_is_up(NOW)
