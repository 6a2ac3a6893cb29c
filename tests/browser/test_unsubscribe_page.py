"""The unsubscribe page in a real browser: read, decide, press; on a telephone, in French, with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from browsing import Seen
from mail_sent import address
from playwright.sync_api import Browser, expect
from web_side import Place, WebSide, serving

from sendwave.rules.addresses import fingerprint
from sendwave.store.database import Database


@pytest.fixture
def web(tmp_path: Path, sqlite_database: Database, now: datetime) -> Iterator[WebSide]:
    with serving(Place(tmp_path, str(sqlite_database.url), now)) as found:
        yield found


@pytest.fixture
def visit(web: WebSide, chromium: Browser) -> Iterator[Callable[..., Seen]]:
    """Open somebody's link, as that person's browser would."""
    opened: list[Seen] = []

    def _visit(token: str, **browser: int | str | bool) -> Seen:
        seen = Seen(chromium, **browser)  # type: ignore[arg-type]
        opened.append(seen)
        seen.page.goto(str(web.client.base_url.join(f"/u/{token}")))
        return seen

    yield _visit
    for seen in opened:
        seen.context.close()


def test_a_person_reads_decides_and_is_taken_off(web: WebSide, visit: Callable[..., Seen]) -> None:
    seen = visit(web.token(7), locale="fr-FR")
    expect(seen.page).to_have_title("Se désabonner")
    expect(seen.page.locator("html")).to_have_attribute("lang", "fr")
    assert web.suppressed() == set(), "looking changes nothing"
    seen.page.get_by_role("button", name="Ne plus recevoir de messages de ce type").click()
    expect(seen.page.get_by_role("heading", name="Vous êtes désabonné(e)")).to_be_visible()
    assert web.suppressed() == {(fingerprint(address(web.batch, 7)), "marketing", "unsubscribe")}
    expect(seen.page.get_by_role("button")).to_have_count(0)


def test_everything_is_a_button_too(web: WebSide, visit: Callable[..., Seen]) -> None:
    seen = visit(web.token(8))
    seen.page.get_by_role("button", name="No more messages at all").click()
    expect(seen.page.get_by_role("heading", name="You are unsubscribed")).to_be_visible()
    assert {scope for _, scope, _ in web.suppressed()} == {"all"}


def test_the_keyboard_is_enough(web: WebSide, visit: Callable[..., Seen]) -> None:
    seen = visit(web.token(9))
    seen.page.keyboard.press("Tab")
    expect(seen.page.get_by_role("button").first).to_be_focused()
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_role("heading", name="You are unsubscribed")).to_be_visible()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("locale", ["en-GB", "fr-FR"])
def test_it_fits_the_window_and_keeps_to_its_own_policy(
    web: WebSide, visit: Callable[..., Seen], width: int, locale: str
) -> None:
    seen = visit(web.token(7), width=width, locale=locale, script=True)
    assert seen.overflow() == []
    assert seen.complaints == [], "nothing the content security policy had to refuse"
    assert seen.asked == [seen.page.url], "nothing is fetched from anywhere"
    for button in seen.page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, "a thumb hits it (WCAG 2.5.5)"


def test_a_broken_link_says_what_to_do(web: WebSide, visit: Callable[..., Seen]) -> None:
    seen = visit(web.token(7)[:-4])
    expect(seen.page.get_by_role("heading", name="This link does not work")).to_be_visible()
    expect(seen.page.get_by_role("button")).to_have_count(0)
