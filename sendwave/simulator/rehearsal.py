"""Everything of one rehearsal put together: provider, scenario, API, relay or queue, and where events go."""

from __future__ import annotations

from typing import Any, Self

from sendwave.clock import Clock, Pace, SystemClock, wall
from sendwave.simulator import providers
from sendwave.simulator.keys import Keys
from sendwave.simulator.mail import Postman, Relay
from sendwave.simulator.queue import Queue
from sendwave.simulator.scenario import Scenario, load
from sendwave.simulator.server import Server
from sendwave.simulator.service import Service


class Rehearsal:
    """A provider that runs on this machine between `__enter__` and `__exit__`."""

    def __init__(
        self,
        provider: str,
        scenario: str | Scenario = "healthy",
        *,
        webhook: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        smtp_port: int = 0,
        speed: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        """Port 0 takes any free one; `speed` is how many times as fast time runs here.

        Raises NotFound, BadInput or Busy for what cannot be.
        """
        spoken = scenario if isinstance(scenario, Scenario) else load(scenario)
        ticking = SystemClock(Pace(speed, wall()) if speed != 1 else None)
        self.clock, self.pace = clock or ticking, ticking.pace
        self.keys = Keys()
        self.service = Service(providers.find(provider)(self.keys), spoken, hook=webhook or "")
        queue = Queue(self.service.posting) if provider == "ses" and webhook is None else None
        by_mail = provider == "smtp"
        self.server = Server(
            self.service,
            host=host,
            port=port,
            clock=self.clock,
            extra=queue.answer if queue else None,
            deliver=Postman(webhook) if by_mail and webhook else None,
        )
        self.relay = Relay(self.service, host=host, port=smtp_port, clock=self.clock) if by_mail else None

    @property
    def url(self) -> str:
        """Of the API, the truth and the levers."""
        return self.server.url

    @property
    def route(self) -> dict[str, Any]:
        """The route of sendwave.yaml that leads here."""
        if self.relay is None:
            return self.server.route()
        where = f"smtp://{self.relay.hostname}:{self.relay.port}"
        return {"esp": "smtp", **self.service.provider.route(where, self.service.posting.url or None)}

    def __enter__(self) -> Self:
        if self.relay is not None:
            self.relay.open()
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        if self.relay is not None:
            self.relay.stop()
