"""What of a configuration this machine would not do: files that cannot be used, addresses that are not its own.

For `amqp-broker check-config`. Nothing is changed, and nobody is disturbed by it: a broker that runs with the same
configuration is not in its way. Whether a file means something to clients is not known here.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import errno
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from amqp_broker.config import Config, ConfigError, HttpTls, Tls
from amqp_broker.config.backends import HTTP
from amqp_broker.config.values import Address, quoted
from amqp_broker.server.clock import NANOSECONDS, SystemClock
from amqp_broker.server.tls import client_context, server_context

# A certificate that ends sooner is worth a line, seconds.
SOON: Final = 14 * 86400
DAY: Final = 86400

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.+?)-----END (?:TRUSTED |X509 )?CERTIFICATE-----",
    re.DOTALL,
)
# Where a listener's trouble may go away by itself.
TAKEN: Final = "somebody listens there now"


class Preflight:
    """problems: what keeps the broker from serving. notes: what will, or may. now: seconds since the epoch."""

    def __init__(self, config: Config, now: float | None = None) -> None:
        self._config = config
        self._now = SystemClock().wall_ns() / NANOSECONDS if now is None else now
        self.problems: list[ConfigError] = []
        self.notes: list[ConfigError] = []
        self._check_certificates()
        self._check_service()
        listeners = config.listeners
        for option, addresses in (("listeners.tcp", listeners.tcp), ("listeners.tls", listeners.tls)):
            for address in addresses:
                self._check_address(option, address)
        for path in listeners.unix:
            self._check_unix_socket(path)

    def _check_certificates(self) -> None:
        tls = self._config.tls
        if not tls.certificate:
            return
        try:
            server_context(tls)
        except ConfigError as error:
            self.problems.append(error)
            return
        self._check_lifetimes(_certificate_files(tls))

    def _check_service(self) -> None:
        """What is needed to ask the service over https."""
        auth = self._config.auth
        if not auth.http.has_https or not any(HTTP in name for name in auth.backends):
            return
        try:
            client_context(auth.http.tls)
        except ConfigError as error:
            self.problems.append(error)
            return
        self._check_lifetimes(_service_files(auth.http.tls))

    def _check_lifetimes(self, files: Iterable[tuple[str, str]]) -> None:
        for option, file in files:
            for first, last in _lifetimes(Path(file)):
                self._check_lifetime(option, file, first, last)

    def _check_lifetime(self, option: str, file: str, first: float, last: float) -> None:
        if self._now > last:
            self._add(
                self.problems, option, file, f"a certificate in it has expired {_days(self._now - last)} ago"
            )
        elif self._now < first:
            problem = f"a certificate in it is not valid before another {_days(first - self._now)}"
            self._add(self.problems, option, file, problem)
        elif last - self._now < SOON:
            self._add(self.notes, option, file, f"a certificate in it expires in {_days(last - self._now)}")

    def _check_address(self, option: str, address: Address) -> None:
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            self._add(self.problems, option, str(address), f"cannot be looked up: {problem}")
            return
        failures = [failure for each in found if (failure := _failure(each[0], each[4])) is not None]
        serious = [failure for failure in failures if failure.errno != errno.EADDRINUSE]
        if len(serious) == len(found) or any(failure.errno == errno.EACCES for failure in serious):
            self._add(self.problems, option, str(address), f"cannot listen: {serious[0].strerror}")
        elif len(serious) < len(failures):
            self._add(self.notes, option, str(address), TAKEN)

    def _check_unix_socket(self, path: str) -> None:
        directory = os.path.dirname(path) or "."
        problem = ""
        try:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                problem = "there is a file that is not a socket"
            else:
                found = _answer(path)
                if found in (0, errno.EAGAIN):
                    self._add(self.notes, "listeners.unix", path, TAKEN)
                elif found not in (errno.ECONNREFUSED, errno.ENOENT):
                    problem = os.strerror(found)
        except FileNotFoundError:
            if not os.path.isdir(directory):
                problem = f"there is no directory {quoted(directory)}"
            elif not os.access(directory, os.W_OK | os.X_OK):
                problem = f"no right to make a file in {quoted(directory)}"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            self._add(self.problems, "listeners.unix", path, f"cannot listen: {problem}")

    @staticmethod
    def _add(to: list[ConfigError], option: str, value: str, problem: str) -> None:
        to.append(ConfigError("configuration", problem, key=option, value=quoted(value)))


def _failure(family: int, where: tuple[object, ...]) -> OSError | None:
    """What keeps a socket from being bound there."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
    except OSError as error:
        return error
    return None


def _answer(path: str) -> int:
    """What comes of connecting to a Unix socket, an errno or 0. One that was left behind refuses, and is replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # At once: where too many wait already, nobody would be let in for long.
        probe.settimeout(0)
        return probe.connect_ex(path)


def _certificate_files(tls: Tls) -> Iterator[tuple[str, str]]:
    """Files that hold certificates, each with its option."""
    yield "tls.certificate", tls.certificate
    for name, (certificate, _key) in tls.sni.items():
        yield f"tls.sni.{quoted(name)}", certificate
    if tls.verify != "none":
        yield "tls.ca", tls.ca


def _service_files(tls: HttpTls) -> Iterator[tuple[str, str]]:
    """The same for the service."""
    if tls.certificate:
        yield "auth.http.tls.certificate", tls.certificate
    if tls.ca and tls.verify != "none":
        yield "auth.http.tls.ca", tls.ca


def _lifetimes(file: Path) -> Iterator[tuple[float, float]]:
    """From when until when each certificate in a file is valid, seconds since the epoch."""
    for found in _CERTIFICATE.finditer(file.read_bytes()):
        try:
            yield lifetime(base64.b64decode(found[1]))
        except (binascii.Error, ValueError, IndexError):
            # OpenSSL has understood it; then this is none of those that count.
            continue


def lifetime(certificate: bytes) -> tuple[float, float]:
    """From when until when a certificate (DER, RFC 5280 section 4.1) is valid, seconds since the epoch.

    Raises ValueError or IndexError for what is none.
    """
    _, outer, _ = _element(certificate, 0)
    _, signed, _ = _element(outer, 0)
    kind, _, at = _element(signed, 0)
    if kind == VERSION:
        # The version is left out of those of the first.
        _, _, at = _element(signed, at)
    for _ in ("signature", "issuer"):
        _, _, at = _element(signed, at)
    kind, validity, _ = _element(signed, at)
    if kind != SEQUENCE:
        raise ValueError(kind)
    kind, first, at = _element(validity, 0)
    later_kind, last, _ = _element(validity, at)
    return _seconds(kind, first), _seconds(later_kind, last)


def _element(octets: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag and contents of the DER element there, and where the next one is."""
    tag, size, start = octets[at], octets[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(octets[start : start + count]), start + count
    return tag, octets[start : start + size], start + size


def _seconds(kind: int, text: bytes) -> float:
    """UTCTime has two digits for the year, from 1950 on; GeneralizedTime four."""
    digits = text.decode("ascii").removesuffix("Z")
    if kind == UTC_TIME:
        digits = ("19" if digits >= "5" else "20") + digits
    parts = (digits[:4], *(digits[place : place + 2] for place in range(4, 14, 2)))
    return float(calendar.timegm(tuple(map(int, parts))))


def _days(seconds: float) -> str:
    days = int(seconds // DAY)
    return "less than a day" if not days else "a day" if days == 1 else f"{days} days"
