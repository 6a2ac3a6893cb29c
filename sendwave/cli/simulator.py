"""`sendwave esp-simulator`: rehearse a campaign against a local server that speaks a real provider's protocol."""

from __future__ import annotations

import json
import signal
import threading
from types import FrameType
from typing import Any, Final

import click

from sendwave.cli.output import emit_json
from sendwave.clock import VARIABLE


@click.command("esp-simulator")
@click.option("--provider", required=True, metavar="ESP", help="Whom to speak like: sendgrid, brevo, ses, smtp …")
@click.option("--scenario", default="healthy", show_default=True, metavar="NAME|FILE", help="What becomes of mails.")
@click.option("--webhook", metavar="URL", help="Where events go: http://127.0.0.1:8484/hooks/ROUTE; lmtp://… for smtp.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8585, show_default=True, help="Of the API and the truth."
)
@click.option("--smtp-port", type=click.IntRange(0, 65535), default=2587, show_default=True, help="Of the relay.")
@click.option(
    "--speed", type=click.FloatRange(0.01, 1e6), default=1.0, show_default=True, help="60: an hour takes a minute."
)
@click.option("--route", "name", default="rehearsal", show_default=True, help="Name of the route it prints.")
@click.option("--json", "as_json", is_flag=True, help="Print the route as JSON, nothing else.")
def esp_simulator(
    provider: str, scenario: str, webhook: str | None, host: str, port: int, smtp_port: int, speed: float, name: str,
    *, as_json: bool,
) -> None:  # fmt: skip
    """A local server that speaks a real provider's requests and webhooks, until Ctrl-C.

    It prints the route to put into sendwave.yaml, checks requests as strictly as the provider documents, decides what
    becomes of each mail by the scenario, and posts signed events. GET /_truth says what truly happened.
    """
    from sendwave import log
    from sendwave.simulator import rehearsal

    log.configure(level="warning")
    running = rehearsal.Rehearsal(
        provider, scenario, webhook=webhook, host=host, port=port, smtp_port=smtp_port, speed=speed
    )
    with running:
        if as_json:
            emit_json({"url": running.url, "route": running.route, "clock": str(running.pace or "")})
        else:
            _introduce(running, name, provider, webhook)
        _until_told()


def _introduce(running: Any, name: str, provider: str, webhook: str | None) -> None:
    click.secho(f"{provider} is here: {running.url}", bold=True)
    click.echo("\nroutes:                      # in sendwave.yaml\n" + _yaml({name: running.route}, "  "))
    if webhook is None and "queue_url" not in running.route:
        click.secho("no --webhook: nothing is told; truth and levers work all the same", fg="yellow")
    if running.pace is not None:
        click.echo(f"\nexport {VARIABLE}='{running.pace}'   # in every shell of this rehearsal")
    click.echo(f"\ntruth     curl {running.url}/_truth            everybody: /_truth?people=1")
    click.echo(f"mend      curl {running.url}/_control/scenario -d healthy")
    click.echo(f'outage    curl {running.url}/_control/outage -d \'{{"how": "paused", "lasts": "10m"}}\'')
    click.echo(f"hurry     curl -X POST {running.url}/_control/hurry\n\nCtrl-C ends it.")


def _yaml(document: dict[str, Any], indent: str) -> str:
    """A small mapping as YAML, nested where values are mappings."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _yaml(value, indent + "  ")]
        else:
            plain = isinstance(value, str) and not set(value) & set("{}[]#&*!|>%@`,\"'")
            lines.append(f"{indent}{key}: {value if plain else json.dumps(value)}")
    return "\n".join(lines)


def _until_told() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    told = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        told.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


COMMANDS: Final = {"esp-simulator": esp_simulator}
