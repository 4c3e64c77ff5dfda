"""`python -m tests.penetration` writes the list of attempts into docs/security.md."""

from __future__ import annotations

from tests.penetration.listing import PAGE, with_listing

PAGE.write_text(with_listing(PAGE.read_text()))
