"""Logs travel further than the data they speak of: no address is in them, and machines can read every line."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from command_line import own_logs
from hypothesis import given
from hypothesis import strategies as st

from sendwave import log
from sendwave.errors import BadInput

ADDRESS = "zoé.o'neil+news@mairie-stlegat.example"
ADDRESSES = st.from_regex(r"\A[a-z0-9._%+-]{1,20}@[a-z0-9-]{1,15}(\.[a-z]{2,10})?\Z")
PLACES = st.sampled_from(["{}", "<{}>", "to {}: 550 5.1.1", "[{}]", "mailto:{}", "a={}, b", '"{}"', "({})", "x;{};y"])


def _fault() -> None:
    raise BadInput(f"nobody is at {ADDRESS}", (f"line 3: {ADDRESS}",))


def _speak() -> None:
    logger = log.get("test")
    logger.warning(f"refused {ADDRESS}", recipient=ADDRESS, findings=(ADDRESS, f"<{ADDRESS}>"), by={"to": [ADDRESS]})
    logger.error("wrong", fault=BadInput(ADDRESS), keyed={ADDRESS: 1})
    logging.getLogger("smtp").warning("bounce of %s", ADDRESS)
    try:
        _fault()
    except BadInput:
        logger.exception("crashed")
        logging.getLogger("smtp").exception("crashed over %s", ADDRESS)


@pytest.mark.parametrize("pretty", [True, False])
def test_no_address_is_ever_logged(capsys: pytest.CaptureFixture[str], *, pretty: bool) -> None:
    with own_logs():
        log.configure(level="debug", pretty=pretty)
        _speak()
    told = capsys.readouterr()
    assert told.out == ""
    assert "<address>" in told.err
    assert "neil" not in told.err
    assert "stlegat" not in told.err


def test_where_nobody_watches_each_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    with own_logs():
        log.configure(level="debug")
        _speak()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 5
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    assert lines[0]["where"] == "test"
    assert "BadInput" in lines[3]["exception"]


def test_debug_is_silent_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with own_logs():
        log.configure(level="info", pretty=False)
        log.get("test").debug("details")
        log.get("test").info("news")
        logging.getLogger("apscheduler").info("a job ran")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["news"]


@given(address=ADDRESSES, place=PLACES, wrap=st.sampled_from([str, lambda text: [text], lambda text: {"x": (text,)}]))
def test_whatever_is_shaped_like_an_address_is_masked(address: str, place: str, wrap: Any) -> None:
    told = log.hide_addresses(None, "info", {"event": "refused", "detail": wrap(place.format(address))})
    assert address not in str(told)
    assert "<address>" in str(told)


@pytest.mark.parametrize("value", ["", "wave 3", 4, 1.5, None, True, "12:30 @ noon"])
def test_the_rest_stays_as_it_is(value: object) -> None:
    assert log.hide_addresses(None, "info", {"detail": value}) == {"detail": value}
