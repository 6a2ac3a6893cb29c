"""The HTML report in a real browser: whole without script or network, on a wide screen, on a telephone, on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Seen
from command_line import Shell
from playwright.sync_api import Browser, expect
from report_world import SLICES, Slice, World, opened_before

from sendwave.clock import SystemClock
from sendwave.workspace import Workspace

SMALL = tuple(Slice(one.tier, one.people // 20, one.score, one.share, 0.2, 0.1) for one in SLICES)


@pytest.fixture
def pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Path]:
    """The report of one campaign, by language."""
    shell = Shell(tmp_path / "home", capsys)
    shell.plain("init", shell.home)
    workspace = Workspace.open(shell.home)
    world = World(workspace.db, workspace.lake, SystemClock().now())
    world.campaign(slices=SMALL)
    opened_before(world, range(1, 2_000), 100)
    workspace.close()
    found = {lang: tmp_path / f"report.{lang}.html" for lang in ("en", "fr")}
    for lang, page in found.items():
        shell("report", "spring", "--by", "provider", "--html", page, "--lang", lang)
    return found


def test_it_reads_the_same_everywhere(pages: dict[str, Path], chromium: Browser) -> None:
    for lang, heading in (("en", "Where to stop"), ("fr", "Où s'arrêter")):
        for width in (390, 1280):
            seen = Seen(chromium, width=width, script=True)
            seen.page.goto(pages[lang].as_uri())
            expect(seen.page.get_by_role("heading", name=heading)).to_be_visible()
            expect(seen.page.locator("html")).to_have_attribute("lang", lang)
            assert seen.overflow() == [], f"{lang}, {width} pixels"
            assert seen.cut() == []
            assert seen.complaints == []
            assert seen.asked == [pages[lang].as_uri()], "one file, nothing fetched"
            seen.context.close()


def test_every_picture_says_what_it_shows(pages: dict[str, Path], chromium: Browser) -> None:
    seen = Seen(chromium)
    seen.page.goto(pages["en"].as_uri())
    pictures = seen.page.locator(".picture > svg").all()
    assert pictures
    for picture in pictures:
        expect(picture).to_have_attribute("role", "img")
        assert picture.get_attribute("aria-label") or picture.locator("title").count()
    seen.context.close()


def test_a_telephone_reads_it_without_a_magnifying_glass(pages: dict[str, Path], chromium: Browser) -> None:
    """No word below 12 pixels, in the dark as well, and nothing that has to be pushed sideways."""
    for scheme in ("light", "dark"):
        seen = Seen(chromium, width=390)
        seen.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        seen.page.goto(pages["fr"].as_uri())
        assert seen.page.evaluate(_TOO_SMALL) == []
        assert seen.page.evaluate("() => document.documentElement.scrollWidth <= 390")
        assert seen.page.evaluate(_TOO_PALE) == [], scheme
        seen.context.close()


_TOO_SMALL = """() => Array.from(document.querySelectorAll('body *')).filter(one =>
  Array.from(one.childNodes).some(node => node.nodeType === 3 && node.textContent.trim())
  && one.getClientRects().length && one.offsetWidth > 1 && parseFloat(getComputedStyle(one).fontSize) < 12
).map(one => one.textContent)"""

_TOO_PALE = """() => {
  const light = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255).map(
    part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  ).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0)
  const paper = light(getComputedStyle(document.body).backgroundColor)
  return Array.from(document.querySelectorAll('p, b, small, td, th, li, .name, .words, i, footer')).filter(one => {
    const ink = light(getComputedStyle(one).color)
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) < 4.5
  }).map(one => one.className + ': ' + one.textContent.slice(0, 40))
}"""
"""Contrast below 4.5 to 1: WCAG 2.2, success criterion 1.4.3."""


def test_on_paper_no_table_is_cut(pages: dict[str, Path], chromium: Browser) -> None:
    seen = Seen(chromium, width=700)  # A4 without its margins, in CSS pixels
    seen.page.emulate_media(media="print")
    seen.page.goto(pages["fr"].as_uri())
    assert seen.page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    seen.context.close()
