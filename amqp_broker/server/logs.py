"""Log lines: where they go and how they look."""

from __future__ import annotations

import json
import logging

from amqp_broker.config import Log

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


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
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(log: Log) -> None:
    """Send the broker's log lines where the configuration says. Raises OSError for a file that cannot be opened."""
    handler = logging.FileHandler(log.file, encoding="utf-8") if log.file else logging.StreamHandler()
    if log.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    logger = logging.getLogger("amqp_broker")
    logger.handlers[:] = [handler]
    logger.setLevel(_LEVELS[log.level])
    logger.propagate = False
    # Where the log cannot be written, nothing else can be said about that either.
    logging.raiseExceptions = False
