"""Log lines stay lines, whatever is in them."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest

from amqp_broker.server.logs import JsonFormatter, TextFormatter, log_unraisable

ODD = "vhost a\nb\r\x1b[2J\x9b\u202e\u2028\udcff\\ not found"


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("amqp_broker.test", logging.WARNING, "", 0, message, arguments, None)


def test_what_is_not_printed_is_shown_as_python_writes_it() -> None:
    line = TextFormatter().format(record("closed: %s", ODD))
    assert line.isprintable()
    assert line.endswith(r"[WARNING] closed: vhost a\nb\r\x1b[2J\x9b\u202e\u2028\udcff\ not found")


def test_a_json_line_is_printable_and_says_the_same() -> None:
    line = JsonFormatter().format(record("closed: %s", ODD))
    assert line.isprintable()
    assert json.loads(line)["message"] == f"closed: {ODD}"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_letters_of_any_language_stay_as_they_are(formatter: logging.Formatter) -> None:
    assert "queue 'Größe 大小 🐇'" in formatter.format(record("queue '%s'", "Größe 大小 🐇"))


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("planted")
    except ValueError as error:
        failed = logging.LogRecord(
            "x", logging.ERROR, "", 0, "internal error", (), (type(error), error, None)
        )
    assert "internal error\nValueError: planted" in TextFormatter().format(failed)


def test_what_nobody_can_catch_is_logged_unless_a_client_made_it(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("planted")
    log_unraisable(
        SimpleNamespace(exc_type=ValueError, exc_value=error, exc_traceback=None, err_msg=None, object=7)
    )
    assert "an exception that nobody can catch: 7" in caplog.text
    assert "ValueError: planted" in caplog.text
    caplog.clear()
    name = b"\xff"
    wrong = UnicodeDecodeError("ascii", name, 0, 1, "ordinal not in range(128)")
    log_unraisable(
        SimpleNamespace(exc_type=type(wrong), exc_value=wrong, exc_traceback=None, err_msg=None, object=name)
    )
    assert caplog.text == ""
