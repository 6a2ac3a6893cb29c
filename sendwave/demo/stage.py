"""The demo's workspace: settings, a pace, a campaign file and its content, written as a person would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CAMPAIGN: Final = "lettre-mars"
TYPE: Final = "newsletter"
ZONE: Final = "Europe/Paris"

SETTINGS: Final = f"""\
time_zone: {ZONE}
policies: policies
routes:
  rehearsal:
    esp: simulated
    scenario: {{scenario}}
    seed: {{seed}}
    batch_size: 250
"""

LANES: Final = """\
# What the rehearsal route bears; mailbox providers and their domains come from the shipped lanes.yaml.
routes:
  rehearsal: {pace: 6000 per 1m, burst: 1000}
"""

LETTER: Final = f"""\
name: {CAMPAIGN}
title: La lettre de mars
type: {TYPE}
route: rehearsal
sender: "Maison Lune <lettre@maisonlune.example>"
subject: "{{{{ first_name }}}}, les nouveautés de mars"
content: content
unsubscribe: "https://maisonlune.example/u/{{token}}"
"""

TEXT: Final = """\
Bonjour {{ first_name }},

Voici les nouveautés de mars.

Se désinscrire : {{ unsubscribe_url }}
"""


def build(home: Path, *, scenario: str, seed: int) -> Path:
    """Write the workspace into `home` (made if missing); returns the campaign file."""
    files = {
        "sendwave.yaml": SETTINGS.format(scenario=scenario, seed=seed),
        "policies/lanes.yaml": LANES,
        "campaigns/lettre-mars.yaml": LETTER,
        "content/body.txt": TEXT,
    }
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return home / "campaigns" / "lettre-mars.yaml"
