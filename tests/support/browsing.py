"""Pages in the system's Chromium, and what the browser thinks of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that asks nobody for anything by itself."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        yield running
        running.close()


class Seen:
    """A page in its own context, and what the browser complained of or asked others for."""

    def __init__(self, chromium: Browser, *, width: int = 1280, locale: str = "en-GB", script: bool = False) -> None:
        size = {"width": width, "height": 900}
        self.context = chromium.new_context(viewport=size, locale=locale, java_script_enabled=script)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def overflow(self) -> list[str]:
        """Texts of elements that stick out of the window to the right, unless their section scrolls."""
        found: list[str] = self.page.evaluate(_STICKS_OUT)
        return found

    def cut(self) -> list[str]:
        """Words in pictures that leave the picture they stand in."""
        found: list[str] = self.page.evaluate(_LEAVES_PICTURE)
        return found


_LEAVES_PICTURE = """() => Array.from(document.querySelectorAll('svg text')).filter(word => {
  const box = word.getBoundingClientRect(), picture = word.ownerSVGElement.getBoundingClientRect()
  return box.left < picture.left - 1 || box.right > picture.right + 1
}).map(word => word.textContent)"""

_STICKS_OUT = """() => {
  const wide = document.documentElement.clientWidth, found = []
  for (const one of document.body.querySelectorAll('*')) {
    let scrolls = false
    for (let up = one.parentElement; up; up = up.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX) && up !== document.body) scrolls = true
    const box = one.getBoundingClientRect()
    if (!scrolls && box.width && box.right > wide + 1) found.push(one.tagName + ': ' + one.textContent.slice(0, 60))
  }
  return found
}"""
