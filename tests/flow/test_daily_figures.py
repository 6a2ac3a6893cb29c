from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import campaigns_made
import pytest
from mail_sent import handed, minutes, wave_status

from sendwave.errors import BadInput
from sendwave.flow import audit, daily_figures, judge
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

COMPLAINT = {"hold": "0.1%", "halt": "0.3%", "rule": "evidence", "confidence": "99%"}


def policy() -> PolicySet:
    lanes = {"gmail": {"label": "Gmail", "domains": ["gmail.com"], "feedback_loop": False}, "other": {"label": "Other"}}
    told = {**campaigns_made.POLICY, "gates": {"default": {"signals": {"complaint": COMPLAINT}}}}
    return PolicySet.model_validate({**told, "lanes": {"providers": lanes}})


@pytest.fixture
def campaign(sqlite_database: Database, now: datetime) -> Campaign:
    """40,000 messages to Gmail two days ago; Gmail reports no complaint per message."""
    with sqlite_database.write() as conn:
        version = policies.remember(conn, policy(), now)
        made = campaigns_made.sending(conn, now - timedelta(days=3), policy_version=version, lanes=("gmail", "other"))
        for n in range(4):
            handed(conn, made, now - timedelta(days=2) + minutes(n), people=10_000)
        wave_status(conn, made, 1, "sending")
        return made


def take(db: Database, tmp_path: Path, now: datetime, text: str, **options: object) -> dict[str, object]:
    path = tmp_path / "told.csv"
    path.write_text(text, encoding="utf-8")
    given = {"mapping": {}, "constants": {}, "strict": False, **options}
    return daily_figures.import_files(
        db, [path], lanes=policy().lanes, rejects_dir=tmp_path / "rejects", now=now, by="ann", **given
    ).document()  # type: ignore[arg-type]


def status(db: Database, campaign: Campaign) -> str:
    with db.read() as conn:
        return campaigns.by_id(conn, campaign.id).status


def test_complaints_told_days_later_stop_the_campaign(
    sqlite_database: Database, campaign: Campaign, tmp_path: Path, now: datetime
) -> None:
    db, day = sqlite_database, (now - timedelta(days=2)).date().isoformat()
    judge.judge(db, now=now)
    assert status(db, campaign) == "sending"
    assert take(db, tmp_path, now, f"date;fai;plaintes\n{day};Gmail;12\n")["counts"] == {"new": 1}
    judge.judge(db, now=now + minutes(1))
    assert status(db, campaign) == "sending"
    assert take(db, tmp_path, now, f"date;fai;plaintes\n{day};Gmail;400\n")["counts"] == {"changed": 1}
    assert take(db, tmp_path, now, f"date;fai;plaintes\n{day};Gmail;400\n")["counts"] == {"known already": 1}
    judge.judge(db, now=now + minutes(2))
    assert status(db, campaign) == "halted"
    [shown] = audit.show(db, "spring", now=now)["told_per_day"]
    assert (shown["day"], shown["provider"], shown["events"], shown["rate"]) == (day, "gmail", 400, 0.01)


def test_a_count_is_shared_with_the_other_mail_of_that_day(
    sqlite_database: Database, campaign: Campaign, tmp_path: Path, now: datetime
) -> None:
    db, day = sqlite_database, (now - timedelta(days=2)).date().isoformat()
    with db.write() as conn:
        other = campaigns_made.sending(
            conn, now - timedelta(days=3), name="autumn", policy_version=campaign.policy_version, sender="a@b.example"
        )
        handed(conn, other, now - timedelta(days=2), people=60_000)
    take(db, tmp_path, now, f"date,provider,count\n{day},gmail,100\n")
    assert [one["rate"] for one in audit.show(db, "spring", now=now)["told_per_day"]] == [0.001]
    take(db, tmp_path, now, f"date,provider,count,domain\n{day},gmail,100,b.example\n")
    assert [one["rate"] for one in audit.show(db, "spring", now=now)["told_per_day"]] == [0.001]
    assert [one["rate"] for one in audit.show(db, "autumn", now=now)["told_per_day"]] == [100 / 60_000]


def test_bad_rows_are_told_with_their_line_and_the_rest_lands(
    sqlite_database: Database, tmp_path: Path, now: datetime
) -> None:
    text = "date;fai;plaintes\n2026-03-01;Gmail;3\n2026-03-01;Gmial;3\n2031-01-01;Gmail;3\n"
    done = take(sqlite_database, tmp_path, now, text)
    assert (done["landed"], done["rejected"]) == (1, 2)
    rejects = Path(str(done["rejects_file"])).read_text(encoding="utf-8")
    assert ",3," in rejects
    assert ",4," in rejects
    with pytest.raises(BadInput) as wrong:
        take(sqlite_database, tmp_path, now, text, strict=True)
    assert any(":3: lanes.yaml has no mailbox provider 'Gmial'" in finding for finding in wrong.value.findings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("date;fai\n2026-03-01;Gmail\n", "the header does not fit"),
        ('{"date": "2026-03-01"\n', "not JSON"),
        ("[1]\n", "one JSON object a line"),
    ],
)
def test_a_file_nobody_can_read_changes_nothing(
    sqlite_database: Database, tmp_path: Path, now: datetime, text: str, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        take(sqlite_database, tmp_path, now, text)


def test_json_lines_with_mapped_columns(sqlite_database: Database, tmp_path: Path, now: datetime) -> None:
    text = '{"name": "20260301", "userReportedSpamRatio": 0.002}\n'
    given = {"mapping": {"name": "day"}, "constants": {"provider": "gmail", "unit": "fraction"}}
    assert take(sqlite_database, tmp_path, now, text, **given)["counts"] == {"new": 1}
