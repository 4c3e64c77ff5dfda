"""What goes wrong below the store's port.

Every message names the path it is about and the cause, so that it can be shown to an operator as it is.
Nothing here decides what to do next: a failed commit may be tried again, a dead writer may not.
"""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do what it was asked.

    path: the file or directory concerned. cause: what happened, in words.
    code: the errno or LMDB code behind it, 0 if there is none.
    """

    def __init__(self, path: str, cause: str, code: int = 0) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path
        self.cause = cause
        self.code = code


class StoreDied(StoreError):
    """The writer is gone. What it had not answered may be on disk or not; nothing can be committed."""
