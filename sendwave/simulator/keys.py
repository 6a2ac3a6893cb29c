"""Keys of the simulator's webhooks. The elliptic one is always the same; the RSA one is fresh at each start.

They prove nothing outside a rehearsal. Public keys need the extra `signatures` (cryptography).
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from sendwave.errors import BadInput

_SCALAR: Final = 0x5EED_0F_A_4E4EA45A1  # any number below the order of P-256
_RSA_BITS: Final = 2048


def _library() -> Any:
    try:
        import cryptography.hazmat.primitives.asymmetric.ec
        import cryptography.hazmat.primitives.asymmetric.padding
        import cryptography.hazmat.primitives.asymmetric.rsa
        import cryptography.hazmat.primitives.hashes
        import cryptography.hazmat.primitives.serialization
        import cryptography.x509
    except ModuleNotFoundError as missing:
        raise BadInput(
            "this provider signs its webhooks by public key: pip install 'sendwave[signatures]'"
        ) from missing
    return cryptography


class Keys:
    """What webhooks are signed with, each made when first asked for."""

    @cached_property
    def curve(self) -> Any:
        """P-256, for ECDSA."""
        primitives = _library().hazmat.primitives
        return primitives.asymmetric.ec.derive_private_key(_SCALAR, primitives.asymmetric.ec.SECP256R1())

    @cached_property
    def modulus(self) -> Any:
        """RSA of 2048 bits."""
        return _library().hazmat.primitives.asymmetric.rsa.generate_private_key(65537, _RSA_BITS)

    def ecdsa(self, signed: bytes) -> str:
        """Base64 of ECDSA with SHA-256."""
        primitives = _library().hazmat.primitives
        scheme = primitives.asymmetric.ec.ECDSA(primitives.hashes.SHA256())
        return base64.b64encode(self.curve.sign(signed, scheme)).decode()

    def rsa(self, signed: bytes, *, sha1: bool = False) -> str:
        """Base64 of RSA PKCS #1 v1.5 with SHA-256, or SHA-1."""
        primitives = _library().hazmat.primitives
        digest = primitives.hashes.SHA1() if sha1 else primitives.hashes.SHA256()
        return base64.b64encode(self.modulus.sign(signed, primitives.asymmetric.padding.PKCS1v15(), digest)).decode()

    def public(self, key: Any) -> str:
        """Base64 of the public half, as dashboards show it."""
        forms = _library().hazmat.primitives.serialization
        der = key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def certificate(self, now: datetime) -> bytes:
        """An X.509 certificate (PEM) of the RSA key, a year long, for messages signed the way of Amazon SNS."""
        library = _library()
        x509, primitives = library.x509, library.hazmat.primitives
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "sns.example")])
        built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.modulus.public_key())
        built = (
            built.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
        )
        signed = built.sign(self.modulus, primitives.hashes.SHA256())
        pem: bytes = signed.public_bytes(primitives.serialization.Encoding.PEM)
        return pem
