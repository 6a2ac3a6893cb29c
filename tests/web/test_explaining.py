from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from sendwave.web.explaining import fragment


def document(**changes: Any) -> dict[str, Any]:
    told = {"contact": "C-1", "campaign": "spring", "decision": "not_in_audience", "wave": None, "rank": None}
    told |= {
        "tier": "hot",
        "score": 60.0,
        "provider": "gmail",
        "policy_version": "a1",
        "as_of": "2026-03-02T09:00:00+00:00",
    }
    chain = [
        {"rule": "no_address", "passed": True, "detail": "email address: valid"},
        {"rule": "not_in_audience", "passed": False, "detail": "✗ city contains <b> (is <script>)"},
        {"rule": "plan", "passed": None, "detail": "read again"},
    ]
    return {**told, "chain": chain, "would_change": ["the audience: city contains <b>"], **changes}


def test_every_rule_is_a_row_and_nothing_of_the_base_is_markup() -> None:
    page = ET.fromstring(fragment(document()))
    rows = page.findall("table/tbody/tr")
    assert [row.get("class") for row in rows] == ["passed", "failed", "told"]
    assert rows[1].findtext("td[2]") == "✗ city contains <b> (is <script>)"
    assert page.findtext("ul/li") == "the audience: city contains <b>"
    assert page.findtext("h2") == "C-1 in spring: not_in_audience"


def test_somebody_in_the_plan_needs_nothing() -> None:
    page = ET.fromstring(fragment(document(decision="planned", wave=2, rank=7, would_change=[])))
    assert page.find("ul") is None
    assert [told.text for told in page.findall("dl/dd")][:2] == ["2", "7"]
