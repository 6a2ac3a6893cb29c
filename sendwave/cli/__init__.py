"""The command line. Commands are imported when they are called, so that `--help` and completion stay quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from sendwave import __version__
from sendwave.cli.groups import Group
from sendwave.errors import BadInput, SendwaveError

_COMMANDS: Final = {
    "demo": ("sendwave.cli.demo", "a whole campaign in virtual time, on made-up contacts"),
    "init": ("sendwave.cli.workspace", "make a workspace: settings, policies, an example campaign"),
    "check": ("sendwave.cli.workspace", "check settings, policies and content; say all mistakes at once"),
    "doctor": ("sendwave.cli.doctor", "health of the set-up: what is wrong, and what to do next"),
    "policy": ("sendwave.cli.policy", "show, compare and describe the policy files"),
    "import": ("sendwave.cli.data", "bring contacts, consents, scores … into the lake"),
    "score": ("sendwave.cli.score", "everybody's engagement score, from interactions and the grid of score.yaml"),
    "distribution": ("sendwave.cli.tiers", "how the base spreads over tiers, scores, attributes; who moved"),
    "tiers": ("sendwave.cli.tiers", "propose cut-offs for tiers, and write them"),
    "crm": ("sendwave.cli.crm", "contacts in from a CRM, scores and tiers out to it"),
    "audience": ("sendwave.cli.audience", "count whom a campaign is for, as you write its conditions"),
    "campaign": ("sendwave.cli.campaign", "create, plan, approve, pause, resume, audit a campaign"),
    "explain": ("sendwave.cli.campaign", "why a contact is, or is not, written to"),
    "pressure": (
        "sendwave.cli.pressure",
        "whom pressure leaves out, who wins whom, what a policy would have done, money",
    ),
    "simulate": ("sendwave.cli.simulate", "a planned campaign through simulated worlds: would it halt, when, what if"),
    "report": ("sendwave.cli.report", "what campaigns brought, by tier: figures, lift, cut-off, coverage"),
    "route": ("sendwave.cli.routes", "the ESP routes: what holds them; pause or free one for every campaign"),
    "normalise": ("sendwave.cli.feedback", "what sendwave makes of an ESP's webhook request"),
    "classify": ("sendwave.cli.feedback", "what sendwave makes of bounce and complaint mails"),
    "feedback": ("sendwave.cli.reprocess", "what ESPs reported; read kept reports again after a fix"),
    "gates": ("sendwave.cli.gates", "try the rules that stop a campaign on a recorded or simulated one"),
    "esp-simulator": ("sendwave.cli.simulator", "rehearse on a local server that speaks a real provider's protocol"),
    "backup": ("sendwave.cli.backup", "copy store and lake, also while a daemon runs"),
    "restore": ("sendwave.cli.backup", "check a backup, or fill an empty workspace from it"),
    "run": ("sendwave.cli.daemon", "the daemon: send what is approved, listen, judge, stop"),
}


class _Lazy(Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sendwave")
def cli() -> None:
    """Send big CRM campaigns in waves, the most engaged first, and stop by itself when the signals say stop."""


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code (0 ok, 1 findings, 2 bad input, 3, 4, 5, 130: see errors.py)."""
    try:
        result = cli.main(arguments, prog_name="sendwave", standalone_mode=False)
    except SendwaveError as error:
        _complain(error)
        return error.exit_code
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder nobody may write to, a file that is a folder
        _complain(BadInput(f"{error}: check the path, and who may write there"))
        return 2
    except click.ClickException as error:
        error.show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0


def _complain(error: SendwaveError) -> None:
    """The message and every finding, on stderr; those that show a place in a file, over several lines, stand apart."""
    click.secho(str(error), fg="red", err=True)
    for finding in getattr(error, "findings", ()):
        click.echo("\n" * ("\n" in finding) + finding, err=True)
