from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from mail_sent import address
from web_side import WebSide

from sendwave.rules.addresses import fingerprint
from sendwave.rules.token import sign
from sendwave.store import tallies
from sendwave.web.unsubscribe import WORDS, language_of, read_form

ONE_CLICK = b"List-Unsubscribe=One-Click"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def click(web: WebSide, token: str, body: bytes = ONE_CLICK, **headers: str) -> Any:
    return web.client.post(f"/u/{token}", content=body, headers=FORM | headers)


def test_one_click_stops_at_once_and_is_booked_to_its_campaign(web_anywhere: WebSide) -> None:
    web = web_anywhere
    answer = click(web, web.token(7))
    assert (answer.status_code, answer.history, answer.headers.get("set-cookie")) == (200, [], None)
    stopped = {(fingerprint(address(web.batch, 7)), "marketing", "unsubscribe")}
    assert web.suppressed() == stopped, "before anything is digested: the next batch already asks"
    web.digest()
    assert web.counts() == {"unsubscribe": 1}
    assert web.suppressed() == stopped
    with web.workspace.db.read() as conn:
        assert tallies.positions(conn, web.batch, "unsubscribe") == [7]


def test_pressed_again_it_counts_once(web: WebSide) -> None:
    for _ in range(3):
        assert click(web, web.token(7).upper()).status_code == 200
    web.digest()
    assert (web.counts(), len(web.suppressed())) == ({"unsubscribe": 1}, 1)


def test_looking_changes_nothing(web: WebSide) -> None:
    for method in ("GET", "HEAD"):
        assert web.client.request(method, f"/u/{web.token(7)}").status_code == 200
    assert (web.stored(), web.suppressed()) == ([], set())


def test_the_page_asks_with_a_button_for_each_choice_and_no_script(web: WebSide) -> None:
    page = web.client.get(f"/u/{web.token(7)}")
    assert page.text.count("<button") == 2
    assert "Maison Lune" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_the_style_is_the_one_the_policy_allows(web: WebSide) -> None:
    import base64
    import hashlib

    page = web.client.get(f"/u/{web.token(7)}")
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


def test_everything_is_a_choice_of_the_page(web: WebSide) -> None:
    assert "no more messages" in click(web, web.token(8), b"choice=all").text
    assert {(scope, reason) for _, scope, reason in web.suppressed()} == {("all", "unsubscribe")}
    web.digest()
    assert web.counts() == {"unsubscribe": 1}


def test_a_post_that_says_nothing_changes_nothing(web: WebSide) -> None:
    for body in (b"", b"choice=nonsense", b"List-Unsubscribe=Maybe", b"\xff\xfe"):
        answer = click(web, web.token(7), body)
        assert (answer.status_code, answer.text.count("<button")) == (400, 2)
    assert (web.stored(), web.suppressed()) == ([], set())


FOREIGN = {
    "of another key": lambda web: sign(b"x" * 32, web.batch, 7),
    "of no batch": lambda web: web.token(7, batch=999_999),
    "of nobody": lambda web: web.token(100),
    "too short": lambda web: web.token(7)[:-1],
    "no hexadecimal": lambda web: "z" * 40,
    "very long": lambda web: "a" * 4_000,
    "not ASCII": lambda web: "é" * 40,
}


@pytest.mark.parametrize("token", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_forged_or_ancient_link_gets_a_clear_page_and_nothing_is_written(
    web: WebSide, token: Any, method: str
) -> None:
    content = ONE_CLICK if method == "POST" else None
    answer = web.client.request(method, f"/u/{token(web)}", content=content, headers=FORM)
    assert (answer.status_code, WORDS["en"]["wrong"] in answer.text) == (404, True)
    assert (web.stored(), web.suppressed()) == ([], set())


def test_a_link_whose_people_are_no_longer_kept(web: WebSide) -> None:
    for file in (web.workspace.lake.root / "sends").iterdir():
        file.unlink()
    assert click(web, web.token(7)).status_code == 404
    assert (web.stored(), web.suppressed()) == ([], set())


def test_when_the_store_is_down_people_are_told(web: WebSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sendwave.store.inbox.put", lambda *_: 1 / 0)
    answer = click(web, web.token(7))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "300")
    assert (WORDS["en"]["later"] in answer.text, web.suppressed()) == (True, set())


def test_a_body_of_a_megabyte_is_not_read(web: WebSide) -> None:
    assert click(web, web.token(7), b"a" * 1_000_000).status_code == 413


def test_the_page_speaks_french_where_it_is_asked_to(web: WebSide) -> None:
    page = web.client.get(f"/u/{web.token(7)}", headers={"accept-language": "fr-FR,fr;q=0.9,en;q=0.8"})
    assert (page.headers["content-language"], "Se désabonner" in page.text) == ("fr", True)


LANGUAGES = {
    "": "en",
    "fr": "fr",
    "fr-CA,en;q=0.5": "fr",
    "en-GB,fr;q=0.9": "en",
    "de-DE,de;q=0.9,fr;q=0.3": "fr",
    "de": "en",
    "fr;q=0": "en",
    "fr;q=nonsense": "en",
    "*": "en",
}


@pytest.mark.parametrize(("accepted", "language"), LANGUAGES.items())
def test_language(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


def test_every_language_says_everything() -> None:
    assert len({frozenset(words) for words in WORDS.values()}) == 1


def test_a_form_in_parts_is_read_too() -> None:
    body = b'--xx\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--xx--\r\n'
    assert read_form("multipart/form-data; boundary=xx", body) == {"List-Unsubscribe": "One-Click"}
    assert read_form("multipart/form-data", body) == {}
    assert read_form("multipart/form-data; boundary=yy", body) == {}


def test_it_still_works_when_the_campaign_is_long_over(web: WebSide) -> None:
    web.clock.move_to(web.now + timedelta(days=400))
    assert click(web, web.token(7)).status_code == 200
    assert len(web.suppressed()) == 1
