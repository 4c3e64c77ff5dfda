"""Log lines: where they go and how they look.

Much of what is logged was said by clients. Whatever it is, it stays on its line, and a terminal shows it as it is.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from amqp_broker.config import Log

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_log = logging.getLogger(__name__)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class TextFormatter(logging.Formatter):
    """Time, level and message; characters that are not printed stand there as Python writes them."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(levelname)s] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        if not record.message.isprintable():
            record.message = "".join([_escaped(character) for character in record.message])
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        if text.isprintable():
            return text
        return "".join([letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text])


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def set_up_logging(log: Log) -> None:
    """Send the broker's log lines where the configuration says. Raises OSError for a file that cannot be opened."""
    handler = logging.FileHandler(log.file, encoding="utf-8") if log.file else logging.StreamHandler()
    if log.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    logger = logging.getLogger("amqp_broker")
    logger.handlers[:] = [handler]
    logger.setLevel(_LEVELS[log.level])
    logger.propagate = False
    # Where the log cannot be written, nothing else can be said about that either.
    logging.raiseExceptions = False


def log_unraisable(told: UnraisableHookArgs) -> None:
    """What was raised where nobody can catch it, such as in a callback of OpenSSL's; Python would print it."""
    if told.exc_type is UnicodeDecodeError and isinstance(told.object, bytes):
        # By TLS a client asked for a server name that is none. The handshake ends, and is logged.
        return
    error = (told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback)
    _log.error("%s: %r", told.err_msg or "an exception that nobody can catch", told.object, exc_info=error)
