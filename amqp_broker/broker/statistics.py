"""What a queue holds at one moment, in numbers.

Made for whoever asks, and never kept: `Queue.statistics` counts, nothing here does.
"""

from __future__ import annotations


class QueueStatistics:
    """Messages that are ready, unacked, or delayed: waiting for their next try; each is one of these. consumers: how
    many.
    """

    __slots__ = ("consumers", "delayed", "ready", "unacked")

    def __init__(self, ready: int, unacked: int, delayed: int, consumers: int) -> None:
        self.ready: int = ready
        self.unacked: int = unacked
        self.delayed: int = delayed
        self.consumers: int = consumers
