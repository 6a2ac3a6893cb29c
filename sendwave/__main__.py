"""`sendwave` and `python -m sendwave`."""

from __future__ import annotations

import sys

from sendwave.cli import run


def main() -> None:
    """The command line; ends the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
