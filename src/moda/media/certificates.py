"""Certificates and keys for signed manifests; needs the package cryptography."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from moda.errors import InputError
from moda.files import read_limited

SMALLEST_KEY_BITS = 2048


def read_identity(certificate: Path, key_file: Path) -> tuple[bytes, bytes, bytes]:
    """Chain, key and the signature algorithm that goes with the key."""
    try:
        chain, key = read_limited(certificate, 2**20), read_limited(key_file, 2**20)
        certificates = x509.load_pem_x509_certificates(chain)
        private = serialization.load_pem_private_key(key, None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"certificate {certificate} and key {key_file} cannot be read ({error}); "
            "give PEM files, the key without a password"
        ) from None
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificates[0].public_key().public_bytes(*spki) != private.public_key().public_bytes(*spki):
        raise InputError(f"key {key_file} is not that of the first certificate in {certificate}")
    if certificates[0].not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise InputError(
            f"certificate {certificate} ended on "
            f"{certificates[0].not_valid_after_utc:%Y-%m-%d}; get a new one"
        )
    return chain, key, _algorithm(private, key_file)


def _algorithm(private: Any, path: Path) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= SMALLEST_KEY_BITS:
        return b"ps256"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
        if private.curve.name in curves:
            return curves[private.curve.name]
    raise InputError(
        f"key {path} is of a kind that C2PA does not know; use ECDSA on P-256, P-384 or P-521, "
        f"Ed25519, or RSA with at least {SMALLEST_KEY_BITS} bits"
    )


def one_use_identity() -> tuple[bytes, bytes, bytes]:
    """A certificate for one file, and the root that vouches for it; both keys are forgotten."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, name = (
        x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "MoDA, identity not verified"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            ]
        )
        for common in ("one-use root", "one-use certificate")
    )
    root = _certificate(root_name, root_name, root_key, root_key, is_authority=True)
    leaf = _certificate(name, root_name, key, root_key, is_authority=False)
    chain = b"".join(part.public_bytes(serialization.Encoding.PEM) for part in (leaf, root))
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return chain, pem, b"es256"


def _certificate(
    subject: Any, issuer: Any, key: Any, issuer_key: Any, *, is_authority: bool
) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    if not is_authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purposes, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
