"""Draw the lifecycle of `rules/lifecycle.py` as Mermaid and put it between the markers of a Markdown file.

python tools/lifecycle_diagram.py ARCHITECTURE.md
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from sendwave.rules.lifecycle import TABLES, Transitions

BEGIN: Final = "<!-- lifecycle: drawn by `make diagram`, do not edit -->"
END: Final = "<!-- end of lifecycle -->"
FIRST: Final = {"campaign": "draft", "wave": "waiting", "batch": "ready", "lane": "open"}


def drawn(name: str, table: Transitions) -> str:
    """One state diagram; events between the same two statuses share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event, (sources, target) in table.items():
        for source in sorted(sources):
            arrows[source, target].append(event)
    left = {source for source, _ in arrows}
    lines = ["```mermaid", "---", f"title: {name}", "---", "stateDiagram-v2", f"    [*] --> {FIRST[name]}"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    lines += [f"    {target} --> [*]" for target in sorted({target for _, target in arrows} - left)]
    return "\n".join([*lines, "```"])


def with_diagrams(text: str) -> str:
    """The document with everything between its markers drawn anew. Raises ValueError without markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in the document")
    diagrams = "\n\n".join(drawn(name, table) for name, table in TABLES.items())
    return f"{before}{BEGIN}\n\n{diagrams}\n\n{END}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_diagrams(document.read_text(encoding="utf-8")), encoding="utf-8")
