"""A throwaway certificate for 127.0.0.1, so that tests can speak https and see a client refuse what it must."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from authsec_core._clock import SYSTEM_CLOCK

__all__ = ["LoopbackCertificate", "loopback_certificate"]

_VALID = timedelta(days=1)
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackCertificate:
    """What a server needs, and what a client needs to trust it.

    Attributes:
        context: The server's side, for `LoopbackServer(tls=…)`.
        ca_file: A PEM file with the authority that signed it, for `AUTHSEC_CA_FILE`.
    """

    context: ssl.SSLContext
    ca_file: Path


def loopback_certificate(folder: Path, *, host: str = "127.0.0.1") -> LoopbackCertificate:
    """Make a certificate authority and a certificate for `host`; both live for a day and trust nothing else.

    Args:
        folder: Where `ca.pem` is written. The server's private key is there only while it is being loaded.
        host: An IP address. Name another one to get a certificate that a client must refuse.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca = _sign(_ca(ca_key), ca_key)
    leaf = _sign(_leaf(key, ca, host), ca_key)
    ca_file.write_bytes(ca.public_bytes(Encoding.PEM))
    key_file.touch(mode=0o600)
    key_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file.write_bytes(key_text + leaf.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(key_file)  # takes no bytes, only a file
    finally:
        key_file.unlink()
    return LoopbackCertificate(context=context, ca_file=ca_file)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _start(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(SYSTEM_CLOCK.wall(), timezone.utc)
    builder = x509.CertificateBuilder(_name(issuer), _name(subject), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - _VALID).not_valid_after(now + _VALID)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _ca(key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    return (
        _start("authsec loopback CA", "authsec loopback CA", key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )


def _leaf(key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, host: str) -> x509.CertificateBuilder:
    ca_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _start(host, "authsec loopback CA", key)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, SHA256())
