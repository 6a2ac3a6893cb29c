"""One batch over SMTP, one transaction per person, and what is known of each when the line breaks.

Before the final dot left, nothing was handed over: the person may be written to later. After it, without a reply,
nobody knows: they are unknown, and never repeated blindly. Whoever comes later in the batch was not written to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sendwave.errors import BadInput, HandOverError, Permanent
from sendwave.esp.base import PerRecipient, Receipt, Submission
from sendwave.esp.content import FieldMissing
from sendwave.esp.conversation import Answer, Conversation, Lost, NotHanded
from sendwave.esp.mime import BadAddress, Letter, Letters
from sendwave.rules.bounces import classify, take_apart
from sendwave.rules.events import Cause, Event, EventType, Permanence

_FRUITLESS: Final = 2  # connections in a row that may break without one mail answered; then the rest of the batch waits
_NO_SUCH_PERSON: Final = (Permanence.HARD, Cause.UNKNOWN_USER)


class _Stop(Exception):
    """Nobody from here on is handed over."""


class Delivery:
    """Hands one batch over. `line` is the connection left over, to be kept, or None."""

    def __init__(
        self,
        submission: Submission,
        letters: Letters,
        line: Conversation,
        connect: Callable[[], Conversation],
        mails_per_connection: int | None,
    ) -> None:
        self.line: Conversation | None = line
        self._submission, self._letters = submission, letters
        self._connect, self._limit = connect, mails_per_connection
        self._refused: list[PerRecipient] = []
        self._deferred: list[PerRecipient] = []
        self._unknown: list[int] = []
        self._awaiting: int | None = None  # handed over, its reply not read yet
        self._fruitless = 0

    def run(self) -> Receipt:
        """Everybody once. Raises Permanent when the relay refuses our sender before anybody was handed over."""
        count = len(self._submission.recipients)
        index = 0
        try:
            for index in range(count):
                letter = self._letter(index)
                if letter is not None:
                    self._offer(index, letter)
            index = count
            self._settle()
        except _Stop as stop:
            settled = {*self._unknown, *(one.index for one in self._deferred)}
            for later in range(index, count):
                if later not in settled:
                    self._defer(later, f"never handed over: {stop}")
        return Receipt(
            refused=sorted(self._refused, key=lambda one: one.index),
            deferred=sorted(self._deferred, key=lambda one: one.index),
            unknown=tuple(self._unknown),
        )

    def _letter(self, index: int) -> Letter | None:
        people = self._submission.recipients
        fields = {name: values[index] for name, values in people.fields.items()}
        try:
            return self._letters.write(people.addresses[index], people.tokens[index], fields)
        except BadAddress as wrong:
            self._refuse(index, EventType.BOUNCE, str(wrong), _NO_SUCH_PERSON, "5.1.3")
        except (FieldMissing, BadInput) as wrong:
            self._refuse(index, EventType.FAIL, f"no message could be made: {wrong}", (Permanence.UNKNOWN, Cause.OTHER))
        return None

    def _offer(self, index: int, letter: Letter, *, again: bool = False) -> None:
        """One person's transaction. Raises _Stop when nobody further can be handed over."""
        line = self._ready()
        if letter.international and not line.international:
            text = "the relay takes no address that is not ASCII (it offers no SMTPUTF8)"
            self._refuse(index, EventType.BOUNCE, text, _NO_SUCH_PERSON, "5.6.7")
            return
        try:
            if line.pipelining:
                line.propose(letter)
                self._settle()
                if self.line is not line:  # lost with the mail before, which was not handed over either
                    self._offer(index, letter, again=again)
                    return
            answer = line.accepted_envelope(letter)
        except Lost as lost:
            # A server that hangs up after so many mails means nobody in particular: ask once more, nothing was handed.
            if self._hang_up() and not again:
                self._offer(index, letter, again=True)
                return
            self._defer(index, lost.reply)
            self._spare()
            return
        if answer.code != 354:
            self._judge(index, answer)
            return
        line.hand(letter.data)
        self._awaiting = index
        if not line.pipelining:
            self._settle()

    def _ready(self) -> Conversation:
        """The connection in use, or a new one when it is gone or has carried its share."""
        if self.line is not None and self._limit is not None:
            in_flight = self._awaiting is not None
            if self.line.sent + in_flight >= self._limit:
                self._settle()
                if self.line is not None:
                    self.line.close()
                self.line = None
        if self.line is None:
            try:
                self.line = self._connect()
            except HandOverError as refused:
                raise _Stop(str(refused)) from refused
        return self.line

    def _settle(self) -> None:
        """Read the reply to the mail before. Raises _Stop when it never comes."""
        if self._awaiting is None or self.line is None:
            return
        index, self._awaiting = self._awaiting, None
        try:
            answer = self.line.verdict()
        except NotHanded as lost:
            self._hang_up()
            self._defer(index, lost.reply)
            self._spare()
            return
        except Lost as lost:
            self._unknown.append(index)
            self._hang_up()
            raise _Stop(f"the relay gave no answer to the mail before ({lost})") from lost
        if not 200 <= answer.code < 300:
            self._judge(index, answer)

    def _hang_up(self) -> bool:
        """Drop a dead connection. True when it had carried mail."""
        line, self.line = self.line, None
        fruitful = line is not None and line.sent > 0
        self._fruitless = 0 if fruitful else self._fruitless + 1
        if line is not None:
            line.close(polite=False)
        return fruitful

    def _spare(self) -> None:
        """Leave a server in peace that only hangs up."""
        if self._fruitless > _FRUITLESS:
            raise _Stop("the relay closes every connection")

    def _judge(self, index: int, answer: Answer) -> None:
        """File a refusal: 5xx is final, anything else may go later (RFC 5321 §4.2.1)."""
        reply = f"{answer.code} {answer.text}"
        if not 500 <= answer.code < 600:
            self._defer(index, reply)
        elif answer.command == "MAIL":
            if index == 0:
                raise Permanent(f"the relay refuses our sender: {reply}")
            self._refuse(index, EventType.REJECT, reply, None)
        else:
            self._refuse(index, EventType.BOUNCE, reply, None)

    def _refuse(
        self,
        index: int,
        kind: EventType,
        text: str,
        meaning: tuple[Permanence, Cause] | None,
        enhanced: str | None = None,
    ) -> None:
        self._refused.append(PerRecipient(index, self._event(index, kind, text, meaning, enhanced)))

    def _defer(self, index: int, text: str) -> None:
        reply = take_apart(text)
        _, cause = classify(*reply)
        event = self._event(index, EventType.DEFERRED, text, (Permanence.SOFT, cause), reply.enhanced)
        self._deferred.append(PerRecipient(index, event))

    def _event(
        self, index: int, kind: EventType, text: str, meaning: tuple[Permanence, Cause] | None, enhanced: str | None
    ) -> Event:
        people, reply = self._submission.recipients, take_apart(text)
        permanence, cause = meaning or classify(*reply)
        return Event(
            type=kind,
            event_at=self._submission.now,
            permanence=permanence,
            cause=cause,
            token=people.tokens[index],
            recipient=people.addresses[index],
            message_id=f"<{people.tokens[index]}@{self._letters.domain}>",
            enhanced_code=enhanced or reply.enhanced,
            description=reply.text,
        )
