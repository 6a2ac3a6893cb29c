"""One-click unsubscribe (RFC 8058): POST to the person's own link, no login, no redirect, no cookie.

Mail scanners follow links, so GET changes nothing: it shows a page with a button. A mail program POSTs
`List-Unsubscribe=One-Click`; the page's buttons POST a choice, this kind of mail or all of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sendwave import log
from sendwave.clock import Clock
from sendwave.errors import NotFound
from sendwave.flow import feedback
from sendwave.store.suppressions import ALL
from sendwave.web.reading import TooLong, body_of
from sendwave.workspace import Workspace

_LOG: Final = log.get("web")
_FOLDER: Final = Path(__file__).parent / "templates"
_MOST: Final = 16 << 10  # bytes of a form with one field
_STYLE: Final = (_FOLDER / "unsubscribe.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is a key to this person's subscription
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "Unsubscribe",
        "ask": "Do you no longer want to hear from {sender}?",
        "these": "No more messages like this one",
        "these_note": "Other messages you agreed to still reach you.",
        "all": "No more messages at all",
        "all_note": "None of any kind, from today on.",
        "done": "You are unsubscribed",
        "done_these": "{sender} will send you no more messages of this kind.",
        "done_all": "{sender} will send you no more messages.",
        "done_note": "A message that was on its way already may still arrive. You may close this page.",
        "wrong": "This link does not work",
        "wrong_note": "It is incomplete, or too old. Open the link in the latest message you got, or answer that "
        "message and ask to be taken off the list.",
        "later": "We could not note it just now",
        "later_note": "The fault is ours. Please try again in a few minutes.",
        "press": "Press one of the buttons",
        "press_note": "Nothing was changed: the request did not say what you want.",
    },
    "fr": {
        "title": "Se désabonner",
        "ask": "Vous ne souhaitez plus recevoir de messages de {sender} ?",
        "these": "Ne plus recevoir de messages de ce type",
        "these_note": "Les autres messages que vous avez acceptés continueront d’arriver.",
        "all": "Ne plus recevoir aucun message",
        "all_note": "Aucun, de quelque sorte que ce soit, dès aujourd’hui.",
        "done": "Vous êtes désabonné(e)",
        "done_these": "{sender} ne vous enverra plus de messages de ce type.",
        "done_all": "{sender} ne vous enverra plus de messages.",
        "done_note": "Un message déjà parti peut encore arriver. Vous pouvez fermer cette page.",
        "wrong": "Ce lien ne fonctionne pas",
        "wrong_note": "Il est incomplet ou trop ancien. Ouvrez le lien du dernier message reçu, ou répondez à ce "
        "message en demandant à ne plus figurer dans la liste.",
        "later": "Nous n’avons pas pu en prendre note",
        "later_note": "Le problème vient de nous. Merci de réessayer dans quelques minutes.",
        "press": "Appuyez sur l’un des boutons",
        "press_note": "Rien n’a été modifié : la demande ne dit pas ce que vous souhaitez.",
    },
}
"""What the page says, by language; English where none of them is asked for."""


class Unsubscribing:
    """The two requests at /u/TOKEN."""

    def __init__(self, workspace: Workspace, clock: Clock) -> None:
        self._workspace, self._clock = workspace, clock
        self._page = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined
        ).get_template("unsubscribe.html")

    async def show(self, request: Request) -> Response:
        """GET: a page with buttons; nothing changes."""
        return await run_in_threadpool(self._guarded, request, None)

    async def take(self, request: Request) -> Response:
        """POST: from a mail program or from the page."""
        try:
            body = await body_of(request, _MOST)
        except TooLong:
            return self._say(request, "press", 413)
        return await run_in_threadpool(self._guarded, request, read_form(request.headers.get("content-type", ""), body))

    def _guarded(self, request: Request, form: Mapping[str, str] | None) -> Response:
        try:
            return self._answer(request, form)
        except NotFound:
            return self._say(request, "wrong", 404)
        except Exception as fault:  # noqa: BLE001  # people must be told, and nothing may pretend that it was noted
            _LOG.error("unsubscribe_failed", reason=f"{type(fault).__name__}: {fault}")
            return self._say(request, "later", 503)

    def _answer(self, request: Request, form: Mapping[str, str] | None) -> Response:
        house = self._workspace
        person = feedback.whose(house.db, house.token_key, request.path_params["token"])
        choice = chosen(form) if form is not None else None
        choices = ("all",) if person.purpose == ALL else ("these", "all")
        if choice is None:
            told = ("ask", 200) if form is None else ("press", 400)
            return self._say(request, *told, sender=person.sender, choices=choices)
        now = self._clock.now()
        stop = feedback.unsubscribe(house.db, house.engine, house.lake, person, everything=choice == "all", now=now)
        return self._say(request, "done", 200, sender=person.sender, scope="all" if stop.scope == ALL else "these")

    def _say(
        self,
        request: Request,
        what: str,
        status: int,
        *,
        sender: str = "",
        choices: tuple[str, ...] = (),
        scope: str = "",
    ) -> Response:
        language = language_of(request.headers.get("accept-language", ""))
        words = {key: text.replace("{sender}", sender) for key, text in WORDS[language].items()}
        page = self._page.render(language=language, words=words, what=what, choices=choices, scope=scope, style=_STYLE)
        headers = {**_HEADERS, "Content-Language": language, "Vary": "Accept-Language"}
        return HTMLResponse(page, status, headers | ({"Retry-After": "300"} if status == 503 else {}))


def chosen(form: Mapping[str, str]) -> str | None:
    """`these` or `all`; None when the form says neither. One click means this kind of mail (RFC 8058 §3.1)."""
    choice = form.get("choice", "")
    if choice in {"these", "all"}:
        return choice
    return "these" if form.get("List-Unsubscribe", "").strip().lower() == "one-click" else None


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form, urlencoded or multipart (RFC 8058 §3.1 allows both); {} for anything else."""
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
        parts = message_from_bytes(head + body).walk()
        named = [(part.get_param("name", header="content-disposition"), part.get_payload()) for part in parts]
        return {str(name): str(value).strip() for name, value in named if name and isinstance(value, str)}
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}


def language_of(accepted: str) -> str:
    """The language of `WORDS` a browser prefers (RFC 9110 §12.5.4), `en` when it asks for none of them."""
    best, found = 0.0, "en"
    for asked in accepted.split(","):
        tag, _, weight = asked.strip().partition(";")
        language = tag.strip().partition("-")[0].lower()
        try:
            q = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if language in WORDS and q > best:
            best, found = q, language
    return found
