"""The options of the section `tls`, and which of them do not go together. Files are opened by `server.tls`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from amqp_broker.config.listeners import Listeners
from amqp_broker.config.option import Option, Section
from amqp_broker.config.values import Choice, Kind, Text, quoted, split_list

# A certificate's file, and that of its key: "" if the first one holds it, too.
CertificateFiles = tuple[str, str]

_SERVER_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class NamedCertificates(Kind[Mapping[str, CertificateFiles]]):
    """Certificates by server name; as text, name=certificate;key separated by commas."""

    @property
    def allowed(self) -> str:
        return 'a table of server names, each with its file or ["certificate file", "key file"]'

    def parse(self, value: object) -> Mapping[str, CertificateFiles]:
        if not isinstance(value, dict):
            raise ValueError
        found: dict[str, CertificateFiles] = {}
        for name, files in value.items():
            lowered = name.lower()
            if not _SERVER_NAME.fullmatch(lowered):
                raise ValueError(f"{quoted(name)} is not a host name (*.example stands for a whole domain)")
            if lowered in found:
                raise ValueError(f"{quoted(name)} stands there twice")
            found[lowered] = self._files([files] if isinstance(files, str) else files)
        return MappingProxyType(found)

    def parse_text(self, text: str) -> Mapping[str, CertificateFiles]:
        pairs = [item.partition("=") for item in split_list(text)]
        if not all(separator for _, separator, _ in pairs):
            raise ValueError("write name=certificate;key,name=certificate;key")
        return self.parse({name.strip(): files.split(";") for name, _, files in pairs})

    def toml(self, value: Mapping[str, CertificateFiles]) -> str:
        if not value:
            return "{}"
        rows = (
            f"{quoted(name)} = [{', '.join(quoted(file) for file in files if file)}]"
            for name, files in value.items()
        )
        return "{ " + ", ".join(rows) + " }"

    @staticmethod
    def _files(files: object) -> CertificateFiles:
        if not isinstance(files, list) or not 1 <= len(files) <= 2:
            raise ValueError
        if not all(isinstance(file, str) and file.strip() and file.isprintable() for file in files):
            raise ValueError
        names = [file.strip() for file in files]
        return names[0], names[1] if len(names) == 2 else ""


class Tls(Section, frozen=True, kw_only=True):
    """Certificates and rules for `listeners.tls`. SIGHUP has the files read again."""

    certificate: Annotated[
        str,
        Option(
            Text(),
            """The file with the broker's certificate and the chain up to, but without, the root that clients
            trust, in PEM. Connections that are open keep the one they began with when it is replaced.""",
        ),
    ] = ""
    key: Annotated[
        str,
        Option(
            Text(),
            """The file with the certificate's private key, in PEM, which nobody but the broker's user may be
            able to read. "" if it stands in the file of the certificate.""",
        ),
    ] = ""
    password: Annotated[
        str,
        Option(
            Text(),
            """The password of the private key, if it is encrypted. Set it by the environment variable, which
            keeps it out of the file.""",
            secret=True,
        ),
    ] = ""
    sni: Annotated[
        Mapping[str, CertificateFiles],
        Option(
            NamedCertificates(),
            """Other certificates for clients that ask for another server name (SNI), by that name:
            { "amqp.example" = ["example.pem", "example.key"] }, or one file for both. "*.example" stands for
            every name directly below. Who asks for a name that is not here gets the certificate above.""",
        ),
    ] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    ca: Annotated[
        str,
        Option(
            Text(),
            """The file with the certificates of the authorities that clients' certificates must come from, in
            PEM. Only your own: whoever gets a certificate from one of them is let in.""",
        ),
    ] = ""
    verify: Annotated[
        str,
        Option(
            Choice("none", "optional", "required"),
            """Whether clients have to show a certificate. "none": they are not asked for one. "optional":
            one that is shown has to be valid. "required": no connection without. In each case they still
            have to log in, which they can with the certificate alone by the mechanism EXTERNAL.""",
        ),
    ] = "none"
    min_version: Annotated[
        str,
        Option(
            Choice("TLSv1.2", "TLSv1.3"),
            """The oldest version of TLS that is accepted. The newest that both sides know is used. Choose
            "TLSv1.3" once all your clients know it.""",
        ),
    ] = "TLSv1.2"
    ciphers: Annotated[
        str,
        Option(
            Text("a list of OpenSSL cipher names", 1),
            """The cipher suites for TLS 1.2, the preferred first, as OpenSSL writes them. The default has
            those with forward secrecy and authenticated encryption only. Those of TLS 1.3 are all of that
            kind and not chosen here.""",
        ),
    ] = "ECDHE+AESGCM:ECDHE+CHACHA20"


def tls_contradictions(listeners: Listeners, tls: Tls) -> Iterator[tuple[str, str, str]]:
    """Values that are each allowed but not together: the option's path, its value, and why not."""
    if not (listeners.tcp or listeners.tls or listeners.unix):
        yield "listeners.tcp", "[]", "listeners.tls and listeners.unix are empty, too: nobody could connect"
    both = [address for address in listeners.tls if address.port and address in listeners.tcp]
    if both:
        yield "listeners.tls", quoted(str(both[0])), "stands in listeners.tcp, too"
    if listeners.tls and not tls.certificate:
        yield "tls.certificate", '""', "has to be a file, as listeners.tls is not empty"
    if tls.verify != "none" and not tls.ca:
        yield "tls.ca", '""', f"has to be a file, as tls.verify is {quoted(tls.verify)}"
