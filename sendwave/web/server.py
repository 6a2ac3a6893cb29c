"""The daemon's web side: a server in a thread of its own, with its doors.

    POST /hooks/ROUTE   events of the ESP of that route
    GET, POST /u/TOKEN  one-click unsubscribe
    GET /health         whether the store can be used, and what waits

It is imported only where `web:` stands in sendwave.yaml. TLS, and limits per address, are the work of a proxy in front.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from sendwave import log
from sendwave.clock import Clock, SystemClock
from sendwave.errors import BadInput, SendwaveError
from sendwave.esp.base import RawReport, WebRequest
from sendwave.flow import feedback
from sendwave.settings import WebSettings
from sendwave.store import inbox
from sendwave.web.committing import Committer
from sendwave.web.hooks import Door, Said, Visitor, door_of, report_of
from sendwave.web.reading import TooLong, body_of
from sendwave.web.unsubscribe import Unsubscribing
from sendwave.workspace import Workspace

_LOG: Final = log.get("web")
_HOOKS: Final = "/hooks/"
_LONG: Final = 256 << 10  # bytes; reading more keeps the others waiting for over a millisecond
_HELLO: Final = ("GET", "HEAD")  # how Mandrill and others look whether a webhook is there
_STOP_SECONDS: Final = 5


class Server:
    """The web side of one workspace."""

    def __init__(
        self,
        workspace: Workspace,
        settings: WebSettings,
        *,
        clock: Clock | None = None,
        visitor: Visitor | None = None,
    ) -> None:
        """Listens from now on; answers once started. Raises BadInput when it cannot listen there."""
        self._workspace, self._settings = workspace, settings
        self._clock = clock or SystemClock()
        self.doors = _doors(workspace, self._clock, visitor or Visitor())
        self._committer = Committer(self._store)
        self._unsubscribing = Unsubscribing(workspace, self._clock)
        self._app = self._made()
        self._socket = _listen(settings)
        config = uvicorn.Config(
            self._front, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_SECONDS,
            server_header=False, interface="asgi3", proxy_headers=False, timeout_keep_alive=65,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Answer requests, in a thread of its own."""
        self._thread.start()
        host, port = self.address
        _LOG.info("web_listens", host=host, port=port, webhooks=sorted(self.doors))

    def stop(self) -> None:
        """Answer what is on its way, then end; what was taken is durable."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._committer.close()
        self._socket.close()

    def _store(self, told: Sequence[tuple[str, RawReport]]) -> None:
        feedback.receive_all(self._workspace.db, told, self._clock.now())

    async def _front(self, scope: Any, receive: Any, send: Any) -> None:
        """Webhooks, thousands a second, past what a framework does for each request; everything else to the app."""
        if scope["type"] != "http" or not scope["path"].startswith(_HOOKS):
            await self._app(scope, receive, send)
            return
        answer = await self._hook(scope["path"].removeprefix(_HOOKS), Request(scope, receive))
        await answer(scope, receive, send)

    def _made(self) -> FastAPI:
        app = FastAPI(title="sendwave", openapi_url=None, docs_url=None, redoc_url=None)
        app.add_route("/u/{token}", self._unsubscribing.show, methods=["GET"])
        app.add_route("/u/{token}", self._unsubscribing.take, methods=["POST"])
        app.add_route("/health", self._health, methods=["GET"])
        return app

    # ── webhooks ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _hook(self, route: str, request: Request) -> Response:
        door = self.doors.get(route)
        if door is None:
            return _answer(Said(404, "no route of this name takes webhooks: /hooks/ROUTE, a route of sendwave.yaml"))
        if request.method in _HELLO:
            return _answer(Said(200, f"events of {door.adapter.name} are to be posted here"))
        if request.method != "POST":
            return _answer(Said(405, "events are to be posted"))
        try:
            said = await self._take(door, request)
        except TooLong:
            said = door.too_long(self._settings.max_bytes)
        except SendwaveError as fault:
            said = door.down(str(fault))
        except Exception as fault:  # noqa: BLE001  # whatever it is, the events must come again
            _LOG.error("webhook_crashed", route=door.route, reason=f"{type(fault).__name__}: {fault}", exc_info=True)
            said = door.down("something unexpected went wrong here")
        return _answer(said)

    async def _take(self, door: Door, request: Request) -> Said:
        told = self._told(request, await body_of(request, self._settings.max_bytes))
        long = door.answers.fetches or len(told.body) > _LONG
        said = await run_in_threadpool(door.examine, told) if long else door.examine(told)
        if said is not None:
            return said
        await asyncio.wrap_future(self._committer.put(door.route, report_of(told)))
        return door.stored(told)

    def _told(self, request: Request, body: bytes) -> WebRequest:
        headers = dict(request.headers.items())
        path, query = request.url.path, request.url.query
        public = self._settings.public_url
        url = f"{public}{path}{'?' if query else ''}{query}" if public else ""
        return WebRequest(body, headers, request.method, path, query, headers.get("content-type", ""), url)

    # ── health ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _health(self, _request: Request) -> Response:
        try:
            waiting, oldest = await run_in_threadpool(self._backlog)
        except Exception as fault:  # noqa: BLE001  # whatever it is, it is not healthy
            return JSONResponse({"status": "store_down", "reason": str(fault)}, 503)
        doors = {name: dict(door.counts) for name, door in sorted(self.doors.items())}
        told = {"status": "ok", "reports_waiting": waiting, "oldest": oldest and oldest.isoformat(), "webhooks": doors}
        return JSONResponse(told)

    def _backlog(self) -> tuple[int, Any]:
        with self._workspace.db.read() as connection:
            return inbox.backlog(connection)


def _doors(workspace: Workspace, clock: Clock, visitor: Visitor) -> Mapping[str, Door]:
    found = {route: door_of(route, adapter, clock, visitor) for route, adapter in workspace.adapters.items()}
    return {route: door for route, door in found.items() if door is not None}


def _listen(settings: WebSettings) -> socket.socket:
    host, port = settings.address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as fault:
        raise BadInput(f"web.listen: nothing can listen at {settings.listen}: {fault.strerror or fault}") from None


def _answer(said: Said) -> Response:
    headers = {} if said.retry_after is None else {"Retry-After": str(said.retry_after)}
    return JSONResponse({"status": said.status, "message": said.text}, said.status, headers)
