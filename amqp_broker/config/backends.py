"""The values of `auth.backends`: who says whether a login is right, and who says what a user may do."""

from __future__ import annotations

from typing import Final, NamedTuple

INTERNAL: Final = "internal"
HTTP: Final = "http"
# The one that is named alone does both.
BACKENDS: Final = (INTERNAL, HTTP, f"{HTTP}+{INTERNAL}", f"{INTERNAL}+{HTTP}")


class Backend(NamedTuple):
    """INTERNAL or HTTP each."""

    login: str
    rights: str


def backend_of(name: str) -> Backend:
    login, _, rights = name.partition("+")
    return Backend(login, rights or login)


def backend_name(login: str, rights: str) -> str:
    return login if login == rights else f"{login}+{rights}"
