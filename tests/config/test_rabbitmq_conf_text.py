"""The lines of a rabbitmq.conf: comments, quotes, keys, which files belong to it, and references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from amqp_broker.config import ConfigError
from amqp_broker.config.rabbitmq_conf_text import Setting, files_of, read_settings


def written(tmp_path: Path, text: str, name: str = "rabbitmq.conf") -> Path:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    return path


def read(path: Path, environ: Mapping[str, str] | None = None) -> tuple[list[Setting], list[ConfigError]]:
    return read_settings(files_of(path), environ or {})


def values(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    settings, problems = read(path, environ)
    assert problems == []
    return {setting.key: setting.value for setting in settings}


def problem(path: Path, environ: Mapping[str, str] | None = None) -> str:
    _, problems = read(path, environ)
    (only,) = problems
    return str(only).removeprefix(f"{path.parent}/")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a.b = 1", "1"),
        ("a.b=1", "1"),
        ("  a.b\t=  1  ", "1"),
        ("a.b = 1\r", "1"),
        ("a.b = 1 # one", "1"),
        ("a.b = x#y", "x"),
        ("a.b = two words", "two words"),
        ("a.b = 'x#y'", "x#y"),
        ("a.b = 'x#y'  # quoted", "x#y"),
        ("a.b = ' x '", " x "),
        ("a.b = ''", ""),
        ("a.b = it's", "it's"),
        ('a.b = "x"', '"x"'),
        ("a.b = x = y", "x = y"),
        ("a.b = ^(?!amq\\.).*", "^(?!amq\\.).*"),
        ("a.b = grün", "grün"),
    ],
)
def test_a_line_is_a_key_and_a_value(tmp_path: Path, line: str, value: str) -> None:
    assert values(written(tmp_path, f"{line}\n")) == {"a.b": value}


def test_comments_and_empty_lines_say_nothing_and_the_last_line_needs_no_end(tmp_path: Path) -> None:
    path = written(tmp_path, "# first\n\n   \t\n\t# a = 1\r\n## b = 2\nc = 3")
    assert values(path) == {"c": "3"}


def test_a_dot_in_a_word_of_a_key_is_escaped(tmp_path: Path) -> None:
    settings, _ = read(written(tmp_path, "loopback_users.john\\.doe = true\n"))
    assert settings[0].words == ("loopback_users", "john.doe")
    assert settings[0].key == "loopback_users.john\\.doe"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("heartbeat", "not a line of rabbitmq.conf, which has the form key = value"),
        ("heartbeat : 5", "not a line of rabbitmq.conf, which has the form key = value"),
        ("a..b = 5", "not a line of rabbitmq.conf, which has the form key = value"),
        ("[listeners]", "not a line of rabbitmq.conf; a TOML file needs a name that does not end in .conf"),
        ("heartbeat =", "heartbeat: has no value; an empty one is written ''"),
        ("heartbeat = # 5", "heartbeat: has no value; an empty one is written ''"),
        ("a = 'x", "a: the quotation does not end on this line"),
        ("a = 'x'y", "a: the quotation does not end on this line"),
        ("include other.conf", "there is no file other.conf to include"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, message: str) -> None:
    assert problem(written(tmp_path, f"# one\n{line}\n")) == f"rabbitmq.conf:2: {message}"


def test_every_wrong_line_is_told(tmp_path: Path) -> None:
    settings, problems = read(written(tmp_path, "one\na = 1\ntwo\n"))
    assert [setting.key for setting in settings] == ["a"]
    assert [error.line for error in problems] == [1, 3]


def test_a_later_line_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = written(tmp_path, "a = 1\nb = 2\na = 3\n")
    settings, _ = read(path)
    assert values(path) == {"a": "3", "b": "2"}
    assert settings[0].line == 3


def test_conf_d_beside_the_file_comes_after_it_in_the_order_of_names(tmp_path: Path) -> None:
    main = written(tmp_path, "a = main\nb = main\nc = main\n")
    last = written(tmp_path, "c = 20\n", "conf.d/20-last.conf")
    first = written(tmp_path, "b = 10\nc = 10\n", "conf.d/10-first.conf")
    written(tmp_path, "a = ignored\n", "conf.d/30-other.txt")
    assert files_of(main) == [main, first, last]
    assert values(main) == {"a": "main", "b": "10", "c": "20"}
    settings, _ = read(main)
    assert [setting.source for setting in settings] == [str(main), str(first), str(last)]


def test_a_directory_stands_for_the_files_in_it(tmp_path: Path) -> None:
    written(tmp_path, "b = 2\n", "conf.d/b.conf")
    written(tmp_path, "a = 1\nb = 1\n", "conf.d/a.conf")
    assert values(tmp_path / "conf.d") == {"a": "1", "b": "2"}


def test_an_included_file_is_read_where_it_is_named(tmp_path: Path) -> None:
    written(tmp_path, "a = included\nb = included\n", "parts/one.conf")
    absolute = written(tmp_path, "c = absolute\n", "parts/two.conf")
    path = written(tmp_path, f"a = 1\ninclude parts/on*.conf # some\nb = 2\ninclude {absolute}\n")
    assert values(path) == {"a": "included", "b": "2", "c": "absolute"}


def test_a_pattern_of_files_to_include_may_match_none(tmp_path: Path) -> None:
    assert values(written(tmp_path, "include parts/*.conf\na = 1\n")) == {"a": "1"}


def test_files_that_include_each_other_are_told_apart_from_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, "include other/there.conf\n")
    written(tmp_path, f"a = 1\ninclude {path}\n", "other/there.conf")
    assert problem(path) == f"other/there.conf:2: includes {path}, which includes this file"


def test_a_reference_is_another_key_or_else_an_environment_variable(tmp_path: Path) -> None:
    text = "dir = /etc/$(NAME)\nssl_options.keyfile = $(dir)/$( HOST ).pem\nNAME = mine\n"
    environ = {"NAME": "of the environment", "HOST": "h1"}
    assert values(written(tmp_path, text), environ)["ssl_options.keyfile"] == "/etc/mine/h1.pem"


def test_a_reference_to_a_variable_that_is_empty_is_empty(tmp_path: Path) -> None:
    assert values(written(tmp_path, "a = x$(EMPTY)y\n"), {"EMPTY": ""}) == {"a": "xy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a = 1\ndefault_pass = x$(NO_SUCH)y\n",
            "2: default_pass: $(NO_SUCH) is neither a key of the file nor an environment variable",
        ),
        ("a = $(a)\n", "1: a: $(a) refers back to itself"),
        ("a = $(LOOP)\n", "1: a: $(LOOP) refers back to itself"),
    ],
)
def test_a_reference_to_nothing_or_to_itself_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    assert problem(path, {"LOOP": "$(LOOP)"}) == f"rabbitmq.conf:{message}"


def test_the_same_reference_may_stand_there_twice(tmp_path: Path) -> None:
    assert values(written(tmp_path, "a = $(X)/$(X)\n"), {"X": "1"}) == {"a": "1/1"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert problem(tmp_path / "missing.conf") == "missing.conf: cannot be read: No such file or directory"
    latin = tmp_path / "latin.conf"
    latin.write_bytes(b"a = gr\xfcn\n")
    assert problem(latin).startswith("latin.conf: not UTF-8 text: ")
