"""Speaking to an ESP over HTTP: kept connections, and what each way of failing proves.

Only what shows that nothing was taken is Transient or Permanent. A time-out, a broken line or a 5xx after the request
left proves nothing: customers of several ESPs report 5xx answers to mail that was sent, so these are Unknown.
"""

from __future__ import annotations

import email.utils
import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn
from urllib.parse import quote, quote_plus

import httpx
import orjson

from sendwave.errors import Held, Permanent, Transient, Unknown
from sendwave.esp.columns import written

DEFAULT_WAIT: Final = 30.0
"""Seconds to wait after a 429 that does not say how long."""

STOPPED: Final = "esp_account_stopped"
"""Reason of the hold on a route whose ESP stopped the account: a person must mend it there."""

QUOTA: Final = "esp_quota_used_up"
"""Reason of the hold on a route whose quota is used up: a day or month must pass, or a person buy more."""

PAUSE_WAIT: Final = 3600.0
"""Seconds to wait when the ESP stopped the account or its quota is used up: a person must act, or a day pass."""

_LONGEST_WAIT: Final = 86_400.0
_EPOCH: Final = 1e9  # a reset "in" more seconds than that is an instant
_RESETS: Final = ("x-ratelimit-reset", "x-sib-ratelimit-reset", "ratelimit-reset")
_MARKS: Final = {mark: quote_plus(mark) for mark in "%&+;=#" + "".join(map(chr, range(33)))}  # "%" first, " " last
_BEYOND: Final = re.compile(r"[^\x00-\x7e]")
_UNSAFE: Final = re.compile(r"[\x00-\x20%&+;=#]|[^\x00-\x7e]")
_TEXT: Final = 300  # characters of an answer quoted in a message
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_UNSENDABLE: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


class Answer:
    """A complete answer. `document` is its JSON, None where it has none that can be read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        try:
            self.document: Any = orjson.loads(body) if body else None
        except orjson.JSONDecodeError:
            self.document = None

    @property
    def text(self) -> str:
        """The beginning of it, on one line, for messages."""
        return " ".join(self.body.decode("utf-8", "replace").split())[:_TEXT]


class Client:
    """One ESP's API. Safe for several threads. Connects with the first call."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        auth: tuple[str, str] | None = None,
        timeout: float,
        connect_timeout: float = 10.0,
        sign: Callable[[str, bytes], Mapping[str, str]] | None = None,
    ) -> None:
        """Time-outs in seconds: `timeout` for each wait on the answer, `connect_timeout` for getting through.

        `sign` gives the headers that sign a call, from its URL and body.
        """
        self._sign = sign
        self._base, self._headers, self._auth = base_url.rstrip("/"), dict(headers), auth
        self._timeout = httpx.Timeout(timeout, connect=connect_timeout, pool=connect_timeout)
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def post(
        self,
        path: str,
        document: Any = None,
        *,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        """Post JSON, or a form, and give the answer back whatever its status.

        Raises:
            Transient: no connection, so nothing was sent.
            Permanent: the URL or a header cannot be sent at all.
            Unknown: it left, wholly or in part, and no complete answer came.

        """
        told = dict(headers or {})
        if form is None and document is None:
            content = b""
        elif form is None:
            content, told["Content-Type"] = written(document), "application/json"
        else:
            content, told["Content-Type"] = as_form(form), "application/x-www-form-urlencoded"
        try:
            if self._sign is not None:
                told |= self._sign(f"{self._base}{path}", content)
            client = self._open()
            request = httpx.Request(  # httpx's own way there takes a quarter longer
                method,
                _url(f"{self._base}{path}"),
                headers=[*client.headers.raw, *((name.encode(), value.encode()) for name, value in told.items())],
                content=content,
                extensions={"timeout": self._timeout.as_dict()},
            )
            reply = client.send(request)
        except _NOT_SENT as fault:
            raise Transient(f"{self._base} cannot be reached: {_said(fault)}") from fault
        except _UNSENDABLE as fault:
            raise Permanent(f"{self._base} cannot be asked: {_said(fault)}") from fault
        except httpx.HTTPError as fault:
            raise Unknown(f"{self._base} was asked and gave no answer: {_said(fault)}") from fault
        return Answer(reply.status_code, reply.headers, reply.content)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    headers=self._headers, auth=self._auth, timeout=self._timeout, follow_redirects=False
                )
            return self._client


