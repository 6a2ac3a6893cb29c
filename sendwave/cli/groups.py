"""A group of commands that helps after a slip of the finger."""

from __future__ import annotations

import click

from sendwave.errors import did_you_mean


class Group(click.Group):
    """A click group whose complaint about an unknown command names the one that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with a suggestion."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            ctx.fail(f"no command {args[0]!r}.{did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)
