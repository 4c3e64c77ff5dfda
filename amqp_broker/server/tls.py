"""TLS: contexts made from the configured files, their renewal, and what peers' certificates say.

A context serves the connections that begin while it is the current one; those before it keep theirs. The broker is
the server in all of them, but for those to the service that is asked over HTTP. The protocol
itself is the standard library's, which the event loop puts between a socket and its `TlsClient`. Nothing here waits,
and no file is read but at the start and when the certificates are to be loaded again.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

from amqp_broker.config import ConfigError, HttpTls, Tls
from amqp_broker.config.values import quoted

_log = logging.getLogger(__name__)

VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
VERIFY_MODES: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
# A client that could ask for handshake after handshake on a connection would cost more than many connections.
OPTIONS: Final = ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION

# What OpenSSL says about a peer that did not get as far as AMQP, where its own words are no help.
_HANDSHAKE_FAULTS: Final = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it knows no version of TLS that is accepted",
    "NO_SHARED_CIPHER": "it knows no cipher suite that is accepted",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "CALLBACK_FAILED": "it asks for a server name that is none",
}

# The types of attributes in names, as RabbitMQ abbreviates them; it writes the others as object identifiers.
NAME_TYPES: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "EMAILADDRESS",
    "generationQualifier": "GENERATIONQUALIFIER",
    "givenName": "GIVENNAME",
    "initials": "INITIALS",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "pseudonym": "PSEUDONYM",
    "serialNumber": "SERIALNUMBER",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "surname": "SN",
    "title": "TITLE",
    "userId": "UID",
    "businessCategory": "2.5.4.15",
    "description": "2.5.4.13",
    "dnQualifier": "2.5.4.46",
    "name": "2.5.4.41",
    "organizationIdentifier": "2.5.4.97",
    "postalCode": "2.5.4.17",
    "x500UniqueIdentifier": "2.5.4.45",
}


class Certificates:
    """context: for connections that begin now. Raises ConfigError, which names the option and its file."""

    def __init__(self, options: Tls) -> None:
        self._options = options
        self.context = server_context(options)

    def reload(self) -> None:
        """Read the files again. One that cannot be used changes nothing."""
        try:
            self.context = server_context(self._options)
        except ConfigError as error:
            _log.error("the certificates were not loaded again, and the earlier ones are kept: %s", error)
            return
        _log.info("loaded the certificates again, from %s on", self._options.certificate)


def server_context(options: Tls) -> ssl.SSLContext:
    """The context of the default certificate, which hands over to those for other names."""
    context = _context(options, "tls", options.certificate, options.key)
    others = {
        name: _context(options, f"tls.sni.{quoted(name)}", certificate, key)
        for name, (certificate, key) in options.sni.items()
    }

    def choose(connection: ssl.SSLObject, server_name: str | None, _default: ssl.SSLContext) -> None:
        name = (server_name or "").lower()
        other = others.get(name) or others.get("*." + name.partition(".")[2])
        if other is not None:
            connection.context = other

    if others:
        context.sni_callback = choose
    return context


def client_context(options: HttpTls) -> ssl.SSLContext:
    """The context of requests to the service. Raises ConfigError, which names the option and its file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[options.min_version]
    prefix = "auth.http.tls"
    if options.ciphers:
        _set_ciphers(context, f"{prefix}.ciphers", options.ciphers)
    if options.certificate:
        own = (f"{prefix}.certificate", options.certificate)
        key = (f"{prefix}.key", options.key or options.certificate)
        _load_certificate(context, (f"{prefix}.password", options.password), own, key)
    if options.verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca:
        _load_authorities(context, f"{prefix}.ca", options.ca)
    else:
        context.load_default_certs()
    return context


