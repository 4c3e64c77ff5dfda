"""The commands of docs/administration.md are there, and do what stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from amqp_broker.control import verb
from amqp_broker.control.request import VERBS
from amqp_broker.server.control import ANSWER_PATIENCE, LONGEST_REQUEST, MOST, REQUEST_PATIENCE
from tests.cli.administered import COMMANDS, command, make_store
from tests.docs.pages import ROOT, blocks, prose

PAGE: Final = ROOT / "docs" / "administration.md"
ROWS: Final = re.findall(r"^\| `(.+?) \| `(.+?) \|", prose(PAGE), re.MULTILINE)
# rabbitmqctl's commands that change users, rights, policies, limits and parameters, and some that look.
KNOWN: Final = [
    "add_user", "authenticate_user", "change_password", "clear_password", "delete_user", "list_users",
    "set_user_tags", "add_vhost", "delete_vhost", "list_vhosts", "set_vhost_tags", "set_vhost_limits",
    "set_user_limits", "set_permissions", "clear_permissions", "list_permissions",
    "list_user_permissions", "set_topic_permissions", "list_user_topic_permissions", "clear_vhost_limits",
    "clear_user_limits", "list_vhost_limits", "list_user_limits", "set_policy", "clear_policy",
    "list_policies", "set_operator_policy", "set_parameter", "set_global_parameter", "list_queues",
    "purge_queue", "delete_queue", "list_connections", "close_connection", "close_all_connections",
    "close_all_user_connections", "status", "ping", "export_definitions", "import_definitions",
]  # fmt: skip


def words_of_commands() -> list[list[str]]:
    """The words of each command in the table: `users add USER [--tag TAG]`."""
    found: list[list[str]] = []
    for _, here in ROWS:
        noun = ""
        for text in here.rstrip("`").split("`")[::2]:
            words = text.split()
            noun = words[0] if words[0] in COMMANDS.commands else noun
            found.append(words if words[0] == noun else [noun, *words])
    return found


def test_the_table_has_rabbitmqctls_commands() -> None:
    text = " ".join(left for left, _ in ROWS)
    assert [name for name in KNOWN if name not in text] == []


@pytest.mark.parametrize("words", words_of_commands(), ids=" ".join)
def test_a_command_of_the_table_is_there(words: list[str]) -> None:
    found = COMMANDS
    taken = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)][:2]
    flags = {word.strip("[]") for word in words if word.strip("[]").startswith("-")}
    for name in taken:
        if hasattr(found, "commands"):
            assert name in found.commands, words
            found = found.commands[name]
    options = {option for parameter in found.params for option in parameter.opts}
    assert flags - {"--help"} <= options


def test_what_stands_first_can_be_typed(tmp_path: Path) -> None:
    make_store(tmp_path)
    shell = next(content for language, content in blocks(PAGE) if language == "sh")
    for line in shell.splitlines():
        name, *arguments = shlex.split(line)
        assert name == "amqp-broker"
        ran = command(*arguments, "--data-dir", str(tmp_path))
        assert (ran.status, ran.err) == (0, "")
    assert "alice" in ran.out


def test_verbs_and_kinds_on_the_page_are_there() -> None:
    named = re.findall(r'"verb": "([\w.]+)"', PAGE.read_text())
    assert named
    assert set(named) <= set(VERBS)
    kinds = {verb.NOT_FOUND, verb.EXISTS, verb.INVALID, verb.IMPOSSIBLE, verb.INTERNAL}
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith("`kind` is one of"))
    assert set(re.findall(r"`(\w+)`", line)) - {"kind"} == kinds


def test_the_bounds_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    assert (
        f"{MOST} connections; requests of {LONGEST_REQUEST >> 20} MiB; {REQUEST_PATIENCE:g} s for each to come, "
        f"{ANSWER_PATIENCE:g} s for its answer to be taken"
    ) in text
