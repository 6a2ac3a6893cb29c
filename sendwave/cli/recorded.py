"""A webhook request out of a file, as people and tools record them: {method, path, query, content_type, headers, body}.

A signature is over the bytes as they came. Where the recorder kept only what it had read from them, every usual way to
write that is tried: a signature that fits one of them was made by somebody with the key.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sendwave.errors import BadInput
from sendwave.esp.base import WebRequest


def read(path: Path) -> Sequence[WebRequest]:
    """The request in the file, as it may have been: one, or several where its bytes are not known. Raises BadInput."""
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"{path} is no JSON: {wrong}") from None
    if not isinstance(told, dict) or not {"body", "body_base64"} & told.keys():
        raise BadInput(f"{path}: a request is an object with method, path, query, content_type, headers and body")
    headers = dict(_headers(told.get("headers"), path))
    kind = str(told.get("content_type") or headers.get("content-type", ""))
    query, where = told.get("query"), str(told.get("path") or "/")
    asked = urlencode(query, doseq=True) if isinstance(query, Mapping) else str(query or "").removeprefix("?")
    url = str(told.get("url") or "")
    if not url and "host" in headers:
        scheme = headers.get("x-forwarded-proto", "https").partition(",")[0].strip()
        url = f"{scheme}://{headers['host']}{where}{f'?{asked}' if asked else ''}"
    method = str(told.get("method") or "POST")
    return [WebRequest(body, headers, method, where, asked, kind, url) for body in _bodies(told, kind, path)]


def _headers(told: Any, path: Path) -> Iterator[tuple[str, str]]:
    """Names in lower case; an object, a list of pairs, or a list of {name, value}."""
    pairs: Any = told.items() if isinstance(told, Mapping) else told or ()
    if not isinstance(pairs, Iterable) or isinstance(pairs, str):
        raise BadInput(f"{path}: headers are an object, a list of pairs or of {{name, value}}")
    for pair in pairs:
        one = (pair.get("name", pair.get("key")), pair.get("value")) if isinstance(pair, Mapping) else pair
        try:
            name, value = one
        except (TypeError, ValueError):
            raise BadInput(f"{path}: {one!r} is no header") from None
        yield str(name).lower().strip(), ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _bodies(told: Mapping[str, Any], kind: str, path: Path) -> Sequence[bytes]:
    written = told.get("body_base64")
    body = told.get("body") if written is None else written
    coded = written is not None or any(told.get(name) is True for name in ("isBase64Encoded", "base64", "is_base64"))
    coded = coded or str(told.get("encoding") or told.get("body_encoding")).lower() == "base64"
    if isinstance(body, str) and coded:
        try:
            return [base64.b64decode(body, validate=True)]
        except (ValueError, binascii.Error):
            raise BadInput(f"{path}: the body is said to be base64 and is none") from None
    if isinstance(body, str):
        return [body.encode("utf-8", "surrogateescape")]
    if isinstance(body, Mapping) and "urlencoded" in kind.lower():
        fields = {name: v if isinstance(v, (str, list)) else json.dumps(v) for name, v in body.items()}
        fields = {name: json.dumps(v) if _is_document(v) else v for name, v in fields.items()}
        return [urlencode(fields, doseq=True).encode()]
    texts = [json.dumps(body, separators=marks, ensure_ascii=plain) for marks in _MARKS for plain in (True, False)]
    texts += [text.replace("/", "\\/") for text in texts] + [f"{text}\r\n" for text in texts]
    return [text.encode("utf-8", "surrogatepass") for text in dict.fromkeys(texts)]


_MARKS = ((", ", ": "), (",", ":"))


def _is_document(value: Any) -> bool:
    """Whether a field holds JSON that was read, rather than several values."""
    return isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value)
