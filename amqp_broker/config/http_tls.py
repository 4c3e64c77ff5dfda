"""The options of the section `auth.http.tls`: how the service is spoken to whose addresses begin with https://.

Files are opened by `server.tls`.
"""

from __future__ import annotations

from typing import Annotated, Final

from amqp_broker.config.option import Option, Section
from amqp_broker.config.values import Choice, Text

HTTPS: Final = "https://"


class HttpTls(Section, frozen=True, kw_only=True):
    """How the service is spoken to where its addresses begin with https://. SIGHUP has the files read again."""

    ca: Annotated[
        str,
        Option(
            Text(),
            """The file with the certificates of the authorities that the service's certificate must come from, in
            PEM. "" stands for the authorities that the system trusts.""",
        ),
    ] = ""
    certificate: Annotated[
        str,
        Option(
            Text(),
            """The file with the certificate that the broker shows the service, if that asks for one, with its chain,
            in PEM. "" shows none.""",
        ),
    ] = ""
    key: Annotated[
        str,
        Option(
            Text(),
            """The file with that certificate's private key, in PEM, which nobody but the broker's user may be able
            to read. "" if it stands in the file of the certificate.""",
        ),
    ] = ""
    password: Annotated[
        str,
        Option(
            Text(),
            """The password of the private key, if it is encrypted. Set it by the environment variable, which keeps
            it out of the file.""",
            secret=True,
        ),
    ] = ""
    verify: Annotated[
        str,
        Option(
            Choice("required", "none"),
            """Whether the service has to show a certificate that is valid and for the name it is asked by. "none"
            takes anybody for it who is in the way there, and tells him the passwords: for tests alone.""",
        ),
    ] = "required"
    server_name: Annotated[
        str,
        Option(
            Text(),
            """The name that the service is asked for (SNI) and that its certificate has to be for. "" stands for the
            host of the address, which is what to use unless that is a name of your own for it.""",
        ),
    ] = ""
    min_version: Annotated[
        str,
        Option(
            Choice("TLSv1.2", "TLSv1.3"),
            """The oldest version of TLS that is accepted. The newest that both sides know is used.""",
        ),
    ] = "TLSv1.2"
    ciphers: Annotated[
        str,
        Option(
            Text(),
            """The cipher suites for TLS 1.2, the preferred first, as OpenSSL writes them. "" leaves the choice to
            OpenSSL and Python. Those of TLS 1.3 are not chosen here.""",
        ),
    ] = ""
