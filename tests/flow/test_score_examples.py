"""The shipped grids on the data sets beside them: every number worked out by hand, from files to scores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from import_desk import Desk

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import score as flow
from sendwave.flow.policies import load_policies, shipped
from sendwave.store.database import Database

AS_OF = datetime(2026, 3, 2, 3, tzinfo=UTC)  # 04:00 in Paris

FINANCE = {
    "F01": 0,  # no act at all
    "F02": 2,  # an open
    "F03": 0,  # an open of a machine
    "F04": 6,  # three opens: 3 x 2
    "F05": 5,  # a click
    "F06": 5,  # an open and a click of one campaign: the click implies the open
    "F07": 7,  # of two campaigns: 2 + 5
    "F08": 5,  # a product page
    "F09": 5,  # ten minutes after a click, the click led there
    "F10": 10,  # thirty-one minutes after: 5 + 5
    "F11": 10,  # the page came first
    "F12": 10,  # an asset downloaded
    "F13": 25,  # a contact form
    "F14": 5,  # an event registered for
    "F15": 10,  # a video
    "F16": 15,  # an event attended
    "F17": 30,  # 5 + 15 + 10
    "F18": -10,  # unsubscribed
    "F19": -5,  # 5 - 10
    "F20": -10,  # the click was on the unsubscribe link: no points for it
    "F21": 67,  # one of each: 2 + 5 - 10 + 5 + 10 + 25 + 5 + 10 + 15
    "F22": 77,  # the same without the unsubscription
    "F23": 20,  # ten opens: low
    "F24": 26,  # thirteen: medium
    "F25": 50,  # two forms: high
    "F26": 45,  # 25 + 15 + 5
    "F27": 50,  # 25 + 15 + 10
    "F28": 10,  # 89 days of silence: nothing fades yet
    "F29": 10,  # 90 days: the first of the fading, 10 x 90/90
    "F30": 9,  # 91 days: 10 x 89/90 = 9.9
    "F31": 22,  # 100 days: 25 x 80/90 = 22.2
    "F32": 12,  # 135 days, half way: 12.5
    "F33": 0,  # 179 days: 25 x 1/90 = 0.3
    "F34": 0,  # 180 days: out of the window
    "F35": 27,  # an open yesterday ends the silence: 25 + 2
    "F36": 2,  # unsubscribing is no engagement: 12 - 10
    "F37": -10,  # silence does not heal
    "F38": 0,  # until the window ends
    "F39": 13,  # (15 + 5) x 60/90 = 13.3
    "F40": 2,  # the same interaction twice
    "F41": 0,  # a kind the grid does not speak of
    "F42": 10,  # one video an hour ago, one tomorrow
    "F43": 0,  # a scanner's click
    "F44": 20,  # 5 + 5 + 10: active since yesterday, so that the old acts count in full
    "F45": 25,  # five pages
}

RETAIL = {
    "R01": 0,
    "R02": 20,  # signed up 10 days ago, never bought
    "R03": 10,  # 30 days
    "R04": 10,  # 89
    "R05": 5,  # 90
    "R06": 0,  # 180
    "R07": 0,  # bought once, 400 days ago: no prospect any more
    "R08": 40,  # bought within the hour
    "R09": 40,  # 29 days ago; 900 euros say no more than 20
    "R10": 30,  # 30
    "R11": 30,  # 89
    "R12": 20,  # 90
    "R13": 20,  # 179
    "R14": 10,  # 180
    "R15": 10,  # 364
    "R16": 0,  # 365
    "R17": 40,  # the last of two decides
    "R18": 40,  # and the number of them does not
    "R19": 20,  # an e-mail clicked 5 days ago
    "R20": 12,  # an SMS, 31
    "R21": 6,  # a push, 100
    "R22": 2,  # an e-mail, 200
    "R23": 10,  # opened 5 days ago
    "R24": 2,  # by a machine: a fifth
    "R25": 2,  # 100 days ago
    "R26": 0,  # by a machine: 0.4
    "R27": 6,  # a person 40 days ago, a machine 2: the better of the two
    "R28": 20,  # opened and clicked: the click
    "R29": 20,  # the click led to the visit
    "R30": 30,  # 45 minutes later: a visit of its own, 20 + 10
    "R31": 10,  # 3 days ago
    "R32": 7,  # 8
    "R33": 3,  # 31
    "R34": 40,  # the visit was the purchase
    "R35": -15,  # NPS 3
    "R36": 5,  # NPS 9
    "R37": 0,  # NPS 7
    "R38": 5,  # 3, then 10: the last answer decides
    "R39": -15,  # 10, then 2
    "R40": 5,  # a like
    "R41": -10,  # an angry comment
    "R42": 5,  # an angry comment, then a like
    "R43": -20,  # an open complaint
    "R44": 0,  # resolved
    "R45": -20,  # in progress for 300 days
    "R46": 10,  # a quote asked for
    "R47": 5,  # a document, 40 days ago
    "R48": 0,  # a click on the unsubscribe link
    "R49": 0,  # a click that ended in an unsubscription
    "R50": 100,  # 40 + 20 + 10 + 10 + 5 + 5 + 10
    "R51": 5,  # 40 - 20 - 15
    "R52": 0,  # a survey without a mark
    "R53": 30,  # a prospect who looks around: 20 + 10
    "R54": 0,  # a kind the grid does not speak of
}


@pytest.mark.parametrize(("example", "expected"), [("finance", FINANCE), ("retail", RETAIL)])
def test_an_example_scores_as_worked_out_by_hand(  # noqa: PLR0917  # fixtures
    sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, example: str, expected: dict[str, int]
) -> None:
    desk = Desk(sqlite_database, engine, lake, tmp_path, datetime(2026, 3, 4, tzinfo=UTC))
    data = shipped() / "examples" / example / "data"
    desk.take("contacts", data / "contacts.csv")
    assert desk.take("interactions", data / "interactions.csv").rejected == 0
    policy = load_policies(shipped(example))
    summary = flow.score(sqlite_database, engine, lake, policy, now=desk.now, by="zoe", as_of=AS_OF)
    ids = dict(desk.rows("ids", "contact", "contact_id"))
    assert {ids[contact]: score for contact, score in desk.rows("scores", "contact", "score")} == expected
    assert len(expected) >= 40
    assert summary.left_out == ()
    assert set(summary.unknown_kinds) == {"print_letter" if example == "finance" else "store_visit"}
    tiers = {row[0]: row[1] for row in desk.rows("history", "contact", "tier")}
    by_id = {ids[contact]: tier for contact, tier in tiers.items()}
    if example == "finance":
        assert {by_id[who] for who in ("F25", "F27")} == {"high"}
        assert {by_id[who] for who in ("F24", "F26")} == {"medium"}
        assert {by_id[who] for who in ("F02", "F23")} == {"low"}
