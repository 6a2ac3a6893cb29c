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

EVERYBODY: Final = f"""\
# For once the newsletter goes to everybody, those who have not opened anything for a year included. The head of each
# colder tier goes alone, as a wave of its own: a bad tier shows before the rest of it leaves.
type: {TYPE}
label: Newsletter
purpose: marketing
channel: email
importance: 40
tiers:
  burning: {{share: 100%}}
  hot:     {{share: 100%, cap: 3 per 7d}}
  warm:    {{share: 50%, cap: 2 per 7d, min_gap: 48h}}
  cool:    {{share: 50%, cap: 1 per 14d}}
  cold:    {{share: 100%, cap: 1 per 14d}}
  frozen:  {{share: 100%, cap: 1 per 14d}}
caps:
  - {{max: 1 per 1d, counts: channel}}
  - {{max: 12 per 30d, counts: all}}
control: 5%
waves: {{ramp: [5%, 25%, 70%], pilot: 3%, soak: 4h, window: "08:00-20:00 local"}}
gates: {{use: default}}
"""
"""The type of the scenario `bad-tail`: the shipped newsletter leaves the coldest tiers alone, and would go well."""

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
    """Write the workspace into `home` (made if missing); files that are there stay. Returns the campaign file."""
    files = {
        "sendwave.yaml": SETTINGS.format(scenario=scenario, seed=seed),
        "policies/lanes.yaml": LANES,
        "campaigns/lettre-mars.yaml": LETTER,
        "content/body.txt": TEXT,
    }
    if scenario == "bad-tail":
        files[f"policies/types/{TYPE}.yaml"] = EVERYBODY
    for name, text in files.items():
        path = home / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return home / "campaigns" / "lettre-mars.yaml"
