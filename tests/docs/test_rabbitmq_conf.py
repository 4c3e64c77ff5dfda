"""What docs/rabbitmq-conf.md shows is what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from amqp_broker.config.load import check_file
from amqp_broker.config.rabbitmq_conf_keys import KEYS
from tests.docs.pages import ROOT, blocks

PAGE: Final = ROOT / "docs" / "rabbitmq-conf.md"


def test_the_errors_on_the_page_are_those_of_such_a_file(tmp_path: Path) -> None:
    (shown,) = [content for language, content in blocks(PAGE) if language == "text"]
    file = tmp_path / "rabbitmq.conf"
    file.write_text("\n" * 6 + "hartbeat = 5\n\nauth_backends.1 = ldap\n")
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in check_file(file)] == shown.splitlines()


def test_every_key_stands_on_the_page() -> None:
    page = PAGE.read_text()
    assert [key.pattern for key in KEYS if f"`{key.pattern}`" not in page] == []
