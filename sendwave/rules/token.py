"""The signed token each recipient carries: it comes back in events, bounce addresses and unsubscribe links.

40 hexadecimal digits (safe in any local part, RFC 5321 §4.5.3.1.1, whatever its case): version, batch, position, and
a keyed BLAKE2b tag (RFC 7693 §2.9) of 80 bits, so that a forged event or bounce is ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LENGTH: Final = 40
_VERSION: Final = 1
_TAG: Final = 10
_SHAPE: Final = re.compile(f"[0-9a-fA-F]{{{LENGTH}}}")


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
    found = np.full((len(tokens), 2), -1, dtype=np.int64)
    shaped = [index for index, token in enumerate(tokens) if _SHAPE.fullmatch(token)]
    raw, size = bytes.fromhex("".join([tokens[index] for index in shaped])), LENGTH // 2
    tags = b"".join([_tag(key, raw[at : at + size - _TAG]) for at in range(0, len(raw), size)])
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size).astype(np.int64)
    ours = (rows[:, 0] == _VERSION) & (rows[:, -_TAG:] == np.frombuffer(tags, np.uint8).reshape(-1, _TAG)).all(axis=1)
    powers = 256 ** np.arange(5, -1, -1, dtype=np.int64)
    named = np.stack([rows[:, 1:7] @ powers, rows[:, 7:10] @ powers[3:]], axis=1)
    found[np.array(shaped, dtype=np.int64)[ours]] = named[ours]
    return found
