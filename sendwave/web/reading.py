"""Bodies of requests, within a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import Request

from sendwave.errors import Busy, SendwaveError

SECONDS: Final = 30.0
"""A sender slower than that with its body is told to come again."""


class TooLong(SendwaveError):
    """The body is longer than it may be; the rest of it was not read."""


class HungUp(SendwaveError):
    """The sender left before its body was complete: nobody waits for an answer."""


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLong beyond `limit` bytes, Busy when it does not come in time, HungUp."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise TooLong(f"the body is longer than {limit:,} bytes")
    found = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            more = True
            while more:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise HungUp("the sender hung up")
                found += message.get("body", b"")
                more = message.get("more_body", False)
                if len(found) > limit:
                    raise TooLong(f"the body is longer than {limit:,} bytes")
    except TimeoutError:
        raise Busy(f"the body did not come within {SECONDS:g} s") from None
    return bytes(found)
