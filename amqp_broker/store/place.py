"""Whether a file that is open still is the one that its name leads to.

What is written to a file whose name is gone reaches the disk and is lost all the same, with the last process that has
it open. So a writer asks here before it promises anything.
"""

from __future__ import annotations

import os

from amqp_broker.store.errors import StoreError


class Place:
    """path: of a file or directory that is there. Raises OSError if it is not."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)

    @property
    def kept(self) -> bool:
        """Whether what was there is there now."""
        try:
            return _identity(self._path) == self._identity
        except OSError:
            return False

    def check(self) -> None:
        """Raises StoreError unless it is `kept`."""
        if not self.kept:
            name = os.path.basename(self._path)
            raise StoreError(
                self._path, f"{name} is not there any more: what is written to it now would be lost"
            )


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
