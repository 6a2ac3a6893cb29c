"""The simulator on the network: the provider's API, webhooks posted from a thread of their own, the truth, and levers.

GET  /_truth                 what truly happened; ?people=1 with everybody
GET  /_settings              the route of sendwave.yaml that leads here
POST /_control/scenario      another scenario (YAML or JSON in the body, or a shipped name)
POST /_control/outage        {"how": "refused|silent|broken|paused", "lasts": "10m"}
POST /_control/hurry         everything that waits to be told is told at once
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qs

import httpx
from pydantic import ValidationError

from sendwave import log
from sendwave.clock import Clock, SystemClock
from sendwave.errors import BadInput, Busy
from sendwave.esp.simulated_world import scenarios
from sendwave.simulator.base import Post, Reply, Request
from sendwave.simulator.posting import Parcel
from sendwave.simulator.scenario import ApiOutage, Scenario, read
from sendwave.simulator.service import Service

_LOG: Final = log.get("esp-simulator")
_TICK: Final = 0.05  # seconds between looks at what is due
_POLL: Final = 0.01  # seconds until a server notices that it was told to end
_SILENCE: Final = 120.0  # seconds a call is kept waiting for an answer that never comes
_HOOK_TIMEOUT: Final = 10.0  # seconds
_POSTERS: Final = 8
_MOST: Final = 64 << 20  # bytes of a request

Extra = Callable[[Request, datetime], Reply | None]
Deliver = Callable[[Post], int | None]


class Server:
    """One provider on loopback. Use as a context manager, or `start` and `stop`."""

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        extra: Extra | None = None,
        deliver: Deliver | None = None,
        posts: bool = True,
    ) -> None:
        """Port 0 takes any free one. `extra` may answer what is no call of the provider's API (a queue's).

        `deliver` brings what is told where it belongs and gives the status back; left out, it is posted. Without
        `posts` nothing leaves by itself: ask `service.posting` what is due.
        """
        self.service, self._host, self._clock = service, host, clock or SystemClock()
        self._deliver = deliver
        self._extra, self._stop, self._open = extra, threading.Event(), set[socket.socket]()
        self._http: ThreadingHTTPServer | None = None
        self._port = port
        self._listen()
        self._threads = [threading.Thread(target=self._watch, daemon=True)]
        if posts and (service.posting.url or deliver is not None):
            self._threads.append(threading.Thread(target=self._post_due, daemon=True))

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> Self:
        """Serve, and post what is due."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End it; calls that wait for an answer get none."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._deafen()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────────────
    def answer(self, request: Request) -> Reply | None:
        """The answer to anything that comes; None where none does."""
        now = self._clock.now()
        if request.path.startswith("/_"):
            return self._lever(request, now)
        if self._extra is not None and (reply := self._extra(request, now)) is not None:
            return reply
        return self.service.take(request, now)

    def _listen(self) -> None:
        try:
            self._http = _Http((self._host, self._port), _handler(self))
        except OSError as taken:
            raise Busy(f"cannot listen on {self._host}:{self._port}: {taken}") from taken
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": _POLL}, daemon=True).start()

    def _deafen(self) -> None:
        """Refuse connections, and drop those that are open."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
        for line in list(self._open):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._http = None

    def _watch(self) -> None:
        """During an outage nobody listens; afterwards at the same port again."""
        while not self._stop.wait(_TICK):
            away = self.service.outage(self._clock.now()) == "refused"
            if away and self._http is not None:
                self._deafen()
            elif not away and self._http is None:
                with suppress(Busy):  # somebody has its port meanwhile: it stays away until that is free
                    self._listen()

    # ── webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _post_due(self) -> None:
        with httpx.Client(timeout=_HOOK_TIMEOUT) as client, ThreadPoolExecutor(_POSTERS) as posters:
            deliver = self._deliver or partial(_posted, client, self.service.posting.url)
            while not self._stop.wait(_TICK):
                due = self.service.posting.due(self._clock.now())
                list(posters.map(partial(self._post, deliver), due))

    def _post(self, deliver: Deliver, parcel: Parcel) -> None:
        assert parcel.post is not None  # signed when it left
        self.service.posting.answered(parcel, deliver(parcel.post), self._clock.now())

    # ── levers ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _lever(self, request: Request, now: datetime) -> Reply:
        levers = {
            "GET /_truth": self._truth,
            "GET /_settings": self._settings,
            "POST /_control/scenario": self._mend,
            "POST /_control/outage": self._trouble,
            "POST /_control/hurry": self._hurry,
        }
        lever = levers.get(f"{request.method} {request.path}")
        if lever is None:
            return _json(404, {"error": f"there is {', '.join(levers)}"})
        try:
            return _json(200, lever(request, now))
        except BadInput as wrong:
            return _json(400, {"error": str(wrong), "findings": list(wrong.findings)})
        except ValidationError as wrong:
            return _json(
                400, {"error": "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors())}
            )

    def _truth(self, request: Request, _: datetime) -> dict[str, Any]:
        return self.service.document(everybody=parse_qs(request.query).get("people", ["0"])[0] not in {"", "0"})

    def _settings(self, _: Request, __: datetime) -> dict[str, Any]:
        return self.route()

    def _mend(self, request: Request, _: datetime) -> dict[str, Any]:
        self.service.mend(_scenario(request))
        return {"scenario": self.service.scenario.like}

    def _trouble(self, request: Request, now: datetime) -> dict[str, Any]:
        wanted = ApiOutage.model_validate(request.document)
        self.service.trouble(wanted.how, wanted.lasts, now)
        return {"how": wanted.how, "seconds": wanted.lasts.total_seconds()}

    def _hurry(self, _: Request, now: datetime) -> dict[str, Any]:
        return {"hurried": self.service.posting.hurry(now)}

    def route(self) -> dict[str, Any]:
        """The route of sendwave.yaml that leads here."""
        service = self.service
        return {"esp": service.provider.name, **service.provider.route(self.url, service.posting.url or None)}

    def remember(self, line: socket.socket, *, there: bool) -> None:
        """A connection opened or closed."""
        (self._open.add if there else self._open.discard)(line)

    def keep_waiting(self) -> None:
        """As long as a caller may wait for an answer that never comes."""
        self._stop.wait(_SILENCE)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _json(status: int, document: Any) -> Reply:
    return Reply(status, json.dumps(document, ensure_ascii=False, indent=1), {"Content-Type": "application/json"})


def _posted(client: httpx.Client, url: str, post: Post) -> int | None:
    """The status a webhook answers, None where it gives none."""
    headers = {"Content-Type": post.content_type, **post.headers}
    try:
        return client.post(url, content=post.body, headers=headers).status_code
    except httpx.HTTPError as fault:
        _LOG.debug("webhook_not_taken", error=str(fault))
        return None


def _scenario(request: Request) -> Scenario:
    """The scenario in a body: a shipped name, or YAML. Raises BadInput."""
    text = request.body.decode("utf-8", "replace").strip()
    return Scenario(like=text) if text in scenarios() else read(text)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "esp-simulator", ""
        disable_nagle_algorithm: ClassVar[bool] = True

        def setup(self) -> None:
            super().setup()
            server.remember(self.connection, there=True)

        def finish(self) -> None:
            server.remember(self.connection, there=False)
            with suppress(OSError):
                super().finish()

        def handle(self) -> None:
            with suppress(OSError):  # a caller who did not wait
                super().handle()

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > _MOST:
                self._write(Reply(413, "too large, or without a length"))
                return
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, headers, self.rfile.read(int(length)), query)
            reply = server.answer(request)
            if reply is None:
                self.close_connection = True
                server.keep_waiting()
                return
            self._write(reply)

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815  # the names http.server looks for

        def _write(self, reply: Reply) -> None:
            raw = reply.raw
            self.send_response(reply.status)
            given = {"Content-Type": "application/json", **reply.headers, "Content-Length": str(len(raw))}
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """No access log: the truth is served."""

    return Handler
