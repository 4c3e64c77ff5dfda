"""Whether there is room for one more connection: a configured number, and the file descriptors of the process.

Some descriptors are kept for the broker itself, which opens files while it runs: what does not fit into memory, the
store anew, a definitions file. A socket whose number is above the rest is closed again. What is refused is counted and
logged once at the beginning and once at the end of an episode, however many clients try again and again.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import Final

_log = logging.getLogger(__name__)

# Descriptors that no connection gets; of very few, a share.
RESERVED: Final = 32
_LEAST_SHARE: Final = 4
# Seconds without a refusal after which an episode is over.
CALM: Final = 5.0


def raise_descriptor_limit() -> None:
    """Have as many file descriptors as the system allows this process: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS has limits of its own, which it does not tell.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Admission:
    """most: connections at a time, 0 for any number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._refused = 0
        self._last = 0.0

    def admits(self, connections: int, descriptor: int, now: float) -> bool:
        """Whether a connection may stay that came as number `connections` + 1 on this descriptor."""
        if self._most and connections >= self._most:
            return self._refuse(
                now, f"there are {connections} already, as many as limits.connection_max allows"
            )
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY and descriptor >= limit - min(RESERVED, limit // _LEAST_SHARE):
            text = f"{descriptor} of {limit} file descriptors are in use, with {connections} connections"
            return self._refuse(now, text)
        return True

    def none_left(self, error: OSError, now: float) -> None:
        """The system has no descriptor for a connection that wants to come."""
        self._refuse(now, error.strerror or str(error))

    def tick(self, now: float) -> None:
        """Called about once a second."""
        if self._refused and now - self._last >= CALM:
            _log.warning("connections are accepted again; %d were refused", self._refused)
            self._refused = 0

    def _refuse(self, now: float, reason: str) -> bool:
        if not self._refused:
            _log.warning("connections are refused: %s", reason)
        self._refused += 1
        self._last = now
        return False