def peer_names(certificate: Mapping[str, Any] | None) -> tuple[str, str]:
    """The common name and the distinguished name of a certificate's subject, as RabbitMQ has them; "" for neither.

    certificate: what `SSLObject.getpeercert` returns. Several common names are joined by commas. The distinguished
    name begins with what the certificate has last, and is escaped as RFC 4514 has it.
    """
    if not certificate:
        return "", ""
    subject = certificate.get("subject", ())
    common = [value for parts in subject for kind, value in parts if kind == "commonName"]
    parts_written = [
        "+".join(f"{NAME_TYPES.get(kind, kind)}={_escaped(value)}" for kind, value in parts)
        for parts in reversed(subject)
    ]
    return ",".join(common), ",".join(parts_written)


def handshake_fault(error: OSError) -> str:
    """Why a handshake failed, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _HANDSHAKE_FAULTS.get(reason) or reason.lower().replace("_", " ") or str(error)
    return error.strerror or "the connection was closed"


def _context(options: Tls, path: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[options.min_version]
    context.options |= OPTIONS
    _set_ciphers(context, "tls.ciphers", options.ciphers)
    own = ("tls.certificate", "tls.key") if path == "tls" else (path, path)
    password = ("tls.password", options.password)
    _load_certificate(context, password, (own[0], certificate), (own[1], key or certificate))
    if options.verify != "none":
        _load_authorities(context, "tls.ca", options.ca)
        context.verify_mode = VERIFY_MODES[options.verify]
    return context


def _set_ciphers(context: ssl.SSLContext, option: str, ciphers: str) -> None:
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError:
        raise _unusable(option, ciphers, "OpenSSL knows none of them") from None


def _load_certificate(
    context: ssl.SSLContext, password: tuple[str, str], certificate: tuple[str, str], key: tuple[str, str]
) -> None:
    """Each comes as the option and its value."""
    for option, file in (certificate, key):
        _check_readable(option, file)
    asked = []

    def answer() -> str:
        # Without an answer OpenSSL would ask the terminal for it.
        asked.append(True)
        return password[1]

    try:
        context.load_cert_chain(certificate[1], key[1], answer)
    except (ssl.SSLError, ValueError, TypeError) as error:
        reason = getattr(error, "reason", None) or ""
        if asked and not password[1]:
            raise _unusable(*key, f"its key is encrypted, and {password[0]} is not set") from None
        if asked:
            raise _unusable(*key, f"{password[0]} does not open it") from None
        if reason == "KEY_VALUES_MISMATCH":
            raise _unusable(*key, "it does not belong to the certificate") from None
        option, file, what = (
            (*key, "key") if _has_certificate(certificate[1]) else (*certificate, "certificate")
        )
        raise _unusable(option, file, f"there is no {what} in PEM that can be used{_detail(error)}") from None


def _load_authorities(context: ssl.SSLContext, option: str, file: str) -> None:
    _check_readable(option, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise _unusable(
            option, file, f"there is no certificate in PEM that can be used{_detail(error)}"
        ) from None


def _has_certificate(file: str) -> bool:
    """Whether OpenSSL finds a certificate there."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True


def _check_readable(option: str, file: str) -> None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        raise _unusable(option, file, f"cannot be read: {cause}") from None


def _unusable(option: str, file: str, problem: str) -> ConfigError:
    return ConfigError("configuration", problem, key=option, value=quoted(file))


def _detail(error: Exception) -> str:
    """What OpenSSL has to say beside that something is wrong, if it is of any help."""
    reason = getattr(error, "reason", None)
    return f" ({reason.lower().replace('_', ' ')})" if reason else ""


def _escaped(value: str) -> str:
    octets = value.encode()
    last = len(octets) - 1
    pieces = []
    for position, octet in enumerate(octets):
        character = chr(octet)
        if octet < 0x20 or octet >= 0x7E:
            pieces.append(f"\\{octet:02X}")
        elif (
            character in '"+,;<>\\'
            or (position == 0 and character in " #")
            or (position == last and character == " ")
        ):
            pieces.append("\\" + character)
        else:
            pieces.append(character)
    return "".join(pieces)
