"""The signed token each recipient carries: it comes back in events, bounce addresses and unsubscribe links.

40 hexadecimal digits (safe in any local part, RFC 5321 §4.5.3.1.1, whatever its case): version, batch, position, and
a keyed BLAKE2b tag (RFC 7693 §2.9) of 80 bits, so that a forged event or bounce is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LENGTH: Final = 40
_VERSION: Final = 1
_TAG: Final = 10
_NOBODYS: Final = "-" * LENGTH
"""Stands in for what has not the length of a token."""

_DIGITS: Final = np.full(128, 255, dtype=np.uint8)
"""Value of each ASCII character as a hexadecimal digit, 255 for the others."""
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = _DIGITS[np.frombuffer(b"0123456789ABCDEF", np.uint8)] = range(
    16
)


def _keyed(key: bytes) -> hashlib.blake2b:
    """A hash that has read the key: copying it costs half of making another."""
    return hashlib.blake2b(digest_size=_TAG, key=key, person=b"sendwave-token-1")


def _tag(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_TAG, key=key, person=b"sendwave-token-1").digest()


def sign(key: bytes, batch: int, position: int) -> str:
    """The token of one recipient. `batch` fits in 48 bits, `position` in 24; `key` has 16 to 64 bytes."""
    body = bytes([_VERSION]) + batch.to_bytes(6, "big") + position.to_bytes(3, "big")
    return (body + _tag(key, body)).hex()


def verify(key: bytes, token: str) -> tuple[int, int] | None:
    """(batch, position) of a token we signed; None for anything else, whatever its shape."""
    if len(token) != LENGTH:
        return None
    try:
        raw = bytes.fromhex(token)
    except ValueError:
        return None
    body, tag = raw[:-_TAG], raw[-_TAG:]
    if len(raw) != LENGTH // 2 or body[0] != _VERSION or not hmac.compare_digest(tag, _tag(key, body)):
        return None
    return int.from_bytes(body[1:7], "big"), int.from_bytes(body[7:10], "big")


def verify_all(key: bytes, tokens: Sequence[str]) -> NDArray[np.int64]:
    """As `verify` for many: one row (batch, position) each, (-1, -1) for what we did not sign."""
    written = "".join([token if len(token) == LENGTH and token.isascii() else _NOBODYS for token in tokens])
    digits = _DIGITS[np.frombuffer(written.encode("ascii"), dtype=np.uint8)].reshape(-1, LENGTH)
    size = LENGTH // 2
    rows = (digits[:, 0::2] << 4) | (digits[:, 1::2] & 15)
    raw, fresh = rows[:, : size - _TAG].tobytes(), _keyed(key)
    tags = []
    for at in range(0, len(raw), size - _TAG):
        tag = fresh.copy()
        tag.update(raw[at : at + size - _TAG])
        tags.append(tag.digest())
    shaped = (digits < 16).all(axis=1) & (rows[:, 0] == _VERSION)
    ours = shaped & (rows[:, -_TAG:] == np.frombuffer(b"".join(tags), np.uint8).reshape(-1, _TAG)).all(axis=1)
    powers = 256 ** np.arange(5, -1, -1, dtype=np.int64)
    named = np.stack([rows[:, 1:7] @ powers, rows[:, 7:10] @ powers[3:]], axis=1)
    return np.where(ours[:, None], named, -1)
