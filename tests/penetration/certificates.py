"""Certificates that an authority should not have issued, or has not."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from tests.server.secure import Authority

Files = tuple[Path, Path]
# Subject alternative names with a host name that is no text in any encoding.
UNREADABLE: Final = x509.UnrecognizedExtension(
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x06\x82\x04\xff\xfe\x00a"
)


def issue(
    authority: Authority,
    file: str,
    *common_names: str,
    days: int = 1,
    extension: x509.ExtensionType | None = None,
    by_itself: bool = False,
) -> Files:
    """The files of a certificate with these common names, and of its key. days: it is valid until then.

    by_itself: signed by its own key, in the authority's name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate(authority.file.read_bytes())
    ca_key = serialization.load_pem_private_key(authority._ca.private_key_pem.bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    signer = key if by_itself else ca_key
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    issued = builder.sign(signer, hashes.SHA256())
    files = authority.directory / f"{file}.pem", authority.directory / f"{file}.key"
    files[0].write_bytes(issued.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