_url = lru_cache(maxsize=1_000)(httpx.URL)
"""An address taken apart, remembered. Raises httpx.InvalidURL."""


def as_form(fields: Mapping[str, Any]) -> bytes:
    """application/x-www-form-urlencoded; a list is its name several times.

    Only what a parser takes for something else is escaped (WHATWG URL §5.1): quotes and braces of JSON stay as they
    are, which is a third of the bytes and a tenth of the time.
    """
    pairs = [(name, v) for name, value in fields.items() for v in (value if isinstance(value, list) else [value])]
    return "&".join([f"{_escaped(name)}={_escaped(str(value))}" for name, value in pairs]).encode()


def _escaped(text: str) -> str:
    if _UNSAFE.search(text) is None:
        return text
    for mark, code in _MARKS.items():
        if mark in text:
            text = text.replace(mark, code)
    for beyond in set(_BEYOND.findall(text)) if not text.isascii() else ():
        text = text.replace(beyond, quote(beyond.encode("utf-8", "replace")))
    return text


def _said(fault: Exception) -> str:
    return str(fault) or type(fault).__name__


def wait_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait, from Retry-After (RFC 9110 §10.2.3) or the ESP's own reset header; None where neither says."""
    given = headers.get("retry-after", "").strip()
    if given and (wait := _number(given)) is not None:
        return _bounded(wait)
    if given and (when := _http_date(given)) is not None:
        return _bounded((when - now).total_seconds())
    for name in _RESETS:
        if (reset := _number(headers.get(name, ""))) is not None:
            return _bounded(reset - now.timestamp() if reset > _EPOCH else reset)
    return None


def _number(written: str) -> float | None:
    try:
        found = float(written)
    except ValueError:
        return None
    return found if found == found and abs(found) != float("inf") else None  # noqa: PLR0124  # NaN is not itself


def _http_date(written: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(written)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 1.0), _LONGEST_WAIT)


def refuse(answer: Answer, now: datetime, *, what: str = "", not_taken: frozenset[int] = frozenset()) -> NoReturn:
    """Raise what an answer other than success means. `what` is the ESP's reason, its text when left out.

    `not_taken` are the 5xx statuses of which the ESP documents that nothing was taken.

    Raises:
        Transient: 429, 408, and `not_taken`.
        Permanent: other 3xx and 4xx.
        Unknown: 5xx, and a 1xx or anything that is no answer.

    """
    reason = f"HTTP {answer.status}: {what or answer.text or 'no text'}"
    if answer.status == 429:
        raise Transient(f"too many requests; {reason}", wait_of(answer.headers, now) or DEFAULT_WAIT)
    if answer.status == 408 or answer.status in not_taken:
        raise Transient(f"not taken; {reason}", wait_of(answer.headers, now) or DEFAULT_WAIT)
    if answer.status in {401, 403}:
        raise Permanent(f"the ESP does not accept the key, or the account may not do this; {reason}")
    if 300 <= answer.status < 500:
        raise Permanent(f"the ESP refuses the batch; {reason}")
    raise Unknown(f"it may have been taken or not; {reason}")


def held(reason: str, answer: Answer, now: datetime, *, quota: bool = False) -> Held:
    """That the ESP itself stopped this account, or its `quota` is used up: a hold, not an error in a loop."""
    wait = max(wait_of(answer.headers, now) or 0.0, PAUSE_WAIT)
    if quota:
        return Held(f"the quota is used up: {reason}", wait, reason=QUOTA)
    return Held(f"the ESP has stopped the account: {reason}", wait, reason=STOPPED)


def pause(reason: str, answer: Answer, now: datetime, *, quota: bool = False) -> NoReturn:
    """Raise `held`: nothing of this call was taken."""
    raise held(reason, answer, now, quota=quota)
