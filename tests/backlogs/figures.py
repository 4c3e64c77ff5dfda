"""What was measured in one scenario, and how it is written down."""

from __future__ import annotations

from tests.backlogs.watch import Memory, Watch

HEAD = (
    "scenario",
    "messages",
    "publish/s, shallow",
    "at depth",
    "drain/s, shallow",
    "at depth",
    "broker, MiB",
    "store, MiB",
    "restart, s",
    "directory, MiB",
    "besides",
)


class Figures:
    """Rates are messages a second, the directory's sizes MiB, restarts seconds; None is what does not apply.

    second: the most that the directory takes in a second round.
    """

    def __init__(self, name: str, messages: int) -> None:
        self.name = name
        self.messages = messages
        self.publish_shallow: float | None = None
        self.publish_deep: float | None = None
        self.drain_shallow: float | None = None
        self.drain_deep: float | None = None
        self.broker = Memory()
        self.store = Memory()
        self.restarts: tuple[float, float] | None = None
        self.filled: float | None = None
        self.drained: float | None = None
        self.second: float | None = None
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def saw_second(self, watch: Watch) -> None:
        """A moment of the second round at which the directory may be large."""
        watch.wait_until_idle()
        self.second = max(self.second or 0.0, watch.disk())

    def row(self) -> str:
        rates = (self.publish_shallow, self.publish_deep, self.drain_shallow, self.drain_deep)
        sizes = (self.filled, self.drained, self.second)
        cells = (
            self.name,
            f"{self.messages:,}",
            *(significant(rate) for rate in rates),
            *(f"{each.resident:,.0f} ({each.anonymous:,.0f})" for each in (self.broker, self.store)),
            "" if self.restarts is None else " / ".join(f"{seconds:.2f}" for seconds in self.restarts),
            " / ".join("" if size is None else f"{size:,.0f}" for size in sizes),
            "; ".join(self.notes),
        )
        return line(cells)


def significant(rate: float | None) -> str:
    """Three digits: runs differ by more than the rest."""
    if rate is None:
        return ""
    digits = max(0, len(f"{rate:.0f}") - 3)
    return f"{round(rate, -digits):,.0f}"


def line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def head() -> str:
    return f"{line(HEAD)}\n|{'---|' * len(HEAD)}"
