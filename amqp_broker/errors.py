"""The errors that a client is told about, as AMQP 0-9-1 reply codes and RabbitMQ's reply texts.

Any layer raises them; only the session catches them, in one place, and turns a `SoftError` into channel.close
and a `HardError` into connection.close. Nothing here knows about frames. Failures of the broker itself
(a bad configuration, a full disk) are other exceptions, defined where they arise.
"""

from __future__ import annotations

from typing import Final

CONTENT_TOO_LARGE: Final = 311
NO_ROUTE: Final = 312
NO_CONSUMERS: Final = 313
CONNECTION_FORCED: Final = 320
INVALID_PATH: Final = 402
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
FRAME_ERROR: Final = 501
SYNTAX_ERROR: Final = 502
COMMAND_INVALID: Final = 503
CHANNEL_ERROR: Final = 504
UNEXPECTED_FRAME: Final = 505
RESOURCE_ERROR: Final = 506
NOT_ALLOWED: Final = 530
NOT_IMPLEMENTED: Final = 540
INTERNAL_ERROR: Final = 541

REPLY_NAMES: Final = {
    CONTENT_TOO_LARGE: "CONTENT_TOO_LARGE",
    NO_ROUTE: "NO_ROUTE",
    NO_CONSUMERS: "NO_CONSUMERS",
    CONNECTION_FORCED: "CONNECTION_FORCED",
    INVALID_PATH: "INVALID_PATH",
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    FRAME_ERROR: "FRAME_ERROR",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    COMMAND_INVALID: "COMMAND_INVALID",
    CHANNEL_ERROR: "CHANNEL_ERROR",
    UNEXPECTED_FRAME: "UNEXPECTED_FRAME",
    RESOURCE_ERROR: "RESOURCE_ERROR",
    NOT_ALLOWED: "NOT_ALLOWED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    INTERNAL_ERROR: "INTERNAL_ERROR",
}

LONGEST_SHORTSTR: Final = 255


def reply_text(code: int, explanation: str) -> str:
    """`NAME - explanation`, just `NAME` without one, cut to what a short string holds.

    That is 255 octets of UTF-8, of which the last three are dots if it was cut.
    """
    text = f"{REPLY_NAMES[code]} - {explanation}" if explanation else REPLY_NAMES[code]
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= LONGEST_SHORTSTR:
        return text
    return encoded[: LONGEST_SHORTSTR - 3].decode("utf-8", "ignore") + "..."


class AmqpError(Exception):
    """An error that a client is told: `code` and `explanation`, without the code's name before it.

    class_id, method_id: the method that failed, 0 and 0 where there is none; the session fills them in.
    """

    def __init__(self, code: int, explanation: str) -> None:
        super().__init__(code, explanation)
        self.code: int = code
        self.explanation: str = explanation
        self.class_id: int = 0
        self.method_id: int = 0

    @property
    def text(self) -> str:
        return reply_text(self.code, self.explanation)


class SoftError(AmqpError):
    """Closes the channel it arose on."""


class HardError(AmqpError):
    """Closes the connection."""


class MalformedName(HardError):
    """A short string that is not UTF-8. RabbitMQ blames it on no method, so it keeps class and method 0."""


def queue_in(name: str, vhost: str) -> str:
    return f"queue '{name}' in vhost '{vhost}'"


def exchange_in(name: str, vhost: str) -> str:
    return f"exchange '{name}' in vhost '{vhost}'"


def not_found(explanation: str) -> SoftError:
    return SoftError(NOT_FOUND, explanation)


def no_queue(name: str, vhost: str) -> SoftError:
    return SoftError(NOT_FOUND, "no " + queue_in(name, vhost))


def no_exchange(name: str, vhost: str) -> SoftError:
    return SoftError(NOT_FOUND, "no " + exchange_in(name, vhost))


def access_refused(explanation: str) -> SoftError:
    return SoftError(ACCESS_REFUSED, explanation)


def precondition_failed(explanation: str) -> SoftError:
    return SoftError(PRECONDITION_FAILED, explanation)


def resource_locked(resource: str) -> SoftError:
    """Another connection's exclusive queue, or a redeclaration that differs in `exclusive`."""
    return SoftError(
        RESOURCE_LOCKED,
        f"cannot obtain exclusive access to locked {resource}. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration.",
    )


def frame_error(explanation: str) -> HardError:
    return HardError(FRAME_ERROR, explanation)


def syntax_error(explanation: str) -> HardError:
    return HardError(SYNTAX_ERROR, explanation)


def command_invalid(explanation: str) -> HardError:
    return HardError(COMMAND_INVALID, explanation)


def channel_error(explanation: str) -> HardError:
    return HardError(CHANNEL_ERROR, explanation)


def unexpected_frame(explanation: str) -> HardError:
    return HardError(UNEXPECTED_FRAME, explanation)


def not_allowed(explanation: str) -> HardError:
    return HardError(NOT_ALLOWED, explanation)


def not_implemented(explanation: str) -> HardError:
    return HardError(NOT_IMPLEMENTED, explanation)


def internal_error(explanation: str) -> HardError:
    return HardError(INTERNAL_ERROR, explanation)
