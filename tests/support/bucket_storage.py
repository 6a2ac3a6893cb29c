"""An S3 storage on loopback: moto's, which refuses what the real one refuses, with faults put in front of it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from sendwave.engine.bucket import Bucket
from sendwave.engine.cache import Cache
from sendwave.engine.datasets import Lake

BUCKET: Final = "sendwave-lake"
ENVIRON: Final = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "told nobody",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
"""What a process needs that uses it."""

_ACCOUNT: Final = "123456789012"
_REFUSAL: Final = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} on purpose</Message></Error>"
Answer = Iterable[bytes]


@dataclass
class Fault:
    """What happens to the next `times` requests of a method whose path contains `of`."""

    method: str
    kind: str  # cut: half the answer, half the upload; lost: all of it, and no answer; else a code of S3
    of: str = ""
    times: int = 1
    status: int = 503


@dataclass
class Storage:
    """The server; `calls` counts the requests it got by method, `faults` are still to happen."""

    calls: Counter[str] = field(default_factory=Counter)
    faults: MutableSequence[Fault] = field(default_factory=list)
    down: bool = False

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._backend.create_bucket(BUCKET, "us-east-1")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.empty()
        self._backend.delete_bucket(BUCKET)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def _backend(self) -> Any:
        return s3_backends[_ACCOUNT]["aws"]

    @property
    def _objects(self) -> Any:
        return self._backend.buckets[BUCKET].keys

    def names(self) -> list[str]:
        """What is in the bucket."""
        return sorted(self._objects.keys())

    def put(self, name: str, content: bytes = b"") -> None:
        self._backend.put_object(BUCKET, name, content)

    def lose(self, name: str) -> None:
        """An object is gone, and nobody was told."""
        self._objects.pop(name)

    def spoil(self, name: str) -> None:
        """One byte of an object is another one."""
        content = bytearray(self._objects[name].value)
        content[len(content) // 2] ^= 1
        told = self._objects[name].metadata
        self.put(name, bytes(content))
        self._objects[name].set_metadata(told)

    def grow_old(self, by: timedelta) -> None:
        """Everything in it was put there that much earlier."""
        for name in self.names():
            self._objects[name].last_modified -= by

    def empty(self) -> None:
        self._objects.clear()
        self._backend.buckets[BUCKET].multiparts.clear()
        self.faults.clear()
        self.calls.clear()
        self.down = False

    def unfinished(self) -> int:
        """Uploads in parts that were neither finished nor ended."""
        return len(self._backend.buckets[BUCKET].multiparts)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        self.calls[method] += 1
        fault = next((one for one in self.faults if one.method == method and one.of in path), None)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        if self.down or (fault is not None and fault.kind == "cut" and method == "PUT"):
            return self._hang_up(environ)
        if fault is None:
            return self._app(environ, start)  # type: ignore[no-any-return]  # untyped
        if fault.kind == "lost":
            list(self._app(environ, lambda *_: None))
            return self._hang_up(environ, read=False)
        if fault.kind == "cut":
            return _half(self._app(environ, start), environ)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(f"{fault.status} refused", [("Content-Type", "application/xml"), ("Connection", "close")])
        return [_REFUSAL.format(code=fault.kind).encode()]

    @staticmethod
    def _hang_up(environ: dict[str, Any], *, read: bool = True) -> Answer:
        if read:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
        with contextlib.suppress(OSError):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


def _half(whole: Answer, environ: dict[str, Any]) -> Iterator[bytes]:
    content = b"".join(whole)
    yield content[: len(content) // 2]
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


@contextmanager
def storage() -> Iterator[Storage]:
    """A running storage with an empty bucket, and this process knows its credentials."""
    with pytest.MonkeyPatch.context() as patch, Storage() as running:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        yield running


def lake_in(running: Storage, copies: Path, prefix: str = "", limit: int = 1 << 30) -> Lake:
    """The lake as a node sees it whose copies are in that folder."""
    return Lake(copies, Cache(copies, Bucket(BUCKET, prefix, running.url, "us-east-1"), limit))
