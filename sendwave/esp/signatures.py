"""Signatures by public key, for the ESPs that have them. Needs the extra `signatures` (cryptography).

Verifying only: a wrong key, signature or encoding is False, never an exception. A missing library is BadInput.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from sendwave.errors import BadInput


def _library() -> Any:
    try:
        import cryptography.exceptions
        import cryptography.hazmat.primitives.asymmetric.ec
        import cryptography.hazmat.primitives.asymmetric.padding
        import cryptography.hazmat.primitives.asymmetric.rsa
        import cryptography.hazmat.primitives.hashes
        import cryptography.hazmat.primitives.serialization
        import cryptography.x509
    except ModuleNotFoundError as missing:
        raise BadInput("this webhook's signature needs: pip install 'sendwave[signatures]'") from missing
    return cryptography


def _public_key(written: str) -> Any:
    """A key in PEM, the base64 in the middle of one, or a DKIM record."""
    load = _library().hazmat.primitives.serialization
    if found := re.search(r"\bp=([A-Za-z0-9+/=\s]+)", written):  # out of a DKIM record (RFC 6376 §3.6.1)
        written = found[1]
    if "BEGIN" in written:
        return load.load_pem_public_key(written.encode())
    return load.load_der_public_key(base64.b64decode("".join(written.split()), validate=True))


def check_key(written: str) -> str:
    """The key itself, for settings. Raises ValueError for what is no public key."""
    try:
        _public_key(written)
    except (ValueError, TypeError, binascii.Error) as wrong:
        raise ValueError(f"this is no public key, neither PEM nor base64: {wrong}") from None
    return written


def ecdsa(key: str, signature: str, signed: bytes) -> bool:
    """ECDSA with SHA-256; `signature` is base64 of the DER pair."""
    library = _library()
    primitives = library.hazmat.primitives
    try:
        public = _public_key(key)
        if not isinstance(public, primitives.asymmetric.ec.EllipticCurvePublicKey):
            return False
        scheme = primitives.asymmetric.ec.ECDSA(primitives.hashes.SHA256())
        public.verify(base64.b64decode(signature, validate=True), signed, scheme)
    except (ValueError, TypeError, binascii.Error, library.exceptions.InvalidSignature):
        return False
    return True


def rsa(key: str, signature: str, signed: bytes, *, sha1: bool = False) -> bool:
    """RSA PKCS #1 v1.5 with SHA-256, or SHA-1 where the ESP still signs so; `signature` is base64."""
    try:
        public = _public_key(key)
    except (ValueError, TypeError, binascii.Error):
        return False
    return _rsa(public, signature, signed, sha1=sha1)


def certified(certificate: bytes, signature: str, signed: bytes, *, sha1: bool) -> bool:
    """As `rsa`, by the key of an X.509 certificate (PEM), or of any of several."""
    try:
        found = [one.public_key() for one in _library().x509.load_pem_x509_certificates(certificate)]
    except (ValueError, TypeError):
        return False
    return any(_rsa(public, signature, signed, sha1=sha1) for public in found)


def _rsa(public: Any, signature: str, signed: bytes, *, sha1: bool) -> bool:
    library = _library()
    primitives = library.hazmat.primitives
    if not isinstance(public, primitives.asymmetric.rsa.RSAPublicKey):
        return False
    digest = primitives.hashes.SHA1() if sha1 else primitives.hashes.SHA256()  # theirs to choose
    try:
        public.verify(
            base64.b64decode(signature, validate=True), signed, primitives.asymmetric.padding.PKCS1v15(), digest
        )
    except (ValueError, TypeError, binascii.Error, library.exceptions.InvalidSignature):
        return False
    return True
